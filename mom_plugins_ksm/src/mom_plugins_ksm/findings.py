"""What keeps mom from using KSM on this host, each with its cure."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from mom_core import Declarations, Finding, Scope, Severity, Value
from mom_plugins_ksm.fields import saved_kib, tracked_kib
from mom_plugins_ksm.sysfs import ADVISOR_CURE
from mom_toolkit import pid_of

_LAW_READS = ("mem_available", "mem_really_available", "mem_free", "cpu_count")
"""Host fields of other plugins that the law reads."""


def knobs_finding(folder: Path, *, present: bool, writes: bool) -> Finding:
    """Whether KSM can be set.

    :param folder: where its files are
    :param present: whether `run` could be read there
    :param writes: whether mom writes there itself; otherwise the hypervisor does
    """
    if not present:
        cure = "use a kernel built with CONFIG_KSM=y, or take the plugin ksm out of the configuration"
        return Finding(Severity.ERROR, "KSM", f"{folder} is missing or unreadable: this kernel merges no pages", cure)
    if not writes:
        return Finding(Severity.OK, "KSM", f"{folder} is there, and the hypervisor writes to it")
    if not os.access(folder / "run", os.W_OK):
        cure = "run mom as root, with /sys mounted read-write (mount -o remount,rw /sys)"
        return Finding(Severity.ERROR, "KSM", f"{folder / 'run'} is not writable: KSM stays as it is", cure)
    return Finding(Severity.OK, "KSM", f"{folder} is there and writable")


def scanner_findings(found: Mapping[str, Value], proc: Path) -> Iterator[Finding]:
    """Who else sets the scanner's speed, and whether its price can be seen.

    :param found: KSM's files, by name
    """
    mode = found.get("advisor_mode", "none")
    if mode != "none":
        message = f"the kernel's advisor ({mode}) is on and sets pages_to_scan: mom leaves the scanner's speed to it"
        yield Finding(Severity.WARNING, "KSM advisor", message, f"{ADVISOR_CURE}, if mom is to set the speed")
    pid = pid_of("ksmtuned", proc)
    if pid:
        message = f"ksmtuned runs (pid {pid}) and sets the same knobs as mom: they would undo each other's work"
        yield Finding(Severity.ERROR, "KSM and ksmtuned", message, "systemctl disable --now ksmtuned")
    if "ksmd_cpu_seconds" not in found:
        message = "ksmd is not seen in /proc, so what KSM costs is unknown: policies cannot limit its CPU time"
        yield Finding(Severity.WARNING, "KSM cost", message, "run mom outside of containers, or with the host's PID namespace")


def yield_findings(found: Mapping[str, Value], page_size: int) -> Iterator[Finding]:
    """What KSM gains, and what that has cost so far; nothing where it has never looked.

    :param found: KSM's files, by name
    :param page_size: bytes
    """
    saved = saved_kib(found, page_size)
    if saved is None or not tracked_kib(found, page_size):
        return
    spent = found.get("ksmd_cpu_seconds")
    cost = f"; ksmd has used {spent:.0f} s of CPU time since the host was started" if isinstance(spent, int | float) else ""
    if saved < 0:
        cure = "mom stops it and frees its books when it has looked; or: echo 2 > /sys/kernel/mm/ksm/run"
        yield Finding(Severity.OK, "KSM yield", f"its books need {-saved >> 10} MiB more than merging saves{cost}", cure)
    else:
        yield Finding(Severity.OK, "KSM yield", f"merging saves {saved >> 10} MiB, less what its books need{cost}")


def numa_findings(found: Mapping[str, Value], nodes: Path) -> Iterator[Finding]:
    """Whether guests may come to read merged pages from another NUMA node, which the policy leaves to the operator.

    :param found: KSM's files, by name
    :param nodes: the kernel's list of nodes, such as `0-1`
    """
    try:
        several = nodes.read_text("ascii", "replace").strip() not in {"", "0"}
    except OSError:
        return
    if several and found.get("merge_across_nodes") == 1:
        message = "pages of different NUMA nodes are merged, which saves most, but guests may read them from a node that is far away"
        cure = "to keep them apart: echo 2 > run, echo 0 > merge_across_nodes, both in /sys/kernel/mm/ksm; mom leaves it as it is"
        yield Finding(Severity.OK, "KSM and NUMA", message, cure)


def law_findings(declarations: Declarations, *, evaluated: bool) -> Iterator[Finding]:
    """Whether the law finds the fields that it reads.

    :param evaluated: an enabled plugin evaluates the policy that takes what it suggests
    """
    missing = [name for name in _LAW_READS if (Scope.HOST, name) not in declarations.fields]
    if declarations.fields and missing and evaluated:
        message = f"the KSM law reads {', '.join(missing)}, which no enabled plugin collects: it suggests nothing"
        yield Finding(Severity.ERROR, "KSM law", message, "enable the plugin host")
