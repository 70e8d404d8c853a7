"""What `mom doctor` says about NUMA."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mom_core import Finding, Hypervisor, HypervisorError, Severity, format_kib, printable
from mom_plugins_numa.nodes import read_balancing, read_nodes, with_memory
from mom_plugins_numa.numbers import format_list, joined
from mom_plugins_numa.process import Process
from mom_toolkit import CpuPinControl, NodeTuneControl, pid_of

SUBJECT = "NUMA"


def findings(hypervisor: Hypervisor | None, root: Path, unmovable: str, *, placement: bool) -> Iterable[Finding]:
    """Nodes, what can be controlled, and who else moves memory.

    :param unmovable: why memory cannot be moved; empty when it can
    :param placement: whether mom places guests
    """
    nodes = with_memory(read_nodes(root))
    if not nodes:
        yield Finding(Severity.WARNING, SUBJECT, "the kernel shows no NUMA nodes (/sys/devices/system/node)")
    elif len(nodes) == 1:
        yield Finding(Severity.OK, SUBJECT, "one node: there is nothing to place")
    else:
        for node in nodes:
            cpus, memory = format_list(node.cpus) or "none", f"{format_kib(node.available)} of {format_kib(node.total)} available"
            yield Finding(Severity.OK, SUBJECT, f"node {node.number}: CPUs {cpus}, {memory}")
    yield from _others(root, len(nodes), placement=placement)
    if unmovable:
        yield Finding(Severity.WARNING, SUBJECT, f"memory cannot be moved: {unmovable}", "run mom as root on the guests' own host")
    if hypervisor is None:
        yield Finding(Severity.WARNING, SUBJECT, "guests were not looked at: no hypervisor was reached")
        return
    for what, capability in (("pin vCPUs", CpuPinControl), ("choose NUMA nodes", NodeTuneControl)):
        if not isinstance(hypervisor, capability):
            yield Finding(Severity.WARNING, SUBJECT, f"{hypervisor.uri} cannot {what}")
    yield from _guests(hypervisor, root)


def _others(root: Path, nodes: int, *, placement: bool) -> Iterable[Finding]:
    if nodes < 2:
        return
    balancing = read_balancing(root)
    if balancing:
        message = "the kernel's own NUMA balancing is on: it moves memory to where vCPUs run"
        yield Finding(Severity.OK, SUBJECT, message + (", and helps mom with guests that are pinned" if placement else ""))
    if placement and pid_of("numad", root / "proc"):
        message = "numad runs and pins guests too, against mom"
        yield Finding(Severity.WARNING, SUBJECT, message, "systemctl disable --now numad, or leave `placement` off")


def _guests(hypervisor: Hypervisor, root: Path) -> Iterable[Finding]:
    try:
        guests = hypervisor.guests()
    except HypervisorError as error:
        yield Finding(Severity.ERROR, SUBJECT, f"the guests cannot be looked at: {error}", "see what the hypervisor plugin says above")
        return
    without = [printable(guest.name) for guest in guests if not isinstance(guest.properties.get("pid"), int)]
    unreadable, nameless = [], []
    for guest in guests:
        pid = guest.properties.get("pid")
        if not isinstance(pid, int):
            continue
        process = Process(root / "proc" / str(pid))
        try:
            with (process.folder / "numa_maps").open("rb") as file:
                file.read(1)
        except OSError:
            unreadable.append(printable(guest.name))
        if not process.vcpus():
            nameless.append(printable(guest.name))
    if guests and len(without) == len(guests):
        yield Finding(
            Severity.WARNING, SUBJECT, "no guest is a process of this host: where they are is known only if the hypervisor tells it"
        )
    elif without:
        yield Finding(
            Severity.WARNING, SUBJECT, f"no process was found on this host for guests {joined(without)}: where they are is unknown"
        )
    if unreadable:
        message = f"/proc/PID/numa_maps cannot be read for guests {joined(unreadable)}"
        yield Finding(Severity.WARNING, SUBJECT, message, "run mom as root, or with CAP_SYS_PTRACE")
    if nameless:
        message = f"the vCPU threads of guests {joined(nameless)} have no names, so where they run is unknown"
        yield Finding(Severity.WARNING, SUBJECT, message, "start QEMU with -name …,debug-threads=on, as libvirt does")
    if guests and not (without or unreadable or nameless):
        yield Finding(Severity.OK, SUBJECT, f"where {len(guests)} guests are can be seen")
