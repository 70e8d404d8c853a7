"""Who a QEMU process runs, by its own command line: known also while its monitor is held by another client or hangs."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple
from uuid import UUID

from mom_kvm import read_kernel_file

_COMMAND_BYTES: Final = 256 << 10


class Identity(NamedTuple):
    """A guest's name and UUID (empty: not known), and its agents' channels: their names and sockets.

    `monitored`: it is a QEMU that was started with a monitor.
    """

    name: str = ""
    uuid: str = ""
    channels: tuple[tuple[str, str], ...] = ()
    monitored: bool = False


def identity_of(proc: Path, pid: int) -> Identity:
    """Who this process runs. Nothing is known where it cannot be read, or is no QEMU."""
    return named_in(read_kernel_file(f"{proc}/{pid}/cmdline", _COMMAND_BYTES)) if pid > 0 else Identity()


def named_in(command: bytes) -> Identity:
    """The guest of a command line, as in /proc/PID/cmdline."""
    words = command.decode(errors="replace").split("\0")
    name = uuid = ""
    monitored = False
    sockets: dict[str, str] = {}
    ports: list[tuple[str, str]] = []
    for option, value in pairwise(words):
        if option in {"-name", "--name"}:
            options = options_of(value, "guest")
            name = options.get("guest", name)
        elif option in _MONITORS:
            monitored = True
        elif option in {"-uuid", "--uuid"}:
            uuid = canonical(value) or uuid
        elif option in {"-smbios", "--smbios"}:
            options = options_of(value, "type")
            if options.get("type") == "1":
                uuid = uuid or canonical(options.get("uuid", ""))
        elif option in {"-chardev", "--chardev"}:
            options = options_of(value, "backend")
            # One that QEMU connects to is another program's.
            if options.get("backend") == "socket" and options.get("path", "").startswith("/") and not _SERVES.isdisjoint(_parts(value)):
                sockets[options.get("id", "")] = options["path"]
        elif option in {"-device", "--device"}:
            options = options_of(value, "driver")
            if options.get("driver") == "virtserialport" and options.get("name"):
                ports.append((options["name"], options.get("chardev", "")))
    return Identity(name, uuid, tuple((port, sockets[chardev]) for port, chardev in ports if chardev in sockets), monitored)


def options_of(text: str, first: str) -> dict[str, str]:
    """A list of options as QEMU reads it: `web,debug-threads=on` with the `first` one's name left out; a comma in a value is doubled."""
    found = {}
    for number, part in enumerate(_parts(text)):
        key, equals, value = part.partition("=")
        if equals:
            found[key] = value
        elif not number:
            found[first] = part
    return found


_MONITORS: Final = frozenset(f"{dashes}{name}" for dashes in ("-", "--") for name in ("qmp", "qmp-pretty", "mon"))

_SERVES: Final = frozenset({"server", "server=on", "server=yes", "server=true", "server=y"})


def _parts(text: str) -> list[str]:
    return [part.replace("\0", ",") for part in text.replace(",,", "\0").split(",")]


def canonical(text: str) -> str:
    """A UUID as it is usually written; empty for what is none, and for the one of all zeros, which QEMU says when it was given none."""
    try:
        uuid = UUID(text)
    except ValueError:
        return ""
    return str(uuid) if uuid.int else ""
