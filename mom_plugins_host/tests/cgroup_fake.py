"""Kernel of files: a folder like a host with control groups. Writes are accepted or refused as by the kernel.

`RULES_V2` has the rules; tests/real checks the same rules on a real kernel.
"""

import errno
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fake_promises import FakePromises

from mom_core import (
    Decision,
    EngineState,
    Entity,
    Guest,
    Host,
    HypervisorError,
    LedgerEntry,
    Outcome,
    PermissionDenied,
    PluginContext,
    Problem,
    Revision,
    Snapshot,
    Status,
    Value,
)
from mom_devkit import FakeGuest, FakeHypervisor, apply_decisions
from mom_kvm import Helper, Promises
from mom_plugins_host.cgroup import CgroupPlugin
from mom_plugins_host.cgroup.groups import KNOBS
from mom_plugins_host.cgroup.plugin import CgroupGuestSettings, CgroupSettings
from mom_plugins_host.credit.control import CREDIT

KIB, MIB = 1, 1 << 10
PAGE = 4096
SLICE = "/machine.slice"

RULES_V2: Sequence[tuple[str, str, str, str]] = [
    tuple(rule) for rule in json.loads(Path(__file__).with_name("cgroup_rules.json").read_text())
]
"""File, written text, error (empty for none), and content afterwards."""


def number(text: str) -> int:
    """Parse a size like the kernel."""
    if not text.isdigit():
        raise OSError(errno.EINVAL, "Invalid argument")
    return int(text)


class FakeKernel:
    """Kernel of files below `root`. Writes follow the kernel's rules. `denied` maps names of files to an errno."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.denied: dict[str, int] = {}
        self.host("proc/self/mountinfo", "31 24 0:28 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n")
        self.host("proc/meminfo", f"MemTotal: {64 * MIB * 1024} kB\nMemFree: 5 kB\nSwapTotal: 9 kB\nSwapFree: {8 * MIB * 1024} kB\n")

    def host(self, name: str, text: str) -> None:
        """Write a file of the host."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    # --- groups ------------------------------------------------------------------------------------------------------------------

    def folder(self, path: str) -> Path:
        """Return a group's folder."""
        return self.root / "sys/fs/cgroup" / path.lstrip("/")

    def make(self, path: str, current_kib: int = 2048 * MIB, controllers: str = "cpu io memory pids") -> dict[str, str]:
        """Make a group that holds this much memory. Return the guest's property `cgroups`."""
        folder = self.folder(path)
        folder.mkdir(parents=True)
        files = {"cgroup.controllers": controllers}
        if "memory" in controllers:
            files |= dict.fromkeys(("memory.high", "memory.swap.max"), "max") | dict.fromkeys(("memory.low", "memory.min"), "0")
            files |= {"memory.current": str(current_kib << 10), "memory.swap.current": "0"}
            self.stat(path, anon=current_kib)
        for name, text in files.items():
            (folder / name).write_text(f"{text}\n")
        return {"": path}

    def stat(self, path: str, *, anon: int = 0, file: int = 0, shmem: int = 0, locked: int = 0) -> None:
        """Write memory.stat, in KiB."""
        counts = {"anon": anon << 10, "file": file << 10, "kernel": 77, "shmem": shmem << 10, "file_mapped": 3, "unevictable": locked << 10}
        (self.folder(path) / "memory.stat").write_text("".join(f"{name} {count}\n" for name, count in counts.items()))

    def value(self, path: str, name: str) -> str:
        """Return the content of a file."""
        return (self.folder(path) / name).read_text().strip()

    # --- writes ------------------------------------------------------------------------------------------------------------------

    def put(self, path: str, text: str) -> None:
        """Write a file by the kernel's rules."""
        file = Path(path)
        if not file.exists():
            raise OSError(errno.ENOENT, "No such file or directory")
        if file.name in self.denied:
            raise OSError(self.denied[file.name], os.strerror(self.denied[file.name]))
        file.write_text("max\n" if text == "max" else f"{number(text) // PAGE * PAGE}\n")
        if file.name == "memory.high" and text != "max":
            self._lose(file.parent, int((file.parent / "memory.current").read_text()) - number(text))

    def write(self, writes: Sequence[Helper.GroupWrite]) -> Sequence[HypervisorError | None]:
        """Write files like `write_group_files`."""
        return [self._written(one) for one in writes]

    def _written(self, write: Helper.GroupWrite) -> HypervisorError | None:
        try:
            self.put(write.path, write.text)
        except OSError as error:
            kind = PermissionDenied if error.errno in {errno.EACCES, errno.EROFS} else HypervisorError
            told = kind(f"cannot write {write.path}: {error.strerror}")
            told.__cause__ = error
            return told
        return None

    def _lose(self, folder: Path, size: int) -> None:
        """Take memory from a group, as far as there is swap for it."""
        current, swap = (int((folder / name).read_text()) for name in ("memory.current", "memory.swap.current"))
        free = int((self.root / "proc/meminfo").read_text().partition("SwapFree:")[2].split()[0]) << 10
        most = (folder / "memory.swap.max").read_text().strip()
        taken = max(0, min(size, current, free, free if most == "max" else int(most) - swap))
        (folder / "memory.current").write_text(f"{current - taken}\n")
        (folder / "memory.swap.current").write_text(f"{swap + taken}\n")


