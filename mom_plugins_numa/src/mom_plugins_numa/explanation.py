"""What `mom explain` says of the nodes that a guest is on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mom_core import Value, format_kib, printable
from mom_plugins_numa.control import CONTROLS
from mom_plugins_numa.fields import NODESET
from mom_toolkit import About, Explainer, ExplanationPart, Sentence, SentencePlace


class NodesExplainer(Explainer):
    """Where the guest's memory is, and where it may come from."""

    controls = CONTROLS

    def part(self, about: About) -> ExplanationPart:
        """Nothing on a host with one node."""
        several = (number := about.report.snapshot.host.fields.get("numa_node_count")) is None or number != 1
        return ExplanationPart([Sentence("nodes", text, SentencePlace.PRESENT + 2) for text in _sentences(about)] if several else ())


def _sentences(about: About) -> Iterator[str]:
    parts = list(_parts(about.guest.fields.get("numa_memory")))
    if parts:
        yield f"Its memory is on {', '.join(parts)}."
    nodes = about.guest.fields.get(NODESET)
    if isinstance(nodes, str) and nodes:
        yield f"It may have memory of the nodes {printable(nodes, 100)}."


def _parts(memory: Value) -> Iterator[str]:
    for part in memory if isinstance(memory, list | tuple) else ():
        if isinstance(part, Mapping) and isinstance(size := part.get("size"), int | float) and size:
            yield f"node {part.get('node')} ({format_kib(size)})"
