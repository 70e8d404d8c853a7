"""What `mom guests` shows of cold memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mom_core import Value, as_number, format_kib, lasting
from mom_plugins_offload.names import COLD, WORKING_SET_AGE
from mom_toolkit import GuestColumn


def _cold(fields: Mapping[str, Value]) -> str:
    cold, age = as_number(fields.get(COLD)), as_number(fields.get(WORKING_SET_AGE))
    return "?" if cold is None or age is None else f"{format_kib(cold)}, {lasting(age)} ago"


_LEGEND: Final = "not touched, in the host's memory or in its swap; learnt so long ago"

COLUMNS: Final = (GuestColumn("cold", _cold, place=45, rank=3, legend=_LEGEND),)
