"""Reader of Proxmox VE's guest definitions (qm.conf(5)). mom never writes these files."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple, TypeAlias

from mom_core import Value
from mom_kvm import GuestDescription, LaunchedGuest, PlatformProperties, read_kernel_file

SOCKETS: Final = "/run/qemu-server"
"""Folder of the guests' monitors, which are named `VMID.qmp`."""

_LARGEST_FILE: Final = 512 << 10
"""Largest file in bytes that pmxcfs, the file system of /etc/pve, allows."""

_LINE: Final = re.compile(r"([A-Za-z][\w-]{0,63}):[ \t]*(.*?)[ \t\r]*")

_CLASS_TAG: Final = "class-"
"""The tag `class-gold` assigns the service class gold."""

ORDINARY_SHARES: Final = 1000
"""Proxmox VE's default of `shares`."""

DEFAULT_MEMORY_MIB: Final = 512
"""Proxmox VE's default of `memory`."""

LARGEST: Final = {"memory": 1 << 34, "balloon": 1 << 34, "shares": 50_000}
"""Options that are numbers, with their largest values. `memory` and `balloon` are in MiB."""

_DAEMON: Final = "pvestatd"
_DAEMON_FILE: Final = "run/pvestatd.pid"


class GuestDefinition(NamedTuple):
    """Definition of a guest. Missing values are None.

    `balloon_mib` is the Minimum memory; 0 without a balloon device. With `shares` 0, pvestatd does not resize the guest.
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
        """Whether pvestatd, if it is running, resizes the guest."""
        return bool(self.balloon_mib) and self.shares != 0 and (self.memory_mib is None or (self.balloon_mib or 0) < self.memory_mib)

    @property
    def keeps_all(self) -> bool:
        """Whether all of the guest's memory is guaranteed, because it has no Minimum memory. This is Proxmox VE's default."""
        return self.balloon_mib is None

    @property
    def assigned_mib(self) -> int:
        """Assigned memory; Proxmox VE's default if unset."""
        return DEFAULT_MEMORY_MIB if self.memory_mib is None else self.memory_mib

    def how_to_give(self, vmid: str) -> str:
        """Return the commands that let mom shrink the guest to a quarter of its memory, and keep pvestatd from doing so."""
        first = "" if self.shares else f"qm set {vmid} --delete shares, then "
        return f"{first}qm set {vmid} --balloon {max(1, self.assigned_mib // 4)}, then qm set {vmid} --shares 0"

    def properties(self) -> dict[str, Value]:
        """Return guarantee, class and platform properties."""
        properties: dict[str, Value] = dict(self.of_platform)
        properties["mem_guarantee"] = f"{self.balloon_mib}MiB" if self.balloon_mib else "100%"
        if self.tags:
            properties["tags"] = self.tags
        if sla_class := next((tag.removeprefix(_CLASS_TAG) for tag in reversed(self.tags) if tag.startswith(_CLASS_TAG)), ""):
            properties["sla_class"] = sla_class
        return properties

    @property
    def reclaim_cost(self) -> float | None:
        """Cost of shrinking the guest, from its shares; 1 is ordinary. None if the shares are 0 or the default."""
        return self.shares / ORDINARY_SHARES if self.shares not in {0, ORDINARY_SHARES} else None


class ProxmoxGuest(NamedTuple):
    """Guest of Proxmox VE. `definition` is None if its file is unreadable or invalid, or belongs to an untrusted user."""

    vmid: str
    definition: GuestDefinition | None


def options_in(text: str) -> Mapping[str, str]:
    """Return a definition's options. Later sections of the file, with pending changes and snapshots, are left out."""
    options: dict[str, str] = {}
    for line in text.removeprefix("\ufeff").split("\n"):
        if line.startswith("["):
            break
        if match := _LINE.fullmatch(line):
            options[match[1]] = match[2]
    return options


def parsed(text: str, platforms: PlatformProperties | None = None) -> GuestDefinition | None:
    """Return the definition in a file's text; None if invalid."""
    options = options_in(text)
    numbers = {name: number_in(name, options[name]) for name in LARGEST if name in options}
    if None in numbers.values():
        return None  # an unreadable number must not reduce the guarantee
    shares, of_platform = numbers.get("shares"), {} if platforms is None else platforms.of(GuestDescription(options=options))
    return GuestDefinition(
        options.get("name", ""), numbers.get("memory"), numbers.get("balloon"), ORDINARY_SHARES if shares is None else shares,
        options.get("lock", ""), tuple(tag for tag in re.split(r"[;,\s]+", options.get("tags", ""))[:100] if tag), of_platform,
    )  # fmt: skip


