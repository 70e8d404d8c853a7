"""Memory that guests keep on a full host."""

import pytest
from guest_facts import memory_of

from mom_plugins_balloon.gate import ShrinkLimits
from mom_plugins_balloon.law import decide
from mom_plugins_balloon.law.reasons import ReasonCode
from mom_plugins_balloon.memory import HostMemory
from mom_plugins_balloon.parameters import LawParameters

MIB = 1024
GIB = 1024 * MIB
FULL = HostMemory(100 * MIB, 1300 * MIB, 400 * MIB, 200 * MIB)


@pytest.mark.parametrize(
    ("killed", "code"), [(None, ReasonCode.TRIM_BURST), (300 * MIB, ReasonCode.CACHE_REFILL)], ids=["it stalled", "programs were killed"]
)
def test_headroom_without_which_programs_were_killed_is_not_taken(killed: float | None, code: ReasonCode) -> None:
    guest = memory_of(
        size=2 * GIB, maximum=4 * GIB, usable=300 * MIB, age=0.2, total=2 * GIB, kernel_reserved=0.0, unused=10 * MIB, cache_share=0.9,
        peak=2 * GIB, stall_floor=300 * MIB, kill_floor=killed,
    )  # fmt: skip
    (suggestion,) = decide(FULL, [guest], LawParameters(), ShrinkLimits(32 * MIB, 0.05, 15.0))
    assert (suggestion.code, suggestion.target is None) == (code, killed is not None)