@dataclass
class Cycle:
    """Results of one cycle."""

    snapshot: Snapshot
    decided: dict[tuple[str, str], Decision]
    problems: list[Problem]
    revisions: list[Revision]
    outcomes: dict[tuple[str, str], Outcome]

    def fields(self, name: str) -> Mapping[str, Value]:
        """Return a guest's fields."""
        return next(guest.fields for guest in self.snapshot.guests.values() if guest.name == name)

    @property
    def reasons(self) -> list[str]:
        """Reasons of revisions."""
        return [revision.reason for revision in self.revisions]


class Bench:
    """Plugin with guests on a kernel of files. Tests run single cycles, and the ledger has original values.

    :param plainly: whether the plugin writes files itself, without the kernel's rules
    """

    def __init__(self, kernel: FakeKernel, interval: float = 5.0, *, plainly: bool = False) -> None:
        self.kernel = kernel
        self.plainly = plainly
        self.clock = 1000.0
        self.interval = interval
        self.hypervisor = FakeHypervisor([])
        self.own: dict[str, CgroupGuestSettings] = {}
        self.host = Host()
        self.ledger: dict[tuple[str, str], LedgerEntry] = {}
        nothing = CgroupGuestSettings()
        self.context = PluginContext(
            name="cgroup",
            root=kernel.root,
            state_directory=kernel.root / "var/lib/mom",
            monotonic=lambda: self.clock,
            offers={Promises: (FakePromises("guest_guarantee"),)},
            interval=interval,
            guest_settings=lambda guest: self.own.get(guest.name, nothing),
            engine_state=lambda: EngineState(changes=tuple(self.ledger.values())),
        )
        self.plugin = self.fresh()

    def fresh(self, **settings: Any) -> CgroupPlugin:
        """Return a new plugin, as in a new process."""
        kernel = self.kernel

        class OnFakeKernel(CgroupPlugin):
            write = staticmethod(kernel.write)

        self.plugin = (CgroupPlugin if self.plainly else OnFakeKernel)(CgroupSettings.model_validate(settings), self.context)
        return self.plugin

    def add(
        self,
        name: str,
        current_kib: int = 2048 * MIB,
        *,
        used_kib: int = 512 * MIB,
        controllers: str = "cpu io memory pids",
        group: str = "",
        pid: int | None = None,
        **fields: Value,
    ) -> Entity:
        """Add a guest of 2 GiB that uses a quarter, with a group, which may be that of a process."""
        properties: dict[str, Value] = {"cgroups": self.kernel.make(group or self.path(name), current_kib, controllers), "pid": pid}
        known = {"stats_age": 1.0, "mem_usable": 2048 * MIB - used_kib, "host_psi_memory_some_avg10": 0.0, **fields}
        guest = FakeGuest(name, balloon_kib=2048 * MIB, maximum_kib=2048 * MIB, properties=properties, fields=known)
        self.hypervisor.known[name] = guest
        return Entity(next(one.entity.scope for one in self.hypervisor.guests()), guest.id, name)

    def path(self, name: str) -> str:
        """Return the path of a guest's group."""
        return f"{SLICE}/machine-qemu\\x2d1\\x2d{name}.scope"

    def set(self, name: str, **cgroup: Any) -> None:
        """Set a guest's settings in the YAML file."""
        self.own[name] = CgroupGuestSettings.model_validate({"cgroup": cgroup} if cgroup else {})

    def see(self, seconds: float | None = None) -> Snapshot:
        """Collect a snapshot."""
        self.clock += self.interval if seconds is None else seconds
        listed = self.hypervisor.guests()
        fields = self.plugin.mom_collect_guests(self.hypervisor, listed)
        guests: dict[str, Guest] = {}
        for guest in listed:
            guests[guest.id] = replace(guest, fields={**self.hypervisor.known[guest.name].collected(), **fields.get(guest.id, {})})
        return Snapshot(self.host, guests, monotonic=self.clock)

    def cycle(self, *wanted: tuple[Entity, str, Value], seconds: float | None = None) -> Cycle:
        """Run a cycle, with decisions of another plugin before this one's."""
        snapshot = self.see(seconds)
        decisions = [Decision(*one) for one in wanted] + list(self.plugin.mom_act(snapshot))
        decided = {(one.entity.name, one.control): one for one in decisions}
        revisions = list(self.plugin.mom_review(snapshot, decisions))
        for revision in revisions:
            key = revision.before.entity.name, revision.before.control
            if revision.after is None:
                decided.pop(key, None)
            else:
                decided[key] = revision.after
        outcomes = apply_decisions(self.plugin, [one for one in decided.values() if one.control in {*KNOBS, CREDIT}], self.hypervisor)
        for one in outcomes:
            guest, control = one.decision.entity, one.decision.control
            if one.status is Status.APPLIED:
                entry = LedgerEntry(guest, control, one.before, one.after, "cgroup", 0.0, snapshot.guests[guest.id].incarnation)
                self.ledger.setdefault((guest.id, control), entry)
        problems = list(self.plugin.mom_problems(snapshot))
        return Cycle(snapshot, decided, problems, revisions, {(one.decision.entity.name, one.decision.control): one for one in outcomes})
