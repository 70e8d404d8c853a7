"""Guests' fields from statistics records."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mom_kvm import GuestField
from mom_kvm.statistics import Reading, convert

RECORDED = {
    "state.state": 1, "state.reason": 1, "cpu.time": 2_990_000_000, "cpu.user": 2_370_000_000, "cpu.system": 620_000_000,
    "cpu.cache.monitor.count": 0, "balloon.current": 262_144, "balloon.maximum": 262_144, "balloon.swap_in": 10, "balloon.swap_out": 0,
    "balloon.major_fault": 4, "balloon.minor_fault": 16_275, "balloon.unused": 134_408, "balloon.available": 223_632,
    "balloon.usable": 137_584, "balloon.last-update": 1_795_163_156, "balloon.disk_caches": 2_968, "balloon.hugetlb_pgalloc": 0,
    "balloon.hugetlb_pgfail": 0, "balloon.rss": 264_004, "vcpu.current": 1, "vcpu.maximum": 1, "vcpu.0.state": 1,
    "vcpu.0.time": 2_660_000_000, "vcpu.0.wait": 0, "vcpu.0.delay": 83_115_631,
}  # fmt: skip
"""Record of a real guest."""

BUSY = {key: RECORDED[key] for key in ("state.state", "state.reason", "cpu.time", "balloon.current", "balloon.maximum", "vcpu.current")}
"""Record of libvirt without access to the guest's QEMU."""

WALL = 1_795_163_157.0

FIRST = convert(RECORDED, None, wall=WALL, monotonic=50.0, stale_after=10.0)[1]
"""State after the first sample."""

ALL_ONES = (1 << 64) - 1


def test_counters_become_rates_by_the_guests_own_time() -> None:
    later = {
        **RECORDED, "balloon.last-update": 1_795_163_160, "balloon.swap_in": 50, "balloon.minor_fault": 16_279, "cpu.time": 4_990_000_000,
    }  # fmt: skip
    fields, reading = convert(later, FIRST, wall=WALL + 5, monotonic=55.0, stale_after=10.0)
    assert (fields["swap_in"], fields["swap_out"], fields["major_fault"], fields["minor_fault"]) == (10.0, 0.0, 0.0, 1.0)
    assert fields["cpu_usage"] == 40.0
    fields, _ = convert(later, reading, wall=WALL + 6, monotonic=56.0, stale_after=10.0)
    assert fields["swap_in"] == 10.0, "no new statistics: the last rate stands"


def test_a_guest_whose_counters_all_begin_again_has_rebooted_and_one_whose_counter_has_come_to_its_end_has_not() -> None:
    came_to_its_end = {**RECORDED, "balloon.last-update": 1_795_163_160, "balloon.minor_fault": 3, "balloon.major_fault": 5}
    fields, reading = convert(came_to_its_end, FIRST, wall=WALL + 5, monotonic=55.0, stale_after=10.0)
    assert not {"reboot_age", "minor_fault"} & fields.keys(), "how fast it grows is unknown"
    booted = {**RECORDED, "balloon.last-update": 1_795_163_170, "balloon.minor_fault": 1, "balloon.major_fault": 0, "balloon.swap_in": 0}
    fields, reading = convert(booted, reading, wall=WALL + 15, monotonic=65.0, stale_after=10.0)
    assert fields["reboot_age"] == 0.0
    later = {**booted, "balloon.last-update": 1_795_163_171, "balloon.minor_fault": 900}
    for record in (booted, later, BUSY):
        fields, reading = convert(record, reading, wall=WALL + 17, monotonic=67.0, stale_after=10.0)
        assert fields["reboot_age"] == 2.0


def test_old_statistics_are_unknown_and_sizes_are_not() -> None:
    fields, reading = convert(RECORDED, None, wall=WALL, monotonic=50.0, stale_after=10.0)
    for age in (5.0, 9.0):
        fields, reading = convert(RECORDED, reading, wall=WALL + age - 1, monotonic=49.0 + age, stale_after=10.0)
        assert "mem_usable" in fields
    fields, _ = convert(RECORDED, reading, wall=WALL + 10, monotonic=60.0, stale_after=10.0)
    assert not {"mem_available", "mem_unused", "mem_usable", "swap_in"} & fields.keys()
    assert fields["stats_age"] == 11.0
    assert fields["balloon_cur"] == 262_144


def test_a_busy_guest_gives_its_size_and_what_it_said_grows_old() -> None:
    fields, reading = convert(BUSY, FIRST, wall=WALL + 2, monotonic=52.0, stale_after=10.0)
    assert fields["balloon_cur"] == 262_144
    assert fields["stats_age"] == 3.0
    assert "mem_usable" not in fields
    later = {**RECORDED, "balloon.last-update": 1_795_163_160, "balloon.swap_in": 18}
    fields, _ = convert(later, reading, wall=WALL + 4, monotonic=54.0, stale_after=10.0)
    assert fields["swap_in"] == 2.0, "the rate goes over the gap"


def test_statistics_that_were_made_while_the_guest_was_busy_are_no_younger_than_they_are() -> None:
    reading = FIRST
    for second in range(10, 70, 10):
        _, reading = convert(BUSY, reading, wall=WALL + second, monotonic=50.0 + second, stale_after=30.0)
    later = {**RECORDED, "balloon.last-update": RECORDED["balloon.last-update"] + 20}
    fields, _ = convert(later, reading, wall=WALL + 69, monotonic=119.0, stale_after=30.0)
    assert "mem_usable" not in fields
    assert fields["stats_age"] == 50.0


