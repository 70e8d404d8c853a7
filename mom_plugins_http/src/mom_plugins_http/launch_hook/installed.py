"""Launch hook: its installation, and `mom hook`."""

from __future__ import annotations

import math
import shlex
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import click

from mom_core import Finding, MomError, Severity, UnitError, load_config, parse_duration, read_file, replace_file
from mom_daemon import as_caller, config_option, print_prose
from mom_plugins_http.cli.client import Client

_FIRST: Final = "#!/bin/sh\n"
"""First line of installed programs. The packaged file is not executable and lacks it."""

_MARK: Final = "# mom-launch: "
"""A file whose second line starts differently is not mom's."""

_LARGEST: Final = 1 << 20

_USUAL_WAIT: Final = 10.0
"""A guest's start waits at most this many seconds, unless a plugin's settings say otherwise."""

_BEYOND_SECONDS: Final = 5

_SUBJECT: Final = "room for launches"

_DEFINITIONS: Final = "etc/pve/qemu-server"
_PYTHONS: Final = ("usr/bin/python3", "usr/libexec/platform-python")


class Platform(StrEnum):
    """Hypervisor platform that runs the program."""

    LIBVIRT = "libvirt"
    PROXMOX = "proxmox"


_PLACES: Final = {
    Platform.LIBVIRT: ("etc/libvirt", "etc/libvirt/hooks/qemu.d/mom"),
    Platform.PROXMOX: (_DEFINITIONS, "var/lib/vz/snippets/mom-launch"),
}
"""Each platform's identifying folder, and the program's path. libvirt 6.5 and later runs all programs in `qemu.d`."""