def number_in(name: str, text: str) -> int | None:
    """Return the number in an option of `LARGEST`; None if invalid. Memory may be `4096`, or `current=4096` in newer versions."""
    if name == "memory":
        text = dict(part.partition("=")[::2] for part in text.split(",")).get("current", text)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= LARGEST[name] else None


_UUID: Final = re.compile(r"uuid=([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})")


class ProxmoxLaunches:
    """`LaunchReader` for guests of Proxmox VE."""

    def read(self, description: str, identity: str) -> LaunchedGuest | None:
        """Return the guest that a definition describes; None if invalid. Guests of Proxmox VE start with all their memory."""
        if not (identity.isascii() and identity.isdigit()) or description.lstrip().startswith("<"):
            return None
        definition, options = parsed(description), options_in(description)
        if definition is None:
            return None
        uuid = _UUID.search(options.get("smbios1", ""))
        huge = "its memory is in huge pages, which the host reserves separately" if "hugepages" in options else ""
        return LaunchedGuest(definition.name or f"vm{identity}", definition.assigned_mib << 10, uuid[1].lower() if uuid else "", huge)

    def launches(self, guest: LaunchedGuest) -> None:
        """Do nothing: a starting guest delays no other monitor."""

    def launched(self, guest: LaunchedGuest) -> None:
        """Do nothing."""


_Stamped: TypeAlias = dict[str, tuple[tuple[int, int, int], GuestDefinition | None]]
"""Definitions keyed by VMID, each with a stamp that shows whether its file has changed."""


class Definitions:
    """Definitions of a node's guests. Each `read` reads changed files again. Not thread-safe."""

    def __init__(self, root: Path, folder: Path, platforms: PlatformProperties) -> None:
        self._platforms = platforms
        self._proc = root / "proc"
        self._sockets = str(root / SOCKETS.lstrip("/")) + "/"
        self._daemon = root / _DAEMON_FILE
        self._folder = root / str(folder).lstrip("/")
        self._stamped: _Stamped = {}

    def read(self, monitors: Iterable[str]) -> dict[str, ProxmoxGuest]:
        """Return Proxmox VE's guests among these monitors, keyed by monitor path."""
        # Changed platform plugins may return other properties.
        before: _Stamped = {} if self._platforms.have_changed() else self._stamped
        self._stamped = {}
        vmids = ((monitor, self._vmid(monitor)) for monitor in monitors)
        return {monitor: ProxmoxGuest(vmid, self._definition(vmid, before)) for monitor, vmid in vmids if vmid}

    def _vmid(self, monitor: str) -> str:
        name = monitor.removeprefix(self._sockets)
        vmid = name.removesuffix(".qmp")
        return vmid if name != monitor and vmid.isascii() and vmid.isdigit() else ""

    def _definition(self, vmid: str, before: _Stamped) -> GuestDefinition | None:
        path = self._folder / f"{vmid}.conf"
        try:
            status = os.stat(path)  # noqa: PTH116  # twice as fast as Path, for each guest in each cycle
        except OSError:
            return None
        stamp = status.st_mtime_ns, status.st_size, status.st_ino
        stamped = before.get(vmid)
        if stamped is None or stamped[0] != stamp:
            ours = status.st_uid in {0, os.geteuid()} and not status.st_mode & 0o022 and status.st_size <= _LARGEST_FILE
            text = read_kernel_file(path, _LARGEST_FILE).decode(errors="replace") if ours else ""
            if not text:  # the file may become readable without a change
                return None
            stamped = stamp, parsed(text, self._platforms)
        self._stamped[vmid] = stamped
        return stamped[1]

    def daemon_runs(self) -> bool:
        """Return whether pvestatd is running."""
        number = read_kernel_file(self._daemon, 32).strip()
        return number.isdigit() and len(number) < 10 and _DAEMON.encode() in read_kernel_file(f"{self._proc}/{int(number)}/cmdline", 4096)
