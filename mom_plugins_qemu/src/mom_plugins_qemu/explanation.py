"""Parts of `mom explain` about the device that resizes a guest, and of `mom status` about guests that keep all their memory."""

from __future__ import annotations

from collections.abc import Iterator

from mom_core import Report, first_names, format_kib
from mom_daemon import About, Explainer, Sentence, StatusPart
from mom_plugins_qemu.fields import KEEPS_ALL, PLUGGED, PLUGGED_MAXIMUM, SIZED_BY, VIRTIO_MEM


class WayExplainer(Explainer):
    """Explainer that says whether the balloon or virtio-mem resizes a guest."""

    topic, place = "way", Sentence.KIND

    def sentences(self, about: About) -> Iterator[str]:
        """Say what resizes the guest."""
        way, plugged, most = about.guest.fields.get(SIZED_BY), about.number(PLUGGED), about.number(PLUGGED_MAXIMUM)
        has = "" if plugged is None or most is None else f"; virtio-mem has plugged {format_kib(plugged)} of {format_kib(most)}"
        if way == VIRTIO_MEM:
            yield f"The guest is sized by virtio-mem, because a balloon cannot reclaim its memory{has}."
        elif way is not None:
            yield f"The guest is sized by its balloon and not by virtio-mem, because the balloon works{has}."


def status_parts(report: Report) -> Iterator[StatusPart]:
    """Yield a part about Proxmox VE guests that keep all memory, because they lack Minimum memory."""
    names = [guest.name for guest in report.snapshot.guests.values() if guest.text(KEEPS_ALL)]
    if names:
        yield StatusPart(
            "guests", f"{len(names)} without Minimum memory in Proxmox VE, so mom takes nothing from them: {first_names(names)}"
        )
