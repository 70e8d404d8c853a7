"""Installation of the launch hook, which asks mom before a guest starts."""

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
"""The packaged file lacks this line, because packages must not contain programs without the executable bit."""

_MARK: Final = "# mom-launch: "
"""A file whose second line starts differently is not mom's."""

_LARGEST: Final = 1 << 20

_USUAL_WAIT: Final = 10.0
"""Longest wait of a launch in seconds, if no enabled plugin sets the wait."""

_BEYOND_SECONDS: Final = 5

_DEFINITIONS: Final = "etc/pve/qemu-server"
_PYTHONS: Final = ("usr/bin/python3", "usr/libexec/platform-python")


class Platform(StrEnum):
    """Hypervisor platform that runs the program."""

    LIBVIRT = "libvirt"
    PROXMOX = "proxmox"

    @property
    def sign(self) -> str:
        """Return the folder that identifies this platform."""
        return "etc/libvirt" if self is Platform.LIBVIRT else _DEFINITIONS

    def is_here(self, root: Path) -> bool:
        """Return whether this host has the platform."""
        return (root / self.sign).is_dir()


class HookState(StrEnum):
    """State of an installed program."""

    ABSENT = "absent"  #: not installed
    CURRENT = "current"  #: as this mom would install it
    OTHER = "other"  #: from another version of mom, or for other settings
    IDLE = "idle"  #: not executable
    FOREIGN = "foreign"  #: not mom's


@dataclass(frozen=True, slots=True)
class Hook:
    """Program of one platform. A guest's start waits at most `wait` seconds."""

    platform: Platform
    root: Path
    socket: Path
    wait: float

    @property
    def path(self) -> Path:
        """Return the path. libvirt 6.5 and later run all programs in this folder."""
        return self.root / ("etc/libvirt/hooks/qemu.d/mom" if self.platform is Platform.LIBVIRT else "var/lib/vz/snippets/mom-launch")

    def text(self) -> str:
        """Return the program's text."""
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
        """Return the installed program's state."""
        try:
            status = self.path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return HookState.ABSENT
        except OSError as error:
            raise MomError(f"cannot examine {self.path}: {error.strerror}", hint="run this as root") from None
        if not stat.S_ISREG(status.st_mode):
            return HookState.FOREIGN
        try:
            content = read_file(self.path, _LARGEST)
        except OSError as error:
            raise MomError(f"{self.path} cannot be read: {error.strerror}", hint="run this as root") from None
        if not content.startswith(f"{_FIRST}{_MARK}".encode()):
            return HookState.FOREIGN
        if content != self.text().encode():
            return HookState.OTHER
        return HookState.CURRENT if status.st_mode & stat.S_IXUSR else HookState.IDLE

    def install(self) -> bool:
        """Install or update the program. Return whether libvirt needs a reload.

        :raises MomError: the host lacks the platform, or the file is not mom's
        """
        if not self.platform.is_here(self.root):
            raise MomError(f"this host has no {self.platform}: there is no /{self.platform.sign}")
        if self.state() is HookState.FOREIGN:
            raise MomError(f"{self.path} is not mom's, and was not changed", hint="move it away, if nothing needs it")
        path, needs_reload = self.path, self.platform is Platform.LIBVIRT and not self._libvirt_has_hooks()
        try:
            for folder in (path.parent.parent, path.parent):
                if not folder.is_dir():
                    folder.mkdir(mode=0o755, parents=True)
            if self.platform is Platform.LIBVIRT:  # libvirt runs every file in the folder: write the draft elsewhere
                draft = path.parent.parent / ".mom-launch.new"
                replace_file(draft, self.text(), durable=True, mode=0o755)
                draft.replace(path)
            else:
                replace_file(path, self.text(), durable=True, mode=0o755)
        except OSError as error:
            raise MomError(f"{path} cannot be written: {error.strerror}", hint="run this as root") from None
        return needs_reload

    def remove(self) -> bool:
        """Remove the program. Return False if it was absent.

        :raises MomError: the file is not mom's, or guests need it
        """
        state = self.state()
        if state is HookState.ABSENT:
            return False
        if state is HookState.FOREIGN:
            raise MomError(f"{self.path} is not mom's, and was not changed")
        if users := self.users():
            lines = "; ".join(f"qm set {number} --delete hookscript" for number in users[:5])
            more = f", and {len(users) - 5} more" if len(users) > 5 else ""
            fault = f"{self.path} was not removed: without it, Proxmox VE does not start the guests that name it"
            raise MomError(fault, hint=f"{lines}{more}")
        try:
            self.path.unlink()
        except OSError as error:
            raise MomError(f"{self.path} cannot be removed: {error.strerror}", hint="run this as root") from None
        return True

    def users(self) -> list[str]:
        """Return the numbers of Proxmox VE guests that name the program."""
        if self.platform is not Platform.PROXMOX:
            return []
        entry = f"snippets/{self.path.name}"
        numbers = []
        for path in sorted((self.root / _DEFINITIONS).glob("*.conf")):
            try:
                lines = read_file(path, _LARGEST).decode(errors="replace").splitlines()
            except OSError:
                continue
            if any(line.startswith("hookscript:") and entry in line for line in lines):
                numbers.append(path.stem)
        return numbers

    def _libvirt_has_hooks(self) -> bool:
        # libvirt looks for hooks only at its start and reload.
        folder = self.path.parent
        try:
            return any(os.access(path, os.X_OK) for path in (folder.parent / "qemu", *folder.iterdir()))
        except OSError:
            return os.access(folder.parent / "qemu", os.X_OK)


