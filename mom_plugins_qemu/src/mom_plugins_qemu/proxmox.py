"""Guests of Proxmox VE: what their definitions say, and whether Proxmox's own daemon resizes them.

By its documentation: qm.conf(5) for the files, and "Memory" in the chapter on virtual machines for what pvestatd does with `balloon` and
`shares`. A guest's file is changed with `qm set`, never here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple, TypeAlias

from mom_core import Value
from mom_kvm import GuestDescription, LaunchedGuest, PlatformProperties, read_kernel_file

SOCKETS: Final = "/run/qemu-server"
"""Where Proxmox VE has its guests' monitors: a socket `VMID.qmp` each."""

_LARGEST_FILE: Final = 512 << 10
"""The largest file of pmxcfs, the file system of /etc/pve."""

_LINE: Final = re.compile(r"([A-Za-z][\w-]{0,63}):[ \t]*(.*?)[ \t\r]*")

_CLASS_TAG: Final = "class-"
"""A guest with the tag `class-gold` is of the class gold."""

ORDINARY_SHARES: Final = 1000
"""The shares of a guest that has none of its own."""

DEFAULT_MEMORY_MIB: Final = 512
"""Of a guest whose definition does not say (qm.conf(5))."""

MOST_SHARES: Final = 50_000
MOST_MIB: Final = 1 << 34

_DAEMON: Final = "pvestatd"
_DAEMON_FILE: Final = "run/pvestatd.pid"


