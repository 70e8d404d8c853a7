"""Guests of which the balloon law knows too little: nothing is suggested for them, whatever the host has."""

from typing import Any

import pytest
from guest_facts import memory_of, with_facts

from mom_plugins_balloon.law.context import context_of
from mom_plugins_balloon.law.reasons import ReasonCode
from mom_plugins_balloon.law.want import Ask, ask_of, ready_memory
from mom_plugins_balloon.memory import HostMemory
from mom_plugins_balloon.parameters import LawParameters

MIB = 1024
GIB = 1024 * MIB
SHORT, AMPLE = HostMemory(100 * MIB, 1300 * MIB, 400 * MIB, 200 * MIB), HostMemory(20 * GIB, 1300 * MIB, 400 * MIB, 200 * MIB)
IDLE = memory_of(
    size=2 * GIB, maximum=4 * GIB, usable=GIB, age=0.2, total=2 * GIB, unused=GIB, kernel_reserved=0, rss=2 * GIB, qemu_overhead=0
)


@pytest.mark.parametrize(
    ("unknown", "code"),
    [
        ({"size": None}, ReasonCode.UNKNOWN),
        ({"maximum": None}, ReasonCode.UNKNOWN),
        ({"age": None}, ReasonCode.UNKNOWN),
        ({"usable": None}, ReasonCode.SILENT),
        ({"age": 9.0}, ReasonCode.STALE),
    ],
    ids=["size", "maximum", "age", "usable", "too old"],
)
@pytest.mark.parametrize("host", [SHORT, AMPLE], ids=["short", "ample"])
def test_unknown_guest_keeps_its_size(host: HostMemory, unknown: dict[str, Any], code: ReasonCode) -> None:
    context = context_of(host, LawParameters(), no_reclaim=host is AMPLE)
    assert ask_of(with_facts(IDLE, **unknown), context) == Ask(code, keeps_size=True)
    assert not ask_of(IDLE, context).keeps_size, "by these figures it would have another one"


@pytest.mark.parametrize("unused", [GIB, None], ids=["told", "by what is usable"])
@pytest.mark.parametrize("unknown", ["size", "maximum", "usable", "total", "kernel_reserved", "rise"])
def test_unknown_facts_make_no_memory_ready(unknown: str, unused: float | None) -> None:
    guest, context = with_facts(IDLE, rise=300 * MIB, unused=unused), context_of(AMPLE, LawParameters())
    assert ready_memory(guest, context) > 0
    lacking: dict[str, Any] = {unknown: None}
    is_read = unused is None or unknown not in {"size", "maximum", "usable"}
    assert (ready_memory(with_facts(guest, **lacking), context) == 0.0) is is_read
