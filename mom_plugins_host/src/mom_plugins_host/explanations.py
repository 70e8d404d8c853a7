"""Sentences of `mom explain`. Imported late, because they need mom-daemon."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

from mom_core import DiskTune, format_kib, lasting, printable
from mom_daemon import About, Explainer, Sentence
from mom_plugins_host.cgroup import groups
from mom_plugins_host.credit.control import CREDIT, DELAY
from mom_plugins_host.numa import nodes
from mom_plugins_host.offload import fields
from mom_plugins_host.qos.control import CONTROLS, DISKS_NOW, USER_LIMIT
from mom_plugins_host.qos.settings import PERIOD, QUOTA

_GROUP_LIMITS: Final = {
    groups.MEMORY_HIGH: "above {}, the kernel reclaims its memory and slows it down",
    groups.MEMORY_LOW: "below {}, the kernel reclaims its memory only as a last resort",
    groups.MEMORY_MIN: "below {}, the kernel never reclaims its memory",
    groups.SWAP_MAX: "at most {} of its memory may be in the host's swap",
}

_ALL_CPUS_PERCENT: Final = 100


class GroupExplainer(Explainer):
    """Explanation of a guest's memory on the host, and of its control group's limits."""

    controls = groups.CONTROLS
    topic, place = "group", Sentence.PRESENT + 1

    def sentences(self, about: About) -> Iterator[str]:
        """Yield the sentences."""
        held, swapped = about.number(groups.CURRENT), about.number(groups.SWAP)
        if held is not None:
            swap = f", and another {format_kib(swapped)} in swap" if swapped else ""
            yield f"The host holds {format_kib(held)} for it, including QEMU and caches{swap}."
        sizes = ((words, about.number(name)) for name, words in _GROUP_LIMITS.items())
        limits = [words.format(format_kib(kib)) for words, kib in sizes if kib is not None and kib > 0]
        if limits:
            yield f"Limits of its control group: {'; '.join(limits)}."
        if about.number(CREDIT) and (high := about.number(groups.MEMORY_HIGH)) is not None and high > 0:
            yield f"For now, it may grow to {format_kib(high)}, so that guests cannot exhaust the host's memory."
        if delay := about.number(DELAY):
            available = about.report.snapshot.host.number("mem_really_available")
            yield f"Its growth was delayed by {delay:.1f} s{'' if available is None else f': the host had {format_kib(available)} left'}."


class NodesExplainer(Explainer):
    """Explanation of NUMA nodes that hold, or may hold, the guest's memory."""

    controls = nodes.CONTROLS
    topic, place = "nodes", Sentence.PRESENT + 2

    def sentences(self, about: About) -> Iterator[str]:
        """Yield the sentences."""
        if about.report.snapshot.host.fields.get("numa_node_count") == 1:
            return
        sizes = nodes.memory_by_node(about.guest)
        if parts := [f"node {node} ({format_kib(size)})" for node, size in sizes.items() if size]:
            yield f"Its memory is on {', '.join(parts)}."
        nodeset = about.guest.fields.get(nodes.NODESET)
        if isinstance(nodeset, str) and nodeset:
            yield f"Its memory may come from the nodes {printable(nodeset, 100)}."


class LimitsExplainer(Explainer):
    """Explanation of a guest's limits of CPU time and disk I/O."""

    controls = CONTROLS
    topic, place = "limits", Sentence.PROMISED

    def sentences(self, about: About) -> Iterator[str]:
        """Yield the sentences."""
        quota, period, agreed = about.number(QUOTA), about.number(PERIOD), about.number(USER_LIMIT)
        if quota is not None and period and quota > 0:
            yield f"Each of its vCPUs may use {100 * quota / period:.0f} % of a CPU."
        if agreed is not None and agreed < _ALL_CPUS_PERCENT:
            yield f"The agreed CPU time is {agreed:g} % of the host's CPUs."
        for disk in about.guest.items(DISKS_NOW) or ():
            limits = [f"{key} {value:,}" for key in DiskTune.LIMITS if isinstance(value := disk.get(key), int) and value > 0]
            if limits:
                yield f"Its disk {printable(str(disk.get('name')), 60)} is limited: {', '.join(limits)}."


class ColdExplainer(Explainer):
    """Explanation of a guest's working set and memory in swap."""

    controls = fields.CONTROLS
    nouns: Mapping[str, str] = MappingProxyType({fields.OFFLOAD: "cold memory to swap at"})
    verbs: Mapping[str, tuple[str, str]] = MappingProxyType({fields.OFFLOAD: ("swapped out faster", "swapped out more slowly")})
    topic, place = "cold memory", Sentence.PRESENT + 2

    def sentences(self, about: About) -> Iterator[str]:
        """Yield the sentences."""
        working_set, age, cold = (about.number(name) for name in (fields.WORKING_SET, fields.WORKING_SET_AGE, fields.COLD))
        if working_set is not None and age is not None and cold is not None:
            yield f"Its working set was {format_kib(working_set)} when measured {lasting(age)} ago; another {format_kib(cold)} are cold."
        swapped, moved = about.number("host_swap"), about.number(fields.OFFLOADED)
        if swapped or moved:
            by_mom = f"; mom has moved {format_kib(moved)} there since mom first saw the guest" if moved else ""
            yield f"{format_kib(swapped or 0)} of its memory are in the host's swap{by_mom}."
        why = about.guest.fields.get(fields.STATE)
        if isinstance(why, str) and why:
            yield f"mom moves none of its memory to swap now: {printable(why, 200)}."
