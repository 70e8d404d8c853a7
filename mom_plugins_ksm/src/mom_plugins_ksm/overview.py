"""What `mom status` says of KSM."""

from __future__ import annotations

from collections.abc import Iterator

from mom_core import Report
from mom_toolkit import StatusPart


def ksm_parts(report: Report) -> Iterator[StatusPart]:
    """Whether it runs, and how many pages are saved."""
    fields = report.snapshot.host.fields
    run, shared = fields.get("ksm_run"), fields.get("ksm_pages_sharing")
    if run is not None:
        pages = f", {shared:,} pages shared" if isinstance(shared, int | float) else ""
        yield StatusPart("host", f"KSM {'on' if run == 1 else 'off'}{pages}", 60)
