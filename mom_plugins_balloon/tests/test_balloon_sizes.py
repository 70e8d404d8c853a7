"""The sizes that guests had lately."""

import pytest
from guest_facts import memory_of, with_facts

from mom_core import Guest, Snapshot
from mom_plugins_balloon.ballooned_guests import BalloonedGuests
from mom_plugins_balloon.remembered import Remembered
from mom_plugins_balloon.sizes import ASKED_AGAIN_SECONDS, SIZES_SECONDS, SizeHistory, SizeRequest


def of_sizes(*samples: tuple[float, float]) -> SizeHistory:
    history = SizeHistory()
    for now, size in samples:
        history = history.after(size, now)
    return history


@pytest.mark.parametrize(
    ("samples", "since", "largest"),
    [
        ([(0, 100), (5, 100), (10, 100)], 8, 100),
        *(([(0, 100), (5, 80), (10, 60)], since, largest) for since, largest in ((10, 60), (7, 80), (5, 80), (4, 100), (-100, 100))),
        ([], 0, None),
        ([(5, 80)], -1, 80),
    ],
)
def test_old_size_lasts_until_the_new_one(samples: list[tuple[float, float]], since: float, largest: float | None) -> None:
    assert of_sizes(*samples).largest_since(since) == largest


def test_sizes_outlive_an_absent_hypervisor() -> None:
    records = BalloonedGuests(8192)
    for moment, sizes in ((0.0, {"g": 100}), (5.0, {}), (10.0, {"g": 80})):
        records.see(Snapshot(guests={name: Guest(name, name, {"balloon_cur": size}) for name, size in sizes.items()}, monotonic=moment))
    memory = records.of("g")
    assert memory is not None
    assert memory.sizes.largest_since(0) == 100


def test_old_sizes_are_forgotten() -> None:
    assert (of_sizes(*((float(i), 1000.0 - i) for i in range(1000))).largest_since(-1) or 0) < 1 + SIZES_SECONDS + 2


def test_growing_guest_may_have_its_target_already() -> None:
    past = Remembered("1", request=SizeRequest(8, 4.0, 10.0), sizes=of_sizes((0.0, 4.0)))
    assert past.most_since(5.0, 12.0) == 8
    assert past.most_since(5.0, 12.0 + ASKED_AGAIN_SECONDS) == 4, "it does not give, or take"
    assert past._replace(request=SizeRequest(2, 4.0, 10.0)).most_since(5.0, 12.0) == 4


def test_every_kib_below_the_guarantee_is_worth_a_command() -> None:
    past, known = Remembered("1"), memory_of(size=995.0, maximum=2000.0, guarantee=1000.0)
    assert past.why_not_send(1000, known, 0.0, 8.0) == ""
    assert past.why_not_send(1000, with_facts(known, guarantee=0.0), 0.0, 8.0) == "the change is smaller than the dead band"
