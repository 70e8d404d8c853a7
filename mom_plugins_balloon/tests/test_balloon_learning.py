"""What is learnt of guests: their bursts, what they wait without, and what the host has backed that they do not use."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mom_core import Guest, Snapshot, Value
from mom_plugins_balloon.learning import PROCESS_KIB, Learning
from mom_plugins_balloon.requests import Request

MIB = 1024
TOTAL = 1000 * MIB
HIDDEN = 24 * MIB


class Watched:
    """One guest that tells something each time, and what is learnt of it."""

    def __init__(self) -> None:
        self.learning = Learning(900)
        self.now = 0.0
        self.requests: dict[str, Request] = {}

    def says(self, used: float, after: float = 2.0, incarnation: str = "1", age: float = 0.0, **more: Value) -> dict[str, float]:
        self.now += after
        fields: dict[str, Value] = {
            "balloon_cur": TOTAL + HIDDEN,
            "stats_age": age,
            "mem_available": TOTAL,
            "mem_usable": int(TOTAL - used),
            "mem_unused": int(TOTAL - used),
            "mem_disk_caches": 0,
        }
        guest = Guest("a", "a", fields | more, incarnation=incarnation)
        self.learning.see(Snapshot(guests={"a": guest}, monotonic=self.now), self.requests)
        return self.learning.fields(guest)


def number(value: Value) -> float:
    assert isinstance(value, int | float)
    return value


@pytest.fixture
def guest() -> Watched:
    return Watched()


def test_a_burst_counts_in_full_for_a_while_and_fades_then(guest: Watched) -> None:
    guest.says(100 * MIB)
    assert guest.says(600 * MIB)["mem_used_peak"] == 600 * MIB
    assert guest.says(100 * MIB, after=890)["mem_used_peak"] == 600 * MIB
    guest.says(100 * MIB, after=20)
    assert number(guest.says(100 * MIB, after=900)["mem_used_peak"]) < 300 * MIB


def test_what_the_host_has_backed_at_first_sight_was_used_once(guest: Watched) -> None:
    assert guest.says(100 * MIB, rss=int(PROCESS_KIB + 700 * MIB))["mem_used_peak"] == 700 * MIB


def test_what_the_kernel_hides_shows_when_the_balloon_is_at_rest(guest: Watched) -> None:
    assert "mem_hidden" not in guest.says(100 * MIB)
    assert guest.says(100 * MIB)["mem_hidden"] == HIDDEN
    assert guest.says(100 * MIB, balloon_cur=500 * MIB)["mem_hidden"] == HIDDEN, "it moves: nothing is learnt"


def test_what_is_left_after_a_sweep_is_the_processs_own(guest: Watched) -> None:
    for _ in range(2):
        known = guest.says(100 * MIB, rss=900 * MIB)
    assert known["rss_beside"] == PROCESS_KIB
    size = HIDDEN + 100 * MIB + 64 * MIB
    guest.requests["a"] = Request(size, TOTAL + HIDDEN, guest.now, "1", arrived=True)
    known = guest.says(100 * MIB, rss=HIDDEN + 230 * MIB, balloon_cur=size, mem_available=size - HIDDEN, mem_unused=64 * MIB)
    assert known["rss_beside"] == 130 * MIB


def test_a_guest_that_waits_is_to_have_more_than_that(guest: Watched) -> None:
    guest.says(600 * MIB)
    known = guest.says(600 * MIB, major_fault=90, mem_unused=10 * MIB)
    assert known["mem_usable_hurts"] == 500 * MIB
    assert "mem_usable_hurts" not in Watched().says(600 * MIB, major_fault=90), "it reads into free memory"


def test_a_guest_that_keeps_page_cache_is_known_by_it(guest: Watched) -> None:
    assert guest.says(400 * MIB, mem_unused=150 * MIB, mem_disk_caches=450 * MIB)["mem_cache_share"] == 0.75
    assert number(guest.says(400 * MIB)["mem_cache_share"]) > 0.7, "and not forgotten when it was taken"


def test_growth_of_all_guests_together_within_seconds_is_remembered(guest: Watched) -> None:
    for rss in (100, 300, 450, 450, 450, 460):
        guest.says(100 * MIB, after=1.0, rss=rss * MIB)
    assert guest.learning.growth_kib == 350 * MIB


def test_what_a_guest_could_take_is_what_the_host_has_not_backed(guest: Watched) -> None:
    guest.says(100 * MIB, rss=int(PROCESS_KIB + 300 * MIB))
    assert guest.learning.room_kib == TOTAL + HIDDEN - 300 * MIB


def test_a_guest_that_is_started_anew_is_a_new_one(guest: Watched) -> None:
    guest.says(600 * MIB)
    assert guest.says(100 * MIB, incarnation="2")["mem_used_peak"] == 100 * MIB


def test_unknown_and_old_statistics_teach_nothing(guest: Watched) -> None:
    assert guest.says(100 * MIB, mem_usable=None) == {}
    guest.says(100 * MIB)
    assert guest.says(900 * MIB, age=2.0)["mem_used_peak"] == 100 * MIB


@given(uses=st.lists(st.tuples(st.floats(1, 5000), st.integers(0, TOTAL)), min_size=1, max_size=30))
def test_what_is_remembered_is_between_what_is_used_and_the_most_that_ever_was(uses: list[tuple[float, int]]) -> None:
    guest, most = Watched(), 0
    for passed, used in uses:
        most = max(most, used)
        peak = guest.says(used, after=passed)["mem_used_peak"]
        assert isinstance(peak, int)
        assert used - 1 <= peak <= most
