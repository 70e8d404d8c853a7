"""The sizes that guests had lately."""

from mom_core import Guest, Snapshot
from mom_plugins_balloon.sizes import HORIZON_SECONDS, RecentSizes


def seen(*samples):
    """A guest that had these sizes: (moment, size) of each snapshot."""
    sizes = RecentSizes()
    for moment, size in samples:
        sizes.note(Snapshot(guests={"g": Guest("g", "g", {"balloon_cur": size})}, monotonic=moment))
    return sizes


def test_a_size_that_stays_is_the_largest():
    assert seen((0, 100), (5, 100), (10, 100)).largest_since("g", 8) == 100


def test_a_guest_had_its_old_size_until_just_before_the_new_one_was_seen():
    sizes = seen((0, 100), (5, 80), (10, 60))
    assert sizes.largest_since("g", 10) == 60
    assert sizes.largest_since("g", 7) == 80
    assert sizes.largest_since("g", 5) == 80
    assert sizes.largest_since("g", 4) == 100
    assert sizes.largest_since("g", -100) == 100


def test_a_guest_that_was_never_seen_has_no_size():
    assert seen().largest_since("g", 0) is None


def test_a_guest_whose_size_is_unknown_is_passed_over():
    assert seen((0, None), (5, 80)).largest_since("g", -1) == 80


def test_guests_that_are_gone_are_forgotten():
    sizes = seen((0, 100))
    sizes.note(Snapshot(guests={"h": Guest("h", "h", {"balloon_cur": 80})}, monotonic=5))
    assert sizes.largest_since("g", 0) is None


def test_sizes_are_known_still_when_the_hypervisor_has_been_away():
    sizes = seen((0, 100))
    sizes.note(Snapshot(guests={}, monotonic=5))
    sizes.note(Snapshot(guests={"g": Guest("g", "g", {"balloon_cur": 80})}, monotonic=10))
    assert sizes.largest_since("g", 0) == 100


def test_sizes_are_not_kept_for_ever():
    sizes = seen(*((float(i), 1000 - i) for i in range(1000)))
    assert sizes.largest_since("g", -1) < 1 + HORIZON_SECONDS + 2


def test_the_overhead_is_learnt_while_the_size_stands():
    assert seen((0, 100), (5, 100)).overhead("g", 90, 1) == 10


def test_the_overhead_is_not_learnt_while_the_balloon_may_be_moving():
    sizes = seen((0, 100), (5, 70))
    assert sizes.overhead("g", 90, 1) is None


def test_the_largest_overhead_stands():
    sizes = seen((0, 100), (5, 100))
    assert sizes.overhead("g", 90, 1) == 10
    assert sizes.overhead("g", 95, 1) == 10
    assert sizes.overhead("g", 85, 1) == 15
    assert sizes.overhead("g", None, 1) == 15
