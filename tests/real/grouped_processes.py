"""Processes in place of guests, in control groups like libvirt's, and the plugin that lists them. For drivers in a guest."""

import json
import os
import pwd
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mom_core import Entity, FieldSpec, Guest, Hypervisor, PluginContext, PluginSettings, Scope, Unit, Value, hookimpl
from mom_devkit import FakeGuest, FakeHypervisor

ROOT = Path("/sys/fs/cgroup")
MIB = 1 << 10

SLOW_SECONDS = 120.0
"""Time limit until mom has restored everything, on an emulated CPU and a busy host."""

HYPERVISOR = FakeHypervisor([])


class Processes:
    """Plugin with the hypervisor, and the guests' own statistics."""

    def __init__(self, settings: PluginSettings, context: PluginContext) -> None:
        pass

    @hookimpl
    def mom_hypervisor(self) -> Hypervisor:
        return HYPERVISOR

    @hookimpl
    def mom_declare(self) -> Sequence[FieldSpec]:
        names = ("balloon_cur", "balloon_max", "balloon_min", "mem_usable")
        others = (FieldSpec("stats_age", Unit.SECONDS, Scope.GUEST, ""), FieldSpec("priority", Unit.COUNT, Scope.GUEST, ""))
        return [*(FieldSpec(name, Unit.KIB, Scope.GUEST, "") for name in names), *others]

    @hookimpl
    def mom_collect_guests(self, guests: Sequence[Guest]) -> Mapping[str, Mapping[str, Value]]:
        names = {spec.name for spec in self.mom_declare()}
        known = HYPERVISOR.known.values()
        return {guest.id: {name: value for name, value in guest.collected().items() if name in names} for guest in known}


def entity(name: str) -> Entity:
    return Entity(Scope.GUEST, HYPERVISOR.known[name].id, name)


def fact(name: str, value: object) -> None:
    sys.stdout.write(f"FACT {json.dumps({name: value})}\n")
    sys.stdout.flush()


def until(look: Callable[[], object], seconds: float, pause: float = 0.2) -> bool:
    """Return whether `look` was true in time."""
    end = time.monotonic() + seconds
    while not look():
        if time.monotonic() > end:
            return False
        time.sleep(pause)
    return True


def open_groups() -> None:
    """Make the groups of all guests, with the controllers that libvirt turns on."""
    for folder in (ROOT, ROOT / "machine.slice"):
        folder.mkdir(exist_ok=True)
        (folder / "cgroup.subtree_control").write_text("+cpu +io +memory")


def group_of(name: str) -> Path:
    return ROOT / "machine.slice" / f"machine-qemu-{name}.scope"


def log_of(name: str) -> Path:
    return Path(f"/tmp/{name}.log")


def start(name: str, command: Sequence[str], mib: int, fields: Mapping[str, Value], user: str = "root") -> subprocess.Popen[bytes]:
    """Start a process of that user in a group such as libvirt's, and list it as a guest of this size with these fields."""
    uid = pwd.getpwnam(user).pw_uid
    leaf = group_of(name) / "libvirt" / "emulator"
    leaf.mkdir(parents=True)
    properties: dict[str, Value] = {"cgroups": {"": f"/machine.slice/{group_of(name).name}"}}
    HYPERVISOR.known[name] = FakeGuest(name, balloon_kib=mib * MIB, maximum_kib=mib * MIB, properties=properties, fields=dict(fields))

    def join() -> None:
        (leaf / "cgroup.procs").write_text(str(os.getpid()))
        Path("/proc/self/oom_score_adj").write_text("0")
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)

    with log_of(name).open("wb") as out:
        process = subprocess.Popen(command, stdout=out, preexec_fn=join)  # noqa: PLW1509  # the driver has no threads
    properties["pid"] = process.pid
    return process


def end(name: str, process: subprocess.Popen[bytes]) -> None:
    """Kill the process, and remove its group. It stays listed."""
    process.kill()
    process.wait()
    scope = group_of(name)
    for folder in (scope / "libvirt/emulator", scope / "libvirt", scope):
        until(lambda folder=folder: not (folder / "cgroup.procs").read_text(), SLOW_SECONDS)  # type: ignore[misc]  # a lambda's default has no type
        folder.rmdir()


def stands(name: str, *files: str) -> dict[str, str]:
    """Return the content of files of a group."""
    return {file: (group_of(name) / file).read_text().strip() for file in files}


def held(name: str) -> int:
    """Return the bytes that a group holds."""
    return int((group_of(name) / "memory.current").read_text())
