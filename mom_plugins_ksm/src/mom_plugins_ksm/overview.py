"""What `mom status` says of KSM."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from mom_cli import StatusPart
from mom_core import Report
from mom_plugins_ksm.law import KsmReason

REASONS: Final[Mapping[str, str]] = {
    KsmReason.AWAY: "all guests are gone at once",
    KsmReason.AMPLE: "the host has enough",
    KsmReason.LOOK: "it looks for what is new",
    KsmReason.WORK: "the last scan was worth its CPU time",
    KsmReason.REST: "it rests, as the last scan was worth little",
    KsmReason.BOOKS: "its books needed more than it saved",
}


def ksm_parts(report: Report) -> Iterator[StatusPart]:
    """KSM on or off, the pages that are saved, and the reason."""
    fields = report.snapshot.host.fields
    run, shared = fields.get("ksm_run"), fields.get("ksm_pages_sharing")
    if run is not None:
        pages = f", {shared:,} pages shared" if isinstance(shared, int | float) else ""
        done = report.mode == "enforce" and fields.get("ksm_suggested_run") in (None, run)  # else it is not so for the law's reason
        reason = REASONS.get(str(fields.get("ksm_reason")), "") if done else ""
        yield StatusPart("host", f"KSM {'on' if run == 1 else 'off'}{pages}{': ' * bool(reason)}{reason}", 60)