def test_a_wall_clock_that_jumps_changes_no_age() -> None:
    for jump in (3600.0, -3600.0):
        fields, reading = convert(RECORDED, FIRST, wall=WALL + jump, monotonic=51.0, stale_after=10.0)
        assert fields["stats_age"] == 2.0
        moved = {**RECORDED, "balloon.last-update": RECORDED["balloon.last-update"] + int(jump)}
        fields, _ = convert(moved, reading, wall=WALL + 2, monotonic=52.0, stale_after=10.0)
        age = fields["stats_age"]
        assert isinstance(age, float)
        assert 0 <= age <= 1.0, "it was not there a second ago"
        assert "mem_usable" in fields


def test_statistics_from_the_future_are_not_believed_at_first_sight() -> None:
    fields, _ = convert(RECORDED, None, wall=WALL - 3600, monotonic=50.0, stale_after=10.0)
    assert "mem_usable" not in fields
    fields, _ = convert(RECORDED, None, wall=WALL - 2, monotonic=50.0, stale_after=10.0)
    assert fields["stats_age"] == 0.0, "its seconds may be rounded"


@pytest.mark.parametrize(
    ("lie", "field"),
    [
        ({"balloon.unused": 223_633}, "mem_unused"),
        ({"balloon.usable": 223_633}, "mem_usable"),
        ({"balloon.disk_caches": 223_633}, "mem_disk_caches"),
        ({"balloon.available": 262_145}, "mem_available"),
        ({"balloon.usable": -1}, "mem_usable"),
        ({"balloon.usable": ALL_ONES - 1}, "mem_usable"),
        ({"balloon.usable": "7"}, "mem_usable"),
        ({"balloon.usable": True}, "mem_usable"),
    ],
)
def test_a_guest_that_says_what_cannot_be_is_not_believed_at_all(lie: dict[str, object], field: str) -> None:
    fields, reading = convert({**RECORDED, **lie}, None, wall=WALL, monotonic=50.0, stale_after=10.0)
    assert reading.impossible == (field,)
    assert not {"mem_available", "mem_unused", "mem_usable", "mem_disk_caches"} & fields.keys()
    assert fields["stats_rejected"] == 1
    assert fields["balloon_cur"] == 262_144, "libvirt says this, not the guest"
    fields, _ = convert({**RECORDED, **lie}, reading, wall=WALL + 1, monotonic=51.0, stale_after=10.0)
    assert fields["stats_rejected"] == 1, "the same report counts once"
    later = {**RECORDED, "balloon.last-update": 1_795_163_160}
    fields, _ = convert(later, reading, wall=WALL + 5, monotonic=55.0, stale_after=10.0)
    assert fields["mem_usable"] == 137_584
    assert fields["stats_rejected"] == 1


def test_a_counter_that_leaps_is_a_lie() -> None:
    leaps = {**RECORDED, "balloon.last-update": 1_795_163_160, "balloon.swap_in": 1 << 61}
    fields, reading = convert(leaps, FIRST, wall=WALL + 5, monotonic=55.0, stale_after=10.0)
    assert reading.impossible == ("swap_in",)
    assert not {"swap_in", "swap_out", "mem_usable"} & fields.keys()


def test_memory_that_was_just_unplugged_makes_nobody_a_liar() -> None:
    fields, reading = convert({**RECORDED, "balloon.maximum": 200_000}, FIRST, wall=WALL + 1, monotonic=51.0, stale_after=10.0)
    assert fields["mem_available"] == 223_632
    newer = {**RECORDED, "balloon.maximum": 200_000, "balloon.last-update": 1_795_163_160}
    _, reading = convert(newer, reading, wall=WALL + 5, monotonic=55.0, stale_after=10.0)
    assert reading.impossible == ("mem_available",)


def test_a_balloon_that_moves_has_a_rate() -> None:
    fields, reading = convert({**RECORDED, "balloon.current": 252_144}, FIRST, wall=WALL + 5, monotonic=55.0, stale_after=10.0)
    assert fields["balloon_rate"] == -2000.0
    fields, reading = convert({**RECORDED, "balloon.current": 252_144}, reading, wall=WALL + 5, monotonic=55.01, stale_after=10.0)
    assert fields["balloon_rate"] == -2000.0, "an instant later nothing is known that is new"
    fields, _ = convert({**RECORDED, "balloon.current": 252_144}, reading, wall=WALL + 10, monotonic=60.0, stale_after=10.0)
    assert fields["balloon_rate"] == 0.0


numbers = st.one_of(
    st.integers(-5, 5),
    st.integers(),
    st.sampled_from([ALL_ONES, 1 << 62, (1 << 62) - 1, -1, 0]),
    st.floats(),
    st.booleans(),
    st.text(max_size=3),
    st.none(),
)
records = st.dictionaries(st.one_of(st.sampled_from(sorted(RECORDED)), st.text(max_size=5)), numbers, max_size=30).map(
    lambda d: {**RECORDED, **d}
)
seconds = st.floats(0, 1e10)


@given(st.lists(st.tuples(st.one_of(records, st.just({})), seconds, seconds), max_size=5), st.floats(0.001, 1e6))
def test_no_record_raises_or_gives_nonsense(looks: list[tuple[dict[str, object], float, float]], stale_after: float) -> None:
    declared = {spec.name for spec in GuestField.ALL}
    reading: Reading | None = None
    for record, wall, monotonic in looks:
        fields, reading = convert(record, reading, wall=wall, monotonic=monotonic, stale_after=stale_after)
        assert fields.keys() <= declared
        for name, value in fields.items():
            assert isinstance(value, int | float)
            assert not isinstance(value, bool)
            assert math.isfinite(value)
            assert abs(value) < 1 << 63
            assert value >= 0 or name == "balloon_rate"
