"""The laws of others do what their descriptions say."""

from __future__ import annotations

import peers
import pytest
from hypothesis import given
from hypothesis import strategies as st
from peers import GIB, MIB, GuestSeen, HostSeen


def host(free: float, total: float = 24 * GIB) -> HostSeen:
    return HostSeen(total, free, free)


def guest(size: float, unused: float, maximum: float = 1024, least: float = 0) -> GuestSeen:
    return GuestSeen(size * MIB, maximum * MIB, unused * MIB, least * MIB)


def test_mom_shrinks_every_guest_by_a_twentieth_when_less_than_a_fifth_of_the_host_is_free() -> None:
    assert peers.mom_targets([(host(4 * GIB), {"a": guest(1000, 800)})]) == {"a": pytest.approx(950 * MIB)}


def test_mom_stops_at_what_a_guest_uses_and_as_large_a_part_of_its_size_as_the_host_has_free() -> None:
    assert peers.mom_targets([(host(2.4 * GIB), {"a": guest(1000, 120)})]) == {"a": pytest.approx(980 * MIB)}


def test_mom_takes_what_guests_use_when_the_host_has_less_than_a_twentieth_free() -> None:
    targets = peers.mom_targets([(host(0.24 * GIB), {"a": guest(1000, 0)})])
    assert targets["a"] == pytest.approx(960 * MIB)


def test_mom_grows_nobody_while_the_host_lacks_memory_whatever_a_guest_wants() -> None:
    assert peers.mom_targets([(host(4 * GIB), {"a": guest(500, 0)})]) == {}


def test_mom_grows_every_guest_by_a_twentieth_when_the_host_has_enough_and_never_above_its_maximum() -> None:
    targets = peers.mom_targets([(host(6 * GIB), {"a": guest(500, 400), "b": guest(1020, 900), "c": guest(1024, 900)})])
    assert targets == {"a": pytest.approx(525 * MIB), "b": 1024 * MIB}


def test_mom_believes_averages_so_that_a_burst_of_now_counts_little() -> None:
    calm, burst = guest(1000, 800), guest(1000, 100)
    targets = peers.mom_targets([*[(host(4 * GIB), {"a": calm})] * 9, (host(4 * GIB), {"a": burst})])
    assert targets["a"] == pytest.approx(950 * MIB)


def test_pve_leaves_guests_alone_within_its_dead_band() -> None:
    assert peers.pve_targets(HostSeen(10 * GIB, 0, 2 * GIB + 9 * MIB), {"a": guest(1024, 900, least=512)}) == {}


def test_pve_shares_evenly_what_is_lacking_and_takes_100_mib_of_a_guest_at_most() -> None:
    guests = {name: guest(1024, 900, least=512) for name in "ab"}
    assert peers.pve_targets(HostSeen(10 * GIB, 0, 2 * GIB - 120 * MIB), guests) == pytest.approx({"a": 964 * MIB, "b": 964 * MIB})
    assert peers.pve_targets(HostSeen(10 * GIB, 0, 0), guests) == {"a": 924 * MIB, "b": 924 * MIB}


def test_pve_lets_those_give_first_that_have_more_than_a_quarter_of_their_least_free() -> None:
    guests = {"rich": guest(1024, 300, least=512), "poor": guest(1024, 100, least=512)}
    assert set(peers.pve_targets(HostSeen(10 * GIB, 0, 0), guests)) == {"rich"}


def test_pve_gives_others_what_one_guest_cannot_take() -> None:
    guests = {"full": guest(1004, 0, least=512), "small": guest(600, 0, least=512)}
    targets = peers.pve_targets(HostSeen(10 * GIB, 0, 2 * GIB + 100 * MIB), guests)
    assert targets == pytest.approx({"full": 1024 * MIB, "small": 680 * MIB})


def test_pve_takes_nothing_below_the_least() -> None:
    assert peers.pve_targets(HostSeen(10 * GIB, 0, 0), {"a": guest(512, 400, least=512)}) == {}


@given(
    st.floats(0, 64 * GIB),
    st.dictionaries(st.text(max_size=3), st.tuples(st.floats(64, 4096), st.floats(0, 1), st.floats(0, 1)), max_size=8),
)
def test_pve_stays_between_least_and_maximum_and_within_its_step(available: float, drawn: dict[str, tuple[float, float, float]]) -> None:
    guests = {
        name: GuestSeen(
            size=(share * 0.5 + 0.5) * maximum * MIB, maximum=maximum * MIB, unused=free * maximum * MIB, least=0.5 * maximum * MIB
        )
        for name, (maximum, share, free) in drawn.items()
    }
    for name, size in peers.pve_targets(HostSeen(64 * GIB, available, available), guests).items():
        one = guests[name]
        assert one.least - 1 <= size <= one.maximum + 1
        assert abs(size - one.size) <= peers.PVE_STEP + 1


@pytest.mark.parametrize(
    ("pages", "committed", "free", "run", "wanted"),
    [
        (100, 8 * GIB, 20 * GIB, False, 100),
        (100, 20 * GIB, 20 * GIB, True, 64),
        (100, 20 * GIB, 4 * GIB, True, 400),
        (1200, 20 * GIB, 4 * GIB, True, 1250),
        (1000, 20 * GIB, 20 * GIB, True, 950),
    ],
)
def test_ksmtuned_starts_when_more_is_promised_than_there_is_and_is_faster_when_little_is_free(
    pages: int, committed: float, free: float, run: bool, wanted: int
) -> None:
    wish = peers.ksmtuned(pages, 24 * GIB, committed, free)
    assert (wish.run, wish.pages) == (run, wanted)


def test_ksmtuned_sleeps_no_less_than_10_ms() -> None:
    assert peers.ksmtuned(100, 1024 * GIB, 0, 0).sleep_ms == 10
    assert peers.ksmtuned(100, 8 * GIB, 0, 0).sleep_ms == 20
