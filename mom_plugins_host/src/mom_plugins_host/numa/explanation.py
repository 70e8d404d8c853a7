"""Sentences of `mom explain`; imported late, as they need mom-daemon."""

from __future__ import annotations

from collections.abc import Iterator

from mom_core import format_kib, printable
from mom_daemon import About, Explainer, ExplanationPart, Sentence, SentencePlace
from mom_plugins_host.numa import nodes


class NodesExplainer(Explainer):
    """NUMA nodes that hold the guest's memory, and those that may."""

    controls = nodes.CONTROLS

    def part(self, about: About) -> ExplanationPart:
        """Return nothing on a host with one node."""
        if about.report.snapshot.host.fields.get("numa_node_count") == 1:
            return ExplanationPart(())
        return ExplanationPart([Sentence("nodes", text, SentencePlace.PRESENT + 2) for text in _node_sentences(about)])


def _node_sentences(about: About) -> Iterator[str]:
    sizes = nodes.memory_by_node(about.guest)
    if parts := [f"node {node} ({format_kib(size)})" for node, size in sizes.items() if size]:
        yield f"Its memory is on {', '.join(parts)}."
    nodeset = about.guest.fields.get(nodes.NODESET)
    if isinstance(nodeset, str) and nodeset:
        yield f"It may have memory of the nodes {printable(nodeset, 100)}."
