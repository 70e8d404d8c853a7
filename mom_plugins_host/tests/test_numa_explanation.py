"""What is said of the nodes that a guest is on."""

import pytest

from mom_core import Report, Value
from mom_core.testing import snapshot
from mom_daemon import About
from mom_plugins_host.numa.explanation import NodesExplainer

GIB = 1 << 20
MEMORY: Value = [{"node": 0, "size": 3 * GIB}, {"node": 1, "size": 0}, {"node": 2, "size": GIB}, 7]


@pytest.mark.parametrize(
    ("count", "fields", "words"),
    [
        (2, {}, []),
        (2, {"numa_memory": MEMORY}, ["Its memory is on node 0 (3.00 GiB), node 2 (1.00 GiB)."]),
        (None, {"numa_nodeset": "0-1"}, ["It may have memory of the nodes 0-1."]),
        (1, {"numa_memory": MEMORY, "numa_nodeset": "0"}, []),
    ],
)
def test_where_memory_is_and_may_come_from_is_told_of_several_nodes(count: int | None, fields: dict[str, Value], words: list[str]) -> None:
    taken = snapshot(host={"numa_node_count": count}, guests={"web": fields})
    report = Report(1, taken.time, "enforce", taken, (), (), (), (), (), 0.01)
    assert [sentence.text for sentence in NodesExplainer().part(About(report, taken.guests["web"])).sentences] == words