class HookState(StrEnum):
    """State of an installed program."""

    ABSENT = "absent"
    CURRENT = "current"  #: as this mom would install it
    OTHER = "other"  #: from another version of mom, for other settings, or not executable
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True)
class Hook:
    """Launch hook of one platform. A guest's start waits at most `wait` seconds."""

    platform: Platform
    root: Path
    socket: Path
    wait: float

    @property
    def path(self) -> Path:
        """Program's path."""
        return self.root / _PLACES[self.platform][1]

    @property
    def is_needed(self) -> bool:
        """Whether this host has the platform."""
        return (self.root / _PLACES[self.platform][0]).is_dir()

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
        """Return the installed program's state. Raise `MomError` if it cannot be read."""
        with _as_root(f"read {self.path}"):
            try:
                status = self.path.lstat()
            except (FileNotFoundError, NotADirectoryError):
                return HookState.ABSENT
            content = read_file(self.path, _LARGEST) if stat.S_ISREG(status.st_mode) else b""
        if not content.startswith(f"{_FIRST}{_MARK}".encode()):
            return HookState.FOREIGN
        return HookState.CURRENT if content == self.text().encode() and status.st_mode & stat.S_IXUSR else HookState.OTHER

    def finding(self) -> Finding:
        """Return a finding that says whether the platform asks mom before a guest starts."""
        try:
            state = self.state()
        except MomError as error:
            return Finding(Severity.WARNING, _SUBJECT, error.message, error.hint)
        install = f"`mom hook install {self.platform}`"
        if state is HookState.OTHER:
            fault = f"{self.path} is not executable, or was installed by another version of mom, or for another socket or wait time"
            return Finding(Severity.WARNING, _SUBJECT, fault, install)
        if state is HookState.CURRENT:
            guests = "a guest" if self.platform is Platform.LIBVIRT else f"{len(self.users())} of its guests (hookscript)"
            return Finding(Severity.OK, _SUBJECT, f"{self.platform} asks mom before it starts {guests}")
        text = f"{self.platform} does not ask mom for memory before a guest starts"
        if state is HookState.FOREIGN:
            return Finding(Severity.OK, _SUBJECT, f"{text}: {self.path} is not mom's")
        return Finding(Severity.OK, _SUBJECT, text, f"to let mom make room: {install}")

    def install(self) -> None:
        """Install or update the program.

        :raises MomError: the host lacks the platform, or the file is not mom's
        """
        if not self.is_needed:
            raise MomError(f"this host has no {self.platform}: there is no /{_PLACES[self.platform][0]}")
        if self.state() is HookState.FOREIGN:
            raise MomError(f"{self.path} is not mom's, and was not changed", hint="move the file away if nothing needs it")
        with _as_root(f"write {self.path}"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            draft = self.path.parent.parent / ".mom-launch.new"  # libvirt runs every file beside the program
            replace_file(draft, self.text(), durable=True, mode=0o755)
            draft.replace(self.path)

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
        with _as_root(f"remove {self.path}"):
            self.path.unlink()
        return True

    def users(self) -> list[str]:
        """Return the IDs of Proxmox VE guests whose configuration names the program."""
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


@contextmanager
def _as_root(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MomError(f"cannot {what}: {error.strerror}", hint="run this as root") from None


def longest_wait(in_force: Mapping[str, Any]) -> float:
    """Return the longest wait of a guest's start, in seconds."""
    for settings in in_force.get("plugins", {}).values():
        with suppress(KeyError, TypeError, UnitError):  # a plugin that delays no guest
            return parse_duration(settings["reservations"]["launches"]["wait"])
    return _USUAL_WAIT


def _python() -> Path:
    system = next((path for name in _PYTHONS if (path := Path("/") / name).exists()), None)
    return system or Path(getattr(sys, "_base_executable", sys.executable)).resolve()


_platform = click.argument("platform", type=click.Choice([str(name) for name in Platform]))


def _root(function: Callable[..., Any]) -> Callable[..., Any]:
    folder = click.Path(path_type=Path, exists=True, file_okay=False)
    return click.option("--root", type=folder, default=Path("/"), hidden=True)(config_option(function))


@click.group("hook", short_help="Make the hypervisor ask mom before it starts a guest.")
@as_caller
def hook_command() -> None:
    """Make the hypervisor ask mom before it starts a guest, so that mom can make memory available first.

    \b
    mom hook install libvirt       for all guests of libvirt
    mom hook install proxmox       for guests of Proxmox VE whose configuration names the hook

    If mom does not answer, for example because it was removed, guests start as usual. `mom doctor` shows the installed hooks.
    """


@hook_command.command("install", short_help="Install or update the hook.")
@_platform
@_root
def install_command(platform: str, root: Path, config_path: str | None) -> None:
    """Install or update the hook of PLATFORM, and print the next steps. A file that is not mom's stays unchanged."""
    wait = longest_wait(load_config(config_path).in_force())
    hook = Hook(Platform(platform), root, Client.configured(config_path).path, wait)
    hook.install()
    print_prose(f"Before a guest starts, {hook.path} asks mom at {hook.socket}.", 2)
    if hook.platform is Platform.PROXMOX:
        print_prose("For each guest, run: qm set VMID --hookscript local:snippets/mom-launch", 2)
        print_prose("The storage `local` must accept snippets: pvesm set local --content iso,vztmpl,backup,snippets", 2)
        print_prose("In a cluster, install the hook on each node first: a node without the hook does not start such a guest.", 2)
    else:
        print_prose("libvirt finds its first hook only on a reload: systemctl reload libvirtd (or virtqemud). Guests keep running.", 2)


@hook_command.command("remove", short_help="Remove the hook.")
@_platform
@_root
def remove_command(platform: str, root: Path, config_path: str | None) -> None:
    """Remove the hook of PLATFORM. mom refuses while definitions of Proxmox VE guests name the hook, because
    these guests would not start without it."""
    hook = Hook(Platform(platform), root, Path(), 0.0)
    removed = hook.remove()
    print_prose(f"{hook.path} is removed." if removed else f"There is no {hook.path}.", 2)
