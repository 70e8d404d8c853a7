"""Part of `mom explain` about a guest's pod."""

from __future__ import annotations

from collections.abc import Iterator

from mom_core import format_kib, printable
from mom_daemon import About, Explainer, Sentence
from mom_plugins_kubevirt.node_fields import ASKING, PROMISE, PROMISED_BY, REQUEST


class PodExplainer(Explainer):
    """Explainer of a pod's memory request, and of the guarantee that follows from it."""

    topic, place = "pod", Sentence.PROMISED

    def sentences(self, about: About) -> Iterator[str]:
        """Yield the sentences."""
        if "kubevirt.pod" not in about.guest.properties:
            return
        promised, request, by = about.number(PROMISE), about.number(REQUEST), about.guest.text(PROMISED_BY)
        if promised is None or not by:
            yield "The pod's request is unknown, so the guest has no guarantee, but keeps the memory that it uses."
        elif by == ASKING:
            yield f"mom asks the kubelet for the pod's request; until then, all of the guest's {format_kib(promised)} are guaranteed."
        elif request is None:
            yield f"According to {printable(by, 60)}, {format_kib(promised)} are guaranteed; the pod's request is unknown."
        else:
            own = request - promised
            overhead = f", {format_kib(own)} of it for KubeVirt's own programs" if own > 0 else ""
            requests = f"The pod requests {format_kib(request)} according to {printable(by, 60)}{overhead}"
            yield f"{requests}: {format_kib(promised)} are guaranteed."
