"""What wakes mom for a guest, on plain numbers."""

from __future__ import annotations

import pytest

from mom_guests import Statistics, WatchedMemory, usable_soon, why_wake

MIB = 1024
GIB = 1024 * MIB


class TestWhatIsNews:
    def test_a_guest_that_begins_to_run_out(self) -> None:
        before, now = WatchedMemory(600 * MIB, 115 * MIB), WatchedMemory(600 * MIB, 95 * MIB)
        assert why_wake(before, now) == "95 MiB usable of 600 MiB"
        assert why_wake(now, now._replace(usable=94 * MIB)) == "", "the last cycle knew"

    def test_a_guest_that_uses_up_a_quarter_of_what_it_had(self) -> None:
        before = WatchedMemory(2 * GIB, 800 * MIB)
        assert why_wake(before, before._replace(usable=601 * MIB)) == ""
        assert why_wake(before, before._replace(usable=600 * MIB)) == "200 MiB used up since the last cycle, 600 MiB usable"

    def test_little_is_no_news_however_little_there_was(self) -> None:
        before = WatchedMemory(2 * GIB, 30 * MIB)
        assert why_wake(before, before._replace(usable=15 * MIB)) == ""
        assert why_wake(before, before._replace(usable=14 * MIB))

    def test_what_the_balloon_takes_is_not_used_up(self) -> None:
        before = WatchedMemory(2 * GIB, 1200 * MIB)
        assert why_wake(before, WatchedMemory(2 * GIB - 600 * MIB, 600 * MIB)) == ""

    def test_a_guest_that_begins_to_swap_or_to_wait_for_its_disk(self) -> None:
        well = WatchedMemory(2 * GIB, 800 * MIB, 0.0, 0.0)
        swaps, waits = well._replace(swap_in=2048.0), well._replace(major_fault=300.0)
        assert why_wake(well, swaps) == "it reads 2,048 KiB a second from its swap"
        assert why_wake(well, waits) == "300 page faults a second wait for its disk"
        assert why_wake(swaps, swaps) == why_wake(waits, waits) == ""
        assert why_wake(well, well._replace(swap_in=None, major_fault=None)) == ""


def said(updated: int, usable: float, total: float | None, size: float = 600 * MIB, steady: bool = True) -> Statistics:
    return Statistics(updated, usable, total, size, steady)


class TestForecasts:
    def test_a_guest_goes_on_as_it_did_until_mom_can_act_again(self) -> None:
        total = 560 * MIB
        assert usable_soon(said(1, 300 * MIB, total), said(2, 240 * MIB, total)) == 150 * MIB, "60 MiB/s for one second and a half"
        assert usable_soon(said(1, 300 * MIB, total), said(6, 240 * MIB, total)) == 174 * MIB, "12 MiB/s for five and a half"
        assert usable_soon(said(1, 300 * MIB, total), said(2, 100 * MIB, total)) == 0

    def test_a_guest_that_frees_memory_may_use_it_again(self) -> None:
        assert usable_soon(said(1, 240 * MIB, 560 * MIB), said(2, 300 * MIB, 560 * MIB)) == 300 * MIB

    @pytest.mark.parametrize("seconds", [0, -5])
    def test_a_clock_that_stands_or_goes_back_tells_nothing(self, seconds: int) -> None:
        assert usable_soon(said(10, 300 * MIB, 560 * MIB), said(10 + seconds, 240 * MIB, 560 * MIB)) == 240 * MIB

    def test_what_the_balloon_takes_is_not_used_up(self) -> None:
        before, now = said(1, 300 * MIB, 560 * MIB), said(2, 180 * MIB, 460 * MIB, size=500 * MIB, steady=False)
        assert usable_soon(before, now) == 150 * MIB, "120 MiB less, of which the guest used 20"

    def test_a_balloon_that_is_not_taken_off_the_total_tells_only_at_rest(self) -> None:
        total = 2 * GIB
        moving = said(2, 200 * MIB, total, size=500 * MIB, steady=False)
        assert usable_soon(said(1, 300 * MIB, total), moving) == 200 * MIB
        assert usable_soon(said(1, 300 * MIB, total), said(2, 240 * MIB, total)) == 150 * MIB
        assert usable_soon(said(1, 300 * MIB, None), said(2, 240 * MIB, None)) == 150 * MIB
