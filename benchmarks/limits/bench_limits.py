"""How much CPU time limits of guests cost: reading them from descriptions, and each cycle, on guests that are kept in memory.

    python benchmarks/limits/bench_limits.py [--guests 12,1000] [--rounds 30] [--json]

descriptions  what a guest's description says about limits, read from XML; happens once, and after each change
collect       the fields of all guests, in a cycle in which nothing has changed
hold          a cycle in which every guest has limits from the YAML file and all of them stand: decided, reviewed, and found unchanged
set           the same, with all limits to be set on a hypervisor of memory only

Milliseconds of CPU time for all guests together; the median of the rounds. It ends with 1 when a target is missed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from xml.etree import ElementTree

from mom_libvirt.tuning_xml import tuning_of

from mom_core import Decision, Guest, Host, PluginContext, Snapshot
from mom_devkit import FakeGuest, FakeHypervisor, apply_decisions
from mom_plugins_host.qos import QosPlugin
from mom_plugins_host.qos.settings import QosGuestSettings, QosSettings

TARGETS_MS = {("collect", 1000): 15.0, ("hold", 1000): 40.0}

_DISK = """<disk type='file' device='disk'><source file='/var/lib/libvirt/images/{n}.qcow2'/><target dev='vd{n}' bus='virtio'/>
  <iotune><total_bytes_sec>52428800</total_bytes_sec><total_iops_sec>500</total_iops_sec></iotune></disk>"""
_XML = f"""<domain><metadata><t:qos xmlns:t="http://ovirt.org/vm/tune/1.0"><t:vcpuLimit>50</t:vcpuLimit></t:qos></metadata><devices>
{"".join(_DISK.format(n=n) for n in "abcd")}
<interface type='bridge'><target dev='vnet0'/><bandwidth><inbound average='1000'/></bandwidth></interface></devices></domain>"""

_OURS = {"cpu_limit": "10%", "cpu_shares": 512, "io_limit": {"total_bytes_sec": "50MiB", "total_iops_sec": 500}}


def measured(work: Callable[[], object], rounds: int) -> float:
    """The median of ms of CPU time."""
    times = []
    for _ in range(rounds):
        began = time.process_time()
        work()
        times.append((time.process_time() - began) * 1000)
    return statistics.median(times)


def measure(count: int, rounds: int) -> dict[str, float]:
    """All numbers for so many guests."""
    hypervisor = FakeHypervisor([FakeGuest(f"vm{number}", str(number)) for number in range(count)])
    listed = hypervisor.guests()
    ours = QosGuestSettings.model_validate(_OURS)
    plugin = QosPlugin(QosSettings(), PluginContext(name="qos", guest_settings=lambda guest: ours))

    def collect() -> Snapshot:
        fields = plugin.mom_collect_guests(hypervisor, listed)
        guests: dict[str, Guest] = {guest.id: replace(guest, fields={**fields[guest.id], "vcpu_count": 2}) for guest in listed}
        return Snapshot(Host(fields={"cpu_count": 8}), guests)

    def hold() -> None:
        snapshot = collect()
        decisions: Sequence[Decision] = [one for one in plugin.mom_act(snapshot) if isinstance(one, Decision)]
        assert not list(plugin.mom_review(snapshot, decisions))
        assert len(apply_decisions(plugin, decisions, hypervisor)) == len(decisions) == 4 * count

    def release() -> None:
        for guest in listed:
            hypervisor.set_cpu_tune(guest.entity, quota_us=-1, shares=1024)
            hypervisor.set_io_tune(guest.entity, "vda", {"total_bytes_sec": 0, "total_iops_sec": 0})

    def set_all() -> float:
        release()
        return measured(hold, 1)

    element = ElementTree.fromstring(_XML)  # noqa: S314  # a text of this file
    found = {"descriptions": measured(lambda: [tuning_of(element) for _ in range(count)], rounds)}
    found["set"] = statistics.median(set_all() for _ in range(rounds))
    found["collect"] = measured(lambda: plugin.mom_collect_guests(hypervisor, listed), rounds)
    found["hold"] = measured(hold, rounds)
    return {name: round(ms, 2) for name, ms in found.items()}


def main() -> int:
    """Measure and print; 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--guests", default="12,1000")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = {count: measure(count, options.rounds) for count in map(int, options.guests.split(","))}
    if options.json:
        print(json.dumps(results))
    else:
        for count, found in results.items():
            print(f"{count:6} guests: " + ", ".join(f"{name} {ms:.2f} ms" for name, ms in found.items()))
    missed = [name for (name, count), target in TARGETS_MS.items() if results.get(count, {}).get(name, 0.0) > target]
    for name in missed:
        print(f"{name} takes too long", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
