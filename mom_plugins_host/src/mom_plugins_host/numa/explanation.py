"""Sentences of `mom explain` on the nodes that a guest is on."""

from __future__ import annotations

from collections.abc import Iterator

from mom_core import format_kib, printable
from mom_daemon import About, Explainer, ExplanationPart, Sentence, SentencePlace
from mom_plugins_host.numa.fields import CONTROLS, NODESET
from mom_plugins_host.numa.numbers import memory_by_node


class NodesExplainer(Explainer):
    """Where the guest's memory is, and where it may come from."""

    controls = CONTROLS

    def part(self, about: About) -> ExplanationPart:
        """Nothing on a host with one node."""
        several = (number := about.report.snapshot.host.fields.get("numa_node_count")) is None or number != 1
        return ExplanationPart([Sentence("nodes", text, SentencePlace.PRESENT + 2) for text in _sentences(about)] if several else ())


def _sentences(about: About) -> Iterator[str]:
    sizes = memory_by_node(about.guest)
    if parts := [f"node {node} ({format_kib(size)})" for node, size in sizes.items() if size]:
        yield f"Its memory is on {', '.join(parts)}."
    nodes = about.guest.fields.get(NODESET)
    if isinstance(nodes, str) and nodes:
        yield f"It may have memory of the nodes {printable(nodes, 100)}."