def longest_wait(in_force: Mapping[str, Value]) -> float:
    """Return the longest wait before a guest starts, in seconds."""
    plugins = in_force.get("plugins")
    for settings in plugins.values() if isinstance(plugins, Mapping) else ():
        value: object = settings
        for name in ("reservations", "launches", "wait"):
            value = value.get(name) if isinstance(value, Mapping) else None
        if isinstance(value, str):
            try:
                return parse_duration(value)
            except UnitError:
                continue
    return _USUAL_WAIT


def reload_line(root: Path) -> str:
    """Return the command that reloads libvirt's hooks."""
    modular = (root / "run/libvirt/virtqemud-sock").exists() and not (root / "run/libvirt/libvirt-sock").exists()
    return f"systemctl reload {'virtqemud' if modular else 'libvirtd'}"


def findings(hooks: Iterable[Hook]) -> Iterable[Finding]:
    """Yield whether each platform asks mom before a guest starts."""
    for hook in hooks:
        if not hook.platform.is_here(hook.root):
            continue
        subject, again = "room for launches", f"`mom hook install {hook.platform}`"
        try:
            state = hook.state()
        except MomError as error:
            yield Finding(Severity.WARNING, subject, error.message, error.hint)
            continue
        severity, text, cure = {
            HookState.ABSENT: (
                Severity.OK,
                f"{hook.platform} does not ask mom for memory before a guest starts",
                f"to let mom make room: {again}",
            ),
            HookState.CURRENT: (Severity.OK, _in_use(hook) if state is HookState.CURRENT else "", ""),  # reads all guests' configurations
            HookState.FOREIGN: (Severity.OK, f"{hook.path} is not mom's: {hook.platform} does not ask mom before a guest starts", ""),
            HookState.IDLE: (Severity.WARNING, f"{hook.path} is not executable: {hook.platform} does not ask mom", again),
            HookState.OTHER: (
                Severity.WARNING,
                f"{hook.path} was installed by another version of mom, or for another socket or wait time",
                again,
            ),
        }[state]
        yield Finding(severity, subject, text, cure)


def _in_use(hook: Hook) -> str:
    if hook.platform is Platform.LIBVIRT:
        return "libvirt asks mom before each guest starts"
    users = hook.users()
    return f"Proxmox VE asks mom before {len(users)} of its guests start (hookscript)"


def _python() -> Path:
    system = next((path for name in _PYTHONS if (path := Path("/") / name).exists()), None)
    return system or Path(getattr(sys, "_base_executable", sys.executable)).resolve()
