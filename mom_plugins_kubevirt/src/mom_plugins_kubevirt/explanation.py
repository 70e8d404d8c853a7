"""What `mom explain` says of a guest's pod."""

from __future__ import annotations

from collections.abc import Iterator

from mom_core import format_kib, printable
from mom_daemon import About, Explainer, ExplanationPart, Sentence, SentencePlace
from mom_plugins_kubevirt.node_fields import ASKING, PROMISE, PROMISED_BY, REQUEST


class PodExplainer(Explainer):
    """What the pod requests, what of that is promised to the guest, and who says so."""

    def part(self, about: About) -> ExplanationPart:
        """Nothing of a guest that is in no pod."""
        return ExplanationPart([Sentence("pod", text, SentencePlace.PROMISED) for text in _sentences(about)])


def _sentences(about: About) -> Iterator[str]:
    if "kubevirt.pod" not in about.guest.properties:
        return
    promised, request, by = about.number(PROMISE), about.number(REQUEST), about.guest.text(PROMISED_BY)
    if promised is None or not by:
        yield "What its pod requests is not known, so no size is promised to it by that; it keeps what it uses."
    elif by == ASKING:
        yield f"The kubelet is being asked what its pod requests; until it answers, the guest is promised its size, {format_kib(promised)}."
    elif request is None:
        yield f"By {printable(by, 60)}, {format_kib(promised)} are promised to it; what its pod requests is not known."
    else:
        own = request - promised
        beside = f", of which {format_kib(own)} are for KubeVirt's own programs" if own > 0 else ""
        yield f"Its pod requests {format_kib(request)}, as {printable(by, 60)} says{beside}: {format_kib(promised)} are promised to it."
