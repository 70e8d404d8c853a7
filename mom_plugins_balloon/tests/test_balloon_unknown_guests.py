"""Guests of which the balloon law knows too little: nothing is suggested for them, whatever the host has."""

from typing import Any

import pytest

from mom_plugins_balloon.law import GuestAsk, GuestLook, LawGuest, LawHost
from mom_plugins_balloon.parameters import LawParameters
from mom_plugins_balloon.reasons import ReasonCode

MIB = 1024
GIB = 1024 * MIB
SHORT, AMPLE = LawHost(100 * MIB, 1300 * MIB, 400 * MIB, 200 * MIB), LawHost(20 * GIB, 1300 * MIB, 400 * MIB, 200 * MIB)
IDLE = LawGuest(size=2 * GIB, maximum=4 * GIB, usable=GIB, age=0.2, total=2 * GIB, unused=GIB, kernel_reserved=0, rss=2 * GIB, overhead=0)


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
def test_a_guest_of_which_too_little_is_known_keeps_its_size(host: LawHost, unknown: dict[str, Any], code: ReasonCode) -> None:
    look = GuestLook(host, LawParameters(), easy=host is AMPLE)
    assert look.at(IDLE._replace(**unknown)) == GuestAsk(code, keeps=True)
    assert not look.at(IDLE).keeps, "by these figures it would have another one"


@pytest.mark.parametrize("unused", [GIB, None], ids=["told", "by what is usable"])
@pytest.mark.parametrize("unknown", ["size", "maximum", "usable", "total", "kernel_reserved", "rises"])
def test_what_is_unknown_of_a_guest_is_not_ready_for_what_it_is_expected_to_use(unknown: str, unused: float | None) -> None:
    guest = IDLE._replace(rises=300 * MIB, unused=unused)
    look = GuestLook(AMPLE, LawParameters(), easy=False)
    assert look.ready(guest) > 0
    lacking: dict[str, Any] = {unknown: None}
    is_read = unused is None or unknown not in {"size", "maximum", "usable"}
    assert (look.ready(guest._replace(**lacking)) == 0.0) is is_read
