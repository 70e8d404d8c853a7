"""The sizes that guests had lately."""

import pytest

from mom_core import Guest, Snapshot
from mom_plugins_balloon.ballooned_guests import SIZES_SECONDS, BalloonedGuests


class Sizes:
    """What is remembered of a guest that had these sizes: (moment, size) of each snapshot."""

    def __init__(self, *samples, records=None):
        self.records = records or BalloonedGuests(8192)
        for moment, size in samples:
            self.sees(moment, g=size)

    def sees(self, moment, **sizes):
        self.records.see(
            Snapshot(guests={name: Guest(name, name, {"balloon_cur": size}) for name, size in sizes.items()}, monotonic=moment)
        )

    def largest_since(self, moment):
        memory = self.records.of("g")
        return None if memory is None else memory.largest_since(moment)

    def overhead(self, total, moment):
        (one,) = self.records
        return one.overhead_by(total, moment, None)


@pytest.mark.parametrize(
    ("samples", "since", "largest"),
    [
        ([(0, 100), (5, 100), (10, 100)], 8, 100),
        *(([(0, 100), (5, 80), (10, 60)], since, largest) for since, largest in ((10, 60), (7, 80), (5, 80), (4, 100), (-100, 100))),
        ([], 0, None),
        ([(0, None), (5, 80)], -1, 80),
    ],
)
def test_a_guest_had_its_old_size_until_just_before_the_new_one_was_seen(samples, since, largest):
    assert Sizes(*samples).largest_since(since) == largest


def test_guests_that_are_gone_are_forgotten():
    sizes = Sizes((0, 100))
    sizes.sees(5, h=80)
    assert sizes.largest_since(0) is None


def test_sizes_are_known_still_when_the_hypervisor_has_been_away():
    sizes = Sizes((0, 100))
    sizes.sees(5)
    sizes.sees(10, g=80)
    assert sizes.largest_since(0) == 100


def test_sizes_are_not_kept_for_ever():
    sizes = Sizes(*((float(i), 1000 - i) for i in range(1000)))
    assert sizes.largest_since(-1) < 1 + SIZES_SECONDS + 2


def test_the_overhead_is_not_learnt_while_the_balloon_may_be_moving():
    assert Sizes((0, 100), (5, 70)).overhead(90, 1) is None


def test_the_largest_overhead_while_the_size_stands_is_the_overhead():
    sizes = Sizes((0, 100), (5, 100))
    assert [sizes.overhead(total, 1) for total in (90, 95, 85, None)] == [10, 10, 15, 15]
