"""The identity of the guest in a QEMU process, from /proc."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple
from uuid import UUID

from mom_kvm import read_kernel_file

_COMMAND_BYTES: Final = 256 << 10

_MONITORS: Final = frozenset(f"{dashes}{name}" for dashes in ("-", "--") for name in ("qmp", "qmp-pretty", "mon"))

_SERVES: Final = frozenset({"server", "server=on", "server=yes", "server=true", "server=y"})


class Identity(NamedTuple):
    """Guest according to QEMU's command line. Unknown texts are empty.

    `channels` are pairs of an agent channel and its socket. `monitored` is true if QEMU has a monitor.
    """

    name: str = ""
    uuid: str = ""
    channels: tuple[tuple[str, str], ...] = ()
    monitored: bool = False


def identity_of(proc: Path, pid: int) -> Identity:
    """Return the identity of a process's guest; empty if the process is unreadable or not QEMU."""
    return identity_in(read_kernel_file(f"{proc}/{pid}/cmdline", _COMMAND_BYTES)) if pid > 0 else Identity()


def identity_in(command: bytes) -> Identity:
    """Return the identity of the guest in QEMU's command line, as /proc shows it."""
    words = command.decode(errors="replace").split("\0")
    name = uuid = ""
    monitored = False
    sockets: dict[str, str] = {}
    ports: list[tuple[str, str]] = []
    for option, value in pairwise(words):
        if option in {"-name", "--name"}:
            options = _options_of(value, "guest")
            name = options.get("guest", name)
        elif option in _MONITORS:
            monitored = True
        elif option in {"-uuid", "--uuid"}:
            uuid = canonical(value) or uuid
        elif option in {"-smbios", "--smbios"}:
            options = _options_of(value, "type")
            if options.get("type") == "1":
                uuid = uuid or canonical(options.get("uuid", ""))
        elif option in {"-chardev", "--chardev"}:
            options = _options_of(value, "backend")
            # If QEMU is the client, the socket belongs to another program.
            if options.get("backend") == "socket" and options.get("path", "").startswith("/") and not _SERVES.isdisjoint(_parts(value)):
                sockets[options.get("id", "")] = options["path"]
        elif option in {"-device", "--device"}:
            options = _options_of(value, "driver")
            if options.get("driver") == "virtserialport" and options.get("name"):
                ports.append((options["name"], options.get("chardev", "")))
    return Identity(name, uuid, tuple((port, sockets[chardev]) for port, chardev in ports if chardev in sockets), monitored)


def _options_of(text: str, first: str) -> dict[str, str]:
    # In a value, `,,` means one comma.
    options = {}
    for number, part in enumerate(_parts(text)):
        key, equals, value = part.partition("=")
        if equals:
            options[key] = value
        elif not number:
            options[first] = part
    return options


def _parts(text: str) -> list[str]:
    return [part.replace("\0", ",") for part in text.replace(",,", "\0").split(",")]


def canonical(text: str) -> str:
    """Return a UUID in lower case with hyphens; empty for other strings and for the zero UUID."""
    try:
        uuid = UUID(text)
    except ValueError:
        return ""
    return str(uuid) if uuid.int else ""
