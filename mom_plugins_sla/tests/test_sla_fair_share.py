"""Fair shares: the promises of `fair_shares`, whatever is claimed, and whose memory is shared out."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mom_core import Guest, Host, Snapshot, Value
from mom_kvm import NO_PROMISES
from mom_plugins_sla.fairness import Claim, fair_shares, fairness_of

sizes = st.one_of(st.just(0.0), st.floats(1, 1e9), st.integers(0, 1 << 30).map(float))
costs = st.sampled_from([0.5, 1.0, 2.0, 4.0, 8.0])
a_claim = st.builds(Claim, sizes, sizes, sizes, costs)
claims = st.lists(a_claim, max_size=12)
rooms = st.floats(0, 1e10)
SLACK = 1e-6
"""Of what it is about: sums of numbers that have fractions."""


def near(number: float) -> float:
    return SLACK * max(1.0, abs(number))


def promised(claim: Claim) -> float:
    return min(claim.guarantee, claim.most)


@pytest.mark.long
@given(claims, rooms)
@settings(max_examples=150)
def test_never_below_a_guarantee_and_never_above_the_most_and_all_room_is_used(wanted: list[Claim], room: float) -> None:
    shares = fair_shares(wanted, room)
    guaranteed = sum(map(promised, wanted))
    for claim, share in zip(wanted, shares, strict=True):
        assert share <= claim.most + near(claim.most)
        if guaranteed <= room:
            assert share >= promised(claim) - near(claim.most)
    most = sum(claim.most for claim in wanted)
    assert math.isclose(sum(shares), min(room, most), rel_tol=1e-6, abs_tol=1e-3)


@pytest.mark.parametrize(
    ("wanted", "room", "shares"),
    [
        ([], 100, []),
        ([Claim(50, 80, 100), Claim(0, 80, 100)], 200, [100, 100]),
        ([Claim(80, 80, 100), Claim(40, 40, 100)], 60, [40, 20]),  # promised more than there is
        ([Claim(0, 100, 100, 1), Claim(0, 100, 100, 4)], 100, [20, 80]),  # four times as dear
        ([Claim(0, 60, 100), Claim(0, 20, 100)], 60, [36, 24]),  # most of what one does not use, the other has
        ([Claim(0, 20, 100), Claim(0, 20, 100)], 60, [30, 30]),
        ([Claim(0, 60, 100), Claim(0, 0, 100)], 50, [40, 10]),  # a quarter for what is idle
        ([Claim(70, 10, 100), Claim(0, 60, 100)], 100, [76, 24]),  # guaranteed first, also where it is idle
        ([Claim(0, 50, 0), Claim(0, 50, 100)], 40, [0, 40]),
    ],
)
def test_shares_as_one_would_reckon_them(wanted: list[Claim], room: float, shares: list[float]) -> None:
    assert fair_shares(wanted, room) == pytest.approx(shares)


@pytest.mark.parametrize(
    ("blocked", "fields"),
    [({"balloon_target": "it has no balloon device"}, {}), ({"*": "it is paused"}, {}), ({}, {"balloon_obstacle": "it is set aside"})],
    ids=["no balloon", "paused", "set aside"],
)
def test_a_guest_that_cannot_give_has_no_share_and_the_others_give_what_the_host_lacks(
    blocked: dict[str, str], fields: dict[str, Value]
) -> None:
    known: dict[str, Value] = {"balloon_cur": 2000, "balloon_max": 2000, "mem_usable": 500}
    idle = Guest("idle", "idle", {"balloon_cur": 8000, "balloon_max": 8000, "mem_usable": 7000, **fields}, blocked=blocked)
    guests = {"idle": idle, **{name: Guest(name, name, known) for name in "ab"}}
    host = Host(fields={"mem_available": 16_000, "mem_really_available": 400, "mem_watermark_hard": 1000})
    found = fairness_of(Snapshot(host, guests), NO_PROMISES)
    assert found.shares == pytest.approx({"a": 1700, "b": 1700})


def test_what_a_guest_holds_is_not_shared_out_so_that_others_give_where_it_cannot() -> None:
    mib = 1024
    dear: dict[str, Value] = {"balloon_cur": 1000 * mib, "balloon_max": 1000 * mib, "mem_usable": 700 * mib, "reclaim_cost": 8.0}
    cheap: dict[str, Value] = {"balloon_cur": 2000 * mib, "balloon_max": 2000 * mib, "mem_usable": 200 * mib, "reclaim_cost": 1.0}
    silent: dict[str, Value] = {"balloon_cur": 500 * mib, "balloon_max": 2000 * mib}
    guests = {name: Guest(name, name, fields) for name, fields in (("dear", dear), ("cheap", cheap), ("silent", silent))}
    host = Host(fields={"mem_available": 4000 * mib, "mem_really_available": 0, "mem_watermark_hard": 500 * mib})
    found = fairness_of(Snapshot(host, guests), NO_PROMISES)
    assert found.shares["cheap"] >= 1800 * mib, "it uses that"
    assert found.shares["silent"] >= 500 * mib, "nobody knows what of it is used"
    assert found.shares["dear"] < 700 * mib, "what it does not use is all that there is"
    assert sum(found.shares.values()) == pytest.approx(3000 * mib)
