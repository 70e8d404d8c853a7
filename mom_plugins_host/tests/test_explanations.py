"""Sentences of `mom explain` about guests' groups, nodes, limits and cold memory."""

import pytest

from mom_core import Report, Value
from mom_core.testing import snapshot
from mom_daemon import About, Explainer
from mom_plugins_host.explanations import ColdExplainer, GroupExplainer, LimitsExplainer, NodesExplainer

GIB = 1 << 20
MEMORY: Value = [{"node": 0, "size": 3 * GIB}, {"node": 1, "size": 0}, {"node": 2, "size": GIB}, 7]
DISKS: Value = [{"name": "vda", "total_iops_sec": 1000, "total_bytes_sec": 0, "read_iops_sec": None}, {"name": "vdb"}, 7]
GROUP: dict[str, Value] = {
    "cgroup_memory_current": 2 * GIB, "cgroup_swap_current": GIB, "cgroup_memory_high": 3 * GIB, "cgroup_memory_low": 0,
    "cgroup_memory_min": GIB,
}  # fmt: skip
COLD: dict[str, Value] = {
    "working_set": 300 << 10, "working_set_age": 5.0, "cold": 500 << 10, "host_swap": 400 << 10, "offloaded": 410 << 10,
    "offload_state": "other guests' cold memory costs less, and is enough",
}  # fmt: skip


@pytest.mark.parametrize(
    ("explainer", "nodes", "fields", "words"),
    [
        (GroupExplainer, None, {"cgroup_memory_high": -1}, []),
        (
            GroupExplainer, None, GROUP,
            [
                "The host holds 2.00 GiB for it, including QEMU and caches, and another 1.00 GiB in swap.",
                "Limits of its control group: above 3.00 GiB, the kernel reclaims its memory and slows it down;"
                " below 1.00 GiB, the kernel never reclaims its memory.",
            ],
        ),
        (NodesExplainer, 2, {"numa_memory": MEMORY}, ["Its memory is on node 0 (3.00 GiB), node 2 (1.00 GiB)."]),
        (NodesExplainer, None, {"numa_nodeset": "0-1"}, ["Its memory may come from the nodes 0-1."]),
        (NodesExplainer, 1, {"numa_memory": MEMORY, "numa_nodeset": "0"}, []),
        (LimitsExplainer, None, {"vcpu_quota": -1, "vcpu_period": 100_000, "vcpu_user_limit": 100, "io_tune_current": []}, []),
        (LimitsExplainer, None, {"vcpu_quota": 25_000, "vcpu_period": 100_000}, ["Each of its vCPUs may use 25 % of a CPU."]),
        (LimitsExplainer, None, {"vcpu_quota": 25_000, "vcpu_period": None}, []),
        (LimitsExplainer, None, {"vcpu_user_limit": 50}, ["The agreed CPU time is 50 % of the host's CPUs."]),
        (LimitsExplainer, None, {"io_tune_current": DISKS}, ["Its disk vda is limited: total_iops_sec 1,000."]),
        (
            ColdExplainer, None, COLD,
            [
                "Its working set was 300 MiB when measured 5 s ago; another 500 MiB are cold.",
                "400 MiB of its memory are in the host's swap; mom has moved 410 MiB there since mom first saw the guest.",
                "mom moves none of its memory to swap now: other guests' cold memory costs less, and is enough.",
            ],
        ),
    ],
)  # fmt: skip
def test_known_fields_become_sentences(explainer: type[Explainer], nodes: int | None, fields: dict[str, Value], words: list[str]) -> None:
    taken = snapshot(host={"numa_node_count": nodes}, guests={"web": fields})
    report = Report(1, taken.time, "enforce", taken, (), (), (), (), (), 0.01)
    assert [sentence.text for sentence in explainer().part(About(report, taken.guests["web"])).sentences] == words
