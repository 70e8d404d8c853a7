"""What `mom status` and `mom guests` say of what the host should have, and of what guests are promised."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from mom_core import Report, Value, as_number, format_kib
from mom_plugins_balloon.guarantees import guaranteed_kib
from mom_plugins_balloon.names import OBSTACLE
from mom_toolkit import GuestColumn, StatusPart


def host_parts(report: Report) -> Iterator[StatusPart]:
    """What the host should have available, how it is off, and what is kept for launches."""
    host = report.snapshot.host
    wanted, state, reserved = host.number("mem_watermark_high"), host.text("host_memory_state"), host.number("mem_reserved")
    if wanted is not None:
        yield StatusPart("host", f"wanted {format_kib(wanted)}" + ("" if state is None else f" (state {state})"), 20)
    if reserved:
        yield StatusPart("host", f"reserved for launches {format_kib(reserved)}", 40)


def _guaranteed(fields: Mapping[str, Value]) -> str:
    kib = guaranteed_kib(fields)
    return "?" if kib is None else format_kib(kib) if kib else "nothing"


def _unkept(fields: Mapping[str, Value]) -> str:
    """What the guest was promised, where that is more than the host can keep."""
    promised, holds = as_number(fields.get("mem_promised")), guaranteed_kib(fields)
    return format_kib(promised) if promised is not None and holds is not None and holds < promised else ""


def _obstacle(fields: Mapping[str, Value]) -> str:
    return str(fields.get(OBSTACLE) or "")


COLUMNS: Final = (
    GuestColumn("guaranteed", _guaranteed, 30),
    GuestColumn("promised", _unkept, 31, 1, "this host cannot keep all of it; what holds is guaranteed"),
    GuestColumn("remarks", _obstacle),
)
