"""Where the program that asks mom before a guest starts is installed, in which state it is, and how it comes there and goes."""

from __future__ import annotations

import math
import os
import shlex
import stat
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import Final

from mom_core import Finding, MomError, Severity, UnitError, Value, parse_duration, read_file, replace_file

_FIRST: Final = "#!/bin/sh\n"
"""The program's first line, which the file that it is made of lacks: a package is to have no program that may not be executed."""

_MARK: Final = "# mom-launch: "
"""How the program's second line begins: a file without it is not mom's."""

_LARGEST: Final = 1 << 20
"""Bytes. The program has some 5,000."""

_USUAL_WAIT: Final = 10.0
"""Seconds, where no enabled plugin says how long a start may wait."""

_BEYOND_SECONDS: Final = 5
"""For so long beyond that the program waits for an answer: mom gives it before."""

_DEFINITIONS: Final = "etc/pve/qemu-server"
_PYTHONS: Final = ("usr/bin/python3", "usr/libexec/platform-python")


class Platform(StrEnum):
    """Who runs the program."""

    LIBVIRT = "libvirt"
    PROXMOX = "proxmox"

    @property
    def sign(self) -> str:
        """The folder that a host of it has."""
        return "etc/libvirt" if self is Platform.LIBVIRT else _DEFINITIONS

    def is_here(self, root: Path) -> bool:
        """True if this host has it."""
        return (root / self.sign).is_dir()


class HookState(StrEnum):
    """How an installed program is."""

    ABSENT = "absent"  #: there is none
    CURRENT = "current"  #: it is as this mom would install it
    OTHER = "other"  #: another version of mom installed it, or for other settings
    IDLE = "idle"  #: it may not be executed
    FOREIGN = "foreign"  #: it is not mom's


@dataclass(frozen=True, slots=True)
class Hook:
    """The program as it is to be for one platform of a host.

    :param root: of the host's files
    :param socket: the control socket that it asks
    :param wait: seconds that mom lets a start wait at most
    """

    platform: Platform
    root: Path
    socket: Path
    wait: float

    @property
    def path(self) -> Path:
        """Where it is. Libvirt 6.5 and later run all that is in this folder."""
        return self.root / ("etc/libvirt/hooks/qemu.d/mom" if self.platform is Platform.LIBVIRT else "var/lib/vz/snippets/mom-launch")

    def text(self) -> str:
        """What it is to be."""
        values = {
            "SOCKET": str(self.socket),
            "PYTHON": str(_python()),
            "LIMIT": str(math.ceil(self.wait) + _BEYOND_SECONDS),
            "DEFINITIONS": str(self.root / _DEFINITIONS),
        }
        text = files("mom_plugins_http").joinpath("launch_hook/mom-launch").read_text(encoding="utf-8")
        for name, value in values.items():
            text = text.replace(f"@{name}@", shlex.quote(value))
        return f"{_FIRST}{text}"

    def state(self) -> HookState:
        """How it is now. Raises `MomError` where it cannot be read."""
        try:
            status = self.path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return HookState.ABSENT
        except OSError as error:
            raise MomError(f"{self.path} cannot be looked at: {error.strerror}", hint="look as root") from None
        if not stat.S_ISREG(status.st_mode):
            return HookState.FOREIGN
        try:
            found = read_file(self.path, _LARGEST)
        except OSError as error:
            raise MomError(f"{self.path} cannot be read: {error.strerror}", hint="look as root") from None
        if not found.startswith(f"{_FIRST}{_MARK}".encode()):
            return HookState.FOREIGN
        if found != self.text().encode():
            return HookState.OTHER
        return HookState.CURRENT if status.st_mode & stat.S_IXUSR else HookState.IDLE

    def install(self) -> bool:
        """Put it there, or write it anew; true if libvirt must be told. Raises `MomError` for a host without the platform, and for a file
        that is not mom's."""
        if not self.platform.is_here(self.root):
            raise MomError(f"this is no host of {self.platform}: there is no /{self.platform.sign}")
        if self.state() is HookState.FOREIGN:
            raise MomError(f"{self.path} is not mom's, and stays as it is", hint="move it away, if nothing needs it")
        path, unknown = self.path, self.platform is Platform.LIBVIRT and not self._libvirt_has_hooks()
        try:
            for folder in (path.parent.parent, path.parent):
                if not folder.is_dir():
                    folder.mkdir(mode=0o755, parents=True)
            if self.platform is Platform.LIBVIRT:  # made outside of the folder, of which libvirt runs all that may be executed
                made = path.parent.parent / ".mom-launch.new"
                replace_file(made, self.text(), durable=True, mode=0o755)
                made.replace(path)
            else:
                replace_file(path, self.text(), durable=True, mode=0o755)
        except OSError as error:
            raise MomError(f"{path} cannot be written: {error.strerror}", hint="install it as root") from None
        return unknown

    def remove(self) -> bool:
        """Take it away; false if it was not there. Raises `MomError` for a file that is not mom's, and while guests need it."""
        state = self.state()
        if state is HookState.ABSENT:
            return False
        if state is HookState.FOREIGN:
            raise MomError(f"{self.path} is not mom's, and stays as it is")
        if users := self.users():
            lines = "; ".join(f"qm set {number} --delete hookscript" for number in users[:5])
            more = f", and {len(users) - 5} more" if len(users) > 5 else ""
            raise MomError(f"{self.path} stays: without it, Proxmox VE does not start the guests that name it", hint=f"{lines}{more}")
        try:
            self.path.unlink()
        except OSError as error:
            raise MomError(f"{self.path} cannot be removed: {error.strerror}", hint="remove it as root") from None
        return True

    def users(self) -> list[str]:
        """The numbers of Proxmox VE's guests whose definitions name it."""
        if self.platform is not Platform.PROXMOX:
            return []
        named = f"snippets/{self.path.name}"
        found = []
        for path in sorted((self.root / _DEFINITIONS).glob("*.conf")):
            try:
                lines = read_file(path, _LARGEST).decode(errors="replace").splitlines()
            except OSError:
                continue
            if any(line.startswith("hookscript:") and named in line for line in lines):
                found.append(path.stem)
        return found

    def _libvirt_has_hooks(self) -> bool:
        """True if libvirt runs guests' hooks already: when it is started or reloaded, it looks whether there are any."""
        folder = self.path.parent
        try:
            return any(os.access(path, os.X_OK) for path in (folder.parent / "qemu", *folder.iterdir()))
        except OSError:
            return os.access(folder.parent / "qemu", os.X_OK)


