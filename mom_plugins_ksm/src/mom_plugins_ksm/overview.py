"""Explanations of KSM for commands and the web page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

from mom_core import Report
from mom_daemon import Explainer, StatusPart
from mom_plugins_ksm.control import CONTROLS, PAGES_TO_SCAN, RUN, SLEEP
from mom_plugins_ksm.law import KsmReason

REASONS: Final[Mapping[str, str]] = {
    KsmReason.AMPLE: "the host has enough memory",
    KsmReason.LOOK: "KSM scans for new equal pages",
    KsmReason.WORK: "the last scan was worth its CPU time",
    KsmReason.REST: "KSM pauses, because the last scan saved little",
    KsmReason.BOOKS: "KSM's own data needed more memory than it saved",
}


class KsmExplainer(Explainer):
    """Explanation of changes of KSM's knobs."""

    controls = CONTROLS
    verbs: Mapping[str, tuple[str, str]] = MappingProxyType(
        {
            f"ksm_{RUN}": ("set to another KSM mode (0 stop, 1 merge, 2 unmerge)",) * 2,
            f"ksm_{PAGES_TO_SCAN}": ("scanned faster by KSM", "scanned more slowly by KSM"),
            f"ksm_{SLEEP}": ("scanned more slowly by KSM", "scanned faster by KSM"),
        }
    )
    phrases = REASONS


def ksm_parts(report: Report) -> Iterator[StatusPart]:
    """Yield KSM's part of `mom status`: on or off, shared pages, and the reason."""
    fields = report.snapshot.host.fields
    run, shared = fields.get("ksm_run"), fields.get("ksm_pages_sharing")
    if run is not None:
        pages = f", {shared:,} pages shared" if isinstance(shared, int | float) else ""
        applied = report.mode == "enforce" and fields.get("ksm_suggested_run") in (None, run)
        reason = REASONS.get(str(fields.get("ksm_reason")), "") if applied else ""
        yield StatusPart("host", f"KSM {'on' if run == 1 else 'off'}{pages}{': ' * bool(reason)}{reason}", 60)
