"""Below which size a decision harms a guest."""

import pytest

from mom_core import Guest, Value
from mom_plugins_record.replay.comparison import need_of

GIB = 1 << 20


def a_guest(**fields: Value) -> Guest:
    """A guest of 2 GiB, sold with 4, that could give half of what it has."""
    known: dict[str, Value] = {"balloon_max": 4 * GIB, "balloon_cur": 2 * GIB, "mem_usable": GIB, "stats_age": 1.0}
    return Guest("g", "g", {name: value for name, value in {**known, **fields}.items() if value is not None})


@pytest.mark.parametrize(
    ("fields", "need"),
    [
        ({}, (GIB, "uses")),
        ({"guest_guarantee": 1.5 * GIB}, (1.5 * GIB, "is guaranteed")),
        ({"guest_guarantee": 0.5 * GIB}, (GIB, "uses")),
        ({"guest_guarantee": 3 * GIB}, (2 * GIB, "is guaranteed")),
        ({"mem_usable": None, "guest_guarantee": GIB}, (GIB, "is guaranteed")),
        ({"balloon_cur": None, "guest_guarantee": GIB}, (GIB, "is guaranteed")),
        ({"mem_usable": None}, (None, "is guaranteed")),
    ],
)
def test_a_guest_needs_what_it_uses_or_is_guaranteed_and_no_more_than_it_has(fields: dict[str, Value], need: tuple[float, str]) -> None:
    assert need_of(a_guest(**fields)) == need