def longest_wait(in_force: Mapping[str, Value]) -> float:
    """Seconds that a start may wait, by the settings in force of whichever plugin makes room for launches."""
    plugins = in_force.get("plugins")
    for settings in plugins.values() if isinstance(plugins, Mapping) else ():
        found: object = settings
        for name in ("reservations", "launches", "wait"):
            found = found.get(name) if isinstance(found, Mapping) else None
        if isinstance(found, str):
            try:
                return parse_duration(found)
            except UnitError:
                continue
    return _USUAL_WAIT


def reload_line(root: Path) -> str:
    """The command by which the libvirt of this host looks for hooks again."""
    modular = (root / "run/libvirt/virtqemud-sock").exists() and not (root / "run/libvirt/libvirt-sock").exists()
    return f"systemctl reload {'virtqemud' if modular else 'libvirtd'}"


def findings(hooks: Iterable[Hook]) -> Iterable[Finding]:
    """For `mom doctor`: of each platform that this host has, whether it asks mom before a guest starts."""
    for hook in hooks:
        if not hook.platform.is_here(hook.root):
            continue
        subject, again = "room for launches", f"`mom hook install {hook.platform}`"
        try:
            state = hook.state()
        except MomError as error:
            yield Finding(Severity.WARNING, subject, error.message, error.hint)
            continue
        if state is HookState.ABSENT:
            yield Finding(
                Severity.OK, subject, f"{hook.platform} does not ask mom for memory before a guest starts", f"to have room made: {again}"
            )
        elif state is HookState.FOREIGN:
            yield Finding(Severity.OK, subject, f"{hook.path} is not mom's: {hook.platform} does not ask mom before a guest starts")
        elif state is HookState.CURRENT:
            yield Finding(Severity.OK, subject, _in_use(hook))
        elif state is HookState.IDLE:
            yield Finding(Severity.WARNING, subject, f"{hook.path} may not be executed: {hook.platform} does not ask mom", again)
        else:
            text = f"{hook.path} was installed by another version of mom, or for another socket or wait"
            yield Finding(Severity.WARNING, subject, text, again)


def _in_use(hook: Hook) -> str:
    if hook.platform is Platform.LIBVIRT:
        return "libvirt asks mom before each guest starts"
    users = hook.users()
    return f"Proxmox VE asks mom before {len(users)} of its guests start (hookscript)"


def _python() -> Path:
    """An interpreter that stays when mom goes: the system's, where there is one."""
    system = next((path for name in _PYTHONS if (path := Path("/") / name).exists()), None)
    return system or Path(getattr(sys, "_base_executable", sys.executable)).resolve()