class GuestDefinition(NamedTuple):
    """A guest's definition. `memory_mib` is None where it is not written, `balloon_mib` too: then its least memory is all of it.

    `balloon_mib` is 0 for a guest without a balloon device; `shares` is 0 for one that pvestatd leaves alone. `of_platform` are the
    properties that plugins of platforms read in it.
    """

    name: str = ""
    memory_mib: int | None = None
    balloon_mib: int | None = None
    shares: int = ORDINARY_SHARES
    lock: str = ""
    tags: tuple[str, ...] = ()
    of_platform: Mapping[str, str] = MappingProxyType({})

    @property
    def is_resized_by_proxmox(self) -> bool:
        """True if pvestatd moves its balloon, every ten seconds, towards what the node is to use."""
        return bool(self.balloon_mib) and self.shares != 0 and (self.memory_mib is None or (self.balloon_mib or 0) < self.memory_mib)

    @property
    def keeps_all(self) -> bool:
        """True if it has a balloon and no least memory: Proxmox VE's default, by which all of its memory is promised to it."""
        return self.balloon_mib is None

    @property
    def suggested_mib(self) -> int:
        """A least memory with which it can give: a quarter of its memory."""
        return max(1, (DEFAULT_MEMORY_MIB if self.memory_mib is None else self.memory_mib) // 4)

    def how_to_give(self, number: str) -> str:
        """Return the commands with which the guest gives memory, and to mom alone.

        While shares are 0, a new least memory would inflate the balloon of the running guest to it at once.
        """
        first = "" if self.shares else f"qm set {number} --delete shares, then "
        return f"{first}qm set {number} --balloon {self.suggested_mib}, then qm set {number} --shares 0"

    def properties(self) -> dict[str, Value]:
        """Promises to the guest, by the properties in which metadata makes them, and what it is to its platform. A guest with no least
        memory of its own was sold all of it."""
        found: dict[str, Value] = dict(self.of_platform)
        found["mem_guarantee"] = f"{self.balloon_mib}MiB" if self.balloon_mib else "100%"
        if self.tags:
            found["tags"] = self.tags
        if named := class_of(self.tags):
            found["sla_class"] = named
        return found

    @property
    def reclaim_cost(self) -> float | None:
        """The cost of taking memory from the guest, where its shares say so: 1 is ordinary."""
        return self.shares / ORDINARY_SHARES if self.shares not in {0, ORDINARY_SHARES} else None


class Option(NamedTuple):
    """The text of an option, and its line."""

    line: int
    text: str


class Options(NamedTuple):
    """A definition's options by name, and the lines that are none."""

    by_name: Mapping[str, Option]
    odd: Sequence[Option]


def options_in(text: str) -> Options:
    """The options of a definition such as /etc/pve/qemu-server/100.conf that are in force: those before the first section. The sections are
    what is pending, and snapshots."""
    found: dict[str, Option] = {}
    odd = []
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        if line.startswith("["):
            break
        match = _LINE.fullmatch(line)
        if match is not None:
            found[match[1]] = Option(number, match[2])
        elif line.strip() and not line.startswith("#"):
            odd.append(Option(number, line))
    return Options(found, odd)


def parsed(text: str, platforms: PlatformProperties | None = None) -> GuestDefinition | None:
    """The definition in a file; None for what cannot be one."""
    found = {name: option.text for name, option in options_in(text).by_name.items()}
    memory = current_mib(found["memory"]) if "memory" in found else None
    balloon = whole(found["balloon"], MOST_MIB) if "balloon" in found else None
    shares = whole(found["shares"], MOST_SHARES) if "shares" in found else ORDINARY_SHARES
    if ("memory" in found and memory is None) or ("balloon" in found and balloon is None) or shares is None:
        return None  # what is not understood is no promise of anything less
    of_platform = {} if platforms is None else platforms.of(GuestDescription(options=found))
    return GuestDefinition(
        found.get("name", ""), memory, balloon, shares, found.get("lock", ""), tags_in(found.get("tags", "")), of_platform
    )


def tags_in(text: str) -> tuple[str, ...]:
    """The tags that an option `tags` lists."""
    return tuple(tag for tag in re.split(r"[;,\s]+", text)[:100] if tag)


def class_of(tags: Sequence[str]) -> str:
    """The service class that the last tag of that kind names; empty if none does."""
    return next((tag.removeprefix(_CLASS_TAG) for tag in reversed(tags) if tag.startswith(_CLASS_TAG)), "")


def current_mib(text: str) -> int | None:
    """MiB: `4096`, or `current=4096` as newer versions may write it."""
    return whole(dict(part.partition("=")[::2] for part in text.split(",")).get("current", text), MOST_MIB)


def whole(text: str, most: int) -> int | None:
    """A number as definitions have it; None for what is none, or more than that."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= most else None


_UUID: Final = re.compile(r"uuid=([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})")


class ProxmoxLaunches:
    """The qemu plugin's `LaunchReader`: guests that Proxmox VE is about to start."""

    def read(self, description: str, identity: str) -> LaunchedGuest | None:
        """The guest of a definition such as /etc/pve/qemu-server/100.conf, with its number. It starts with all of its memory."""
        if not (identity.isascii() and identity.isdigit()) or description.lstrip().startswith("<"):
            return None
        definition, options = parsed(description), options_in(description).by_name
        if definition is None:
            return None
        memory = DEFAULT_MEMORY_MIB if definition.memory_mib is None else definition.memory_mib
        uuid = _UUID.search(options["smbios1"].text) if "smbios1" in options else None
        huge = "its memory is in huge pages, which come out of a pool of their own" if "hugepages" in options else ""
        return LaunchedGuest(definition.name or f"vm{identity}", memory << 10, uuid[1].lower() if uuid else "", huge)

    def launches(self, guest: LaunchedGuest) -> None:
        """Nothing of Proxmox VE's holds up what mom asks of other guests."""

    def launched(self, guest: LaunchedGuest) -> None:
        """As above."""


_Known: TypeAlias = dict[str, tuple[tuple[int, int, int], GuestDefinition | None]]
"""Definitions by VMID, with when and how their files were when they were read."""


class Definitions:
    """The definitions of a node's guests, each read again when its file has changed. Not to be used by two threads at a time.

    :param root: of the host's files
    :param folder: such as /etc/pve/qemu-server
    :param platforms: what platforms say of guests
    """

    def __init__(self, root: Path, folder: Path, platforms: PlatformProperties) -> None:
        self._platforms = platforms
        self._proc = root / "proc"
        self._sockets = str(root / SOCKETS.lstrip("/")) + "/"
        self._daemon = root / _DAEMON_FILE
        self._folder = root / str(folder).lstrip("/")
        self._known: _Known = {}

    def read(self, monitors: Iterable[str]) -> dict[str, tuple[str, GuestDefinition | None]]:
        """The VMIDs and the definitions as they stand now, by monitor, of the guests behind these monitors that are Proxmox VE's. None: it
        cannot be read or understood, or is another user's."""
        # With other platforms, all is to be read again.
        before: _Known = {} if self._platforms.have_changed() else self._known
        self._known = {}
        numbers = ((monitor, self._number(monitor)) for monitor in monitors)
        return {monitor: (number, self._of(number, before)) for monitor, number in numbers if number}

    def _number(self, monitor: str) -> str:
        """The VMID of the guest behind a monitor; empty where it is none of Proxmox VE's."""
        name = monitor.removeprefix(self._sockets)
        number = name.removesuffix(".qmp")
        return number if name != monitor and number.isascii() and number.isdigit() else ""

    def _of(self, number: str, before: _Known) -> GuestDefinition | None:
        path = self._folder / f"{number}.conf"
        try:
            status = os.stat(path)  # noqa: PTH116  # half the time of Path's, for each guest in each cycle
        except OSError:
            return None
        stamp = status.st_mtime_ns, status.st_size, status.st_ino
        known = before.get(number)
        if known is None or known[0] != stamp:
            ours = status.st_uid in {0, os.geteuid()} and not status.st_mode & 0o022 and status.st_size <= _LARGEST_FILE
            text = read_kernel_file(path, _LARGEST_FILE).decode(errors="replace") if ours else ""
            if not text:  # what can be read later need not have changed
                return None
            known = stamp, parsed(text, self._platforms)
        self._known[number] = known
        return known[1]

    def daemon_runs(self) -> bool:
        """True if pvestatd runs, which resizes guests."""
        number = read_kernel_file(self._daemon, 32).strip()
        return number.isdigit() and len(number) < 10 and _DAEMON.encode() in read_kernel_file(f"{self._proc}/{int(number)}/cmdline", 4096)
