"""The findings of `mom doctor` about NUMA."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from mom_core import Finding, Guest, Hypervisor, HypervisorError, Severity, first_names, format_kib
from mom_kvm import CpuPinControl, NodeTuneControl, ProcessStat, listed_guests, open_process_file, pid_of, root_cure
from mom_plugins_host.numa.fields import balancing_knob
from mom_plugins_host.numa.nodes import read_nodes, with_memory
from mom_plugins_host.numa.numbers import format_list
from mom_plugins_host.numa.process import Process

SUBJECT = "NUMA"


def findings(hypervisor: Hypervisor | None, root: Path) -> Iterable[Finding]:
    """Nodes, what places guests on them, and what can be controlled and read."""
    nodes = with_memory(read_nodes(root))
    if not nodes:
        yield Finding(Severity.WARNING, SUBJECT, "the kernel shows no NUMA nodes (/sys/devices/system/node)")
    elif len(nodes) == 1:
        yield Finding(Severity.OK, SUBJECT, "one node: there is nothing to place")
    else:
        for node in nodes:
            cpus, memory = format_list(node.cpus) or "none", f"{format_kib(node.available)} of {format_kib(node.total)} available"
            yield Finding(Severity.OK, SUBJECT, f"node {node.number}: CPUs {cpus}, {memory}")
        yield _placement(root)
    for what, capability in (("pin vCPUs", CpuPinControl), ("choose NUMA nodes", NodeTuneControl)):
        if hypervisor is not None and not isinstance(hypervisor, capability):
            yield Finding(Severity.WARNING, SUBJECT, f"{hypervisor.uri} cannot {what}")
    guests = yield from listed_guests(hypervisor, SUBJECT)
    if guests is not None:
        yield from _about_guests(guests, root)


def _placement(root: Path) -> Finding:
    """Who keeps guests together on a node: mom shows where they are, and leaves that to the kernel and to numad."""
    if ProcessStat.id_of("numad", root / "proc"):
        return Finding(Severity.OK, SUBJECT, "numad places guests: leave `vcpu_pins` and `numa_nodeset` to it")
    try:
        balancing = balancing_knob(root).read()
    except HypervisorError:
        balancing = None
    if balancing:
        return Finding(Severity.OK, SUBJECT, "the kernel's own NUMA balancing is on: it moves memory to where vCPUs run")
    cure = "sysctl kernel.numa_balancing=1, or run numad"
    return Finding(Severity.WARNING, SUBJECT, "nothing keeps guests' memory near their vCPUs: no numad, and NUMA balancing is off", cure)


def _about_guests(guests: Sequence[Guest], root: Path) -> Iterable[Finding]:
    without, unreadable, nameless = [], [], []
    for guest in guests:
        pid, name = pid_of(guest), guest.name
        if pid is None:
            without.append(name)
            continue
        process = Process(root / "proc" / str(pid))
        try:
            os.close(open_process_file(process.folder, "numa_maps"))
        except OSError:
            unreadable.append(name)
        if not process.vcpus():
            nameless.append(name)
    if without:
        message = f"guests {first_names(without)} have no process on this host: where they are is unknown"
        yield Finding(Severity.WARNING, SUBJECT, message)
    if unreadable:
        message = f"/proc/PID/numa_maps cannot be read for guests {first_names(unreadable)}"
        yield Finding(Severity.WARNING, SUBJECT, message, root_cure())
    if nameless:
        message = f"the vCPU threads of guests {first_names(nameless)} have no names, so where they run is unknown"
        yield Finding(Severity.WARNING, SUBJECT, message, "start QEMU with -name …,debug-threads=on, as libvirt does")
    if guests and not (without or unreadable or nameless):
        yield Finding(Severity.OK, SUBJECT, f"where {len(guests)} guests are can be seen")
