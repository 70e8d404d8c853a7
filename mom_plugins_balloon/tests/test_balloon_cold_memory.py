"""Cold memory of guests in the room for reservations."""

import pytest
from guest_facts import GIB
from reserving_host import LIMITS

from mom_core import Value
from mom_core.testing import snapshot
from mom_plugins_balloon.ballooned_guests import BalloonedGuests
from mom_plugins_balloon.parameters import LawParameters
from mom_plugins_balloon.room import Spare, seconds_to_free, spare_of

NO_MARGIN = LawParameters(margin=0, margin_percent=0)
HOST: dict[str, Value] = {"offload_room": 8 * GIB, "offload_ratio": 4.0, "mem_available": 32 * GIB}
COLD: dict[str, Value] = {"rss": 4 * GIB, "working_set": GIB, "working_set_age": 60.0}


def spare(host: dict[str, Value] = HOST, **guests: dict[str, Value]) -> Spare:
    records = BalloonedGuests()
    records.see(snapshot(host, guests))
    return spare_of(records, NO_MARGIN, LIMITS)


@pytest.mark.parametrize(
    ("host", "guest", "gain"),
    [
        ({}, {}, 0.75 * 1.5),  # half of the cold memory, less its compressed size
        ({}, {"working_set_age": None}, 0),
        ({}, {"working_set_age": 601.0}, 0),
        ({"offload_room": GIB}, {}, 0.75),
        ({"offload_room": None}, {}, 0),
        ({"offload_ratio": 0.9}, {}, 0),
        ({"offload_room": GIB}, {"offload_refaults": GIB // 10}, 0.375),  # memory that swaps in within a cycle is no gain
        ({"offload_room": GIB}, {"offload_refaults": GIB}, 0),
    ],
)
def test_only_known_cold_memory_counts(host: dict[str, Value], guest: dict[str, Value], gain: float) -> None:
    assert spare(HOST | host, a=COLD | guest).cold == pytest.approx(gain * GIB, rel=0.001)


def test_memory_of_balloon_and_swap_counts_once() -> None:
    fields: dict[str, Value] = {"balloon_cur": 4 * GIB, "balloon_max": 4 * GIB, "mem_usable": 3 * GIB, "stats_age": 1.0, "swap_in": 0}
    both = spare(a=fields | {"swap_out": 0} | COLD)
    assert both.total > 1.5 * GIB
    assert both.cold == 0.0, "the balloon can release more"
    alone = spare(a=COLD)
    assert (alone.total, alone.cold) == (0.0, 0.75 * 1.5 * GIB)


def test_largest_guest_and_cold_guests_set_the_pace() -> None:
    fields: dict[str, Value] = {"balloon_max": 8 * GIB, "stats_age": 1.0, "swap_in": 0, "swap_out": 0}
    large, small = ({**fields, "balloon_cur": size, "mem_usable": size - GIB, "rss": size} for size in (8 * GIB, 2 * GIB))
    alone, both = spare(a=large), spare(a=large, b=small, c=COLD)
    assert both.total > both.largest == alone.total > 6 * GIB
    assert both.cold_pace == pytest.approx(0.0025 * 4 * GIB)


def test_cold_memory_comes_later_than_balloon_memory() -> None:
    spare = Spare(1000.0, 1000.0, cold=600.0, cold_pace=10.0)
    assert seconds_to_free(900, spare, 5) == seconds_to_free(900, Spare(1000.0, 1000.0), 5)
    assert seconds_to_free(1600, spare, 5) == 65.0
    assert seconds_to_free(1601, spare, 5) is None
    assert seconds_to_free(100, Spare(0.0, 0.0, cold=600.0, cold_pace=10.0), 5) == 15.0
