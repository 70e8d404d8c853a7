"""Launches: mom frees memory before a guest starts. If mom lacks information, the guest starts."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from reserving_host import GIB, KEEPS, LIMITS, KeptReservation, a_guest

from mom_core import Snapshot
from mom_kvm import LaunchedGuest, Reservation
from mom_plugins_balloon.ballooned_guests import LISTS_UNTIL_GONE
from mom_plugins_balloon.launches import MOST_WAITING, HostLaunches
from mom_plugins_balloon.parameters import LaunchSettings, LawParameters, WhenShort
from mom_plugins_balloon.reservations import HostReservations

STARTS, WAITING, REFUSED = LaunchedGuest.Launch.State.STARTS, LaunchedGuest.Launch.State.WAITING, LaunchedGuest.Launch.State.REFUSED


def launched(name: str = "web", kib: int = 2 * GIB, why_none: str = "") -> LaunchedGuest:
    return LaunchedGuest(name, kib, f"id-{name}", why_none)


class LaunchingHost(KeptReservation):
    """Host on which guests start. It keeps 1.6 GiB for itself."""

    def __init__(self, folder: Path, **settings: object) -> None:
        super().__init__(folder)
        self.launches = HostLaunches(LaunchSettings.model_validate(settings), self.kept, self.context)

    def launch(self, guest: LaunchedGuest | None = None, *, patience: float = 300) -> LaunchedGuest.Launch:
        return self.launches.begin(guest or launched(), patience=patience, who="me")

    def later(self, launch: LaunchedGuest.Launch, seconds: float) -> LaunchedGuest.Launch:
        self.clock.now += seconds
        return self.launches.look(launch)

    @property
    def left(self) -> list[tuple[str, int]]:
        """Names and sizes of lasting reservations."""
        return [(kept.name, kept.memory_kib) for kept in self.kept.reservations() if kept.state.lasts]


@pytest.fixture
def host(tmp_path: Path) -> LaunchingHost:
    return LaunchingHost(tmp_path)


@pytest.fixture
def strict(tmp_path: Path) -> LaunchingHost:
    return LaunchingHost(tmp_path, when_short=WhenShort.REFUSE)


class TestReservedByName:
    def test_launch_uses_the_reservation_as_it_is_and_leaves_it_when_refused(self, strict: LaunchingHost) -> None:
        strict.reserved(2 * GIB, a_guest("a"), name="web", available=2 * GIB)
        waiting = strict.launch(launched(kib=3 * GIB))
        assert (waiting.state, strict.left) == (WAITING, [("web", 2 * GIB)])
        assert strict.later(waiting, 10.1).state is REFUSED
        assert strict.left == [("web", 2 * GIB)]


class TestWithRoom:
    def test_guest_starts_at_once_and_memory_is_kept_for_it(self, host: LaunchingHost) -> None:
        host.see(8 * GIB)
        made = host.launch()
        assert (made.state, made.note) == (STARTS, "")
        assert host.left == [("web", 2 * GIB)]
        host.see(8 * GIB, a_guest("id-web", 2 * GIB, rss=2 * GIB))
        assert host.left == []
        assert host.one(made.reservation).state is Reservation.State.USED

    def test_reservation_ends_with_its_guest(self, host: LaunchingHost) -> None:
        host.see(8 * GIB, a_guest("other"))
        made = host.launch()
        host.see(8 * GIB, a_guest("other"), a_guest("id-web", 2 * GIB, rss=0))
        assert host.taker(host.one(made.reservation)) == "id-web"
        host.see(8 * GIB, a_guest("other"))
        assert host.left == []

    def test_only_the_launched_guest_takes_its_reservation(self, host: LaunchingHost) -> None:
        host.see(8 * GIB)
        made = host.launch(launched("db[1]*"))
        host.see(8 * GIB, a_guest("db1", GIB), a_guest("db[1]x", GIB))
        assert host.taker(host.one(made.reservation)) == ""
        host.see(8 * GIB, a_guest("db1", GIB), a_guest("id-db[1]*", 2 * GIB, rss=0))
        assert host.taker(host.one(made.reservation)) == "id-db[1]*"

    def test_guest_listed_before_its_hook_takes_its_reservation(self, host: LaunchingHost) -> None:
        host.see(8 * GIB, a_guest("other"))
        host.see(8 * GIB, a_guest("other"), a_guest("id-web", 2 * GIB, rss=0))
        made = host.launch()
        host.see(8 * GIB, a_guest("other"), a_guest("id-web", 2 * GIB, rss=0), after=0.5)
        assert host.taker(host.one(made.reservation)) == "id-web"

    @pytest.mark.parametrize("name", ["new\nline", "x" * 300, "\u202eevil"])
    def test_any_guest_name_is_accepted(self, host: LaunchingHost, name: str) -> None:
        host.see(8 * GIB)
        assert host.launch(launched(name)).state is STARTS
        assert [kib for _, kib in host.left] == [2 * GIB]

    @pytest.mark.parametrize("name", ["w*", ""])
    def test_operators_reservation_serves_one_launch(self, host: LaunchingHost, name: str) -> None:
        kept = host.reserved(3 * GIB, name=name)
        assert host.launch().reservation == kept.id
        other = host.launch(launched("worker"))
        assert other.reservation != kept.id
        assert sorted(host.left) == sorted([(name, 3 * GIB), ("worker", 2 * GIB)])
        host.see(8 * GIB, a_guest("id-worker", 2 * GIB, rss=0), a_guest("id-web", 2 * GIB, rss=0))
        assert host.taker(host.one(kept.id)) == "id-web"
        assert host.taker(host.one(other.reservation)) == "id-worker"

    def test_guest_on_huge_pages_needs_no_reservation(self, strict: LaunchingHost) -> None:
        strict.see(KEEPS)
        assert strict.launch(launched(why_none="huge pages")).state is STARTS
        assert strict.left == []

    def test_first_list_after_restart_without_the_guest_ends_nothing(self, host: LaunchingHost) -> None:
        other, web = a_guest("other", incarnation="1"), a_guest("id-web", 2 * GIB, incarnation="1", rss=GIB)
        host.see(8 * GIB, other)
        made = host.launch()
        host.see(8 * GIB, other, web)
        host.begin()
        host.see(8 * GIB, other)
        assert host.one(made.reservation).state is Reservation.State.TAKEN
        host.see(8 * GIB, other, web)
        assert host.taker(host.one(made.reservation)) == "id-web"
        host.begin()
        for _ in range(LISTS_UNTIL_GONE):
            host.see(8 * GIB, other)
        assert host.one(made.reservation).state is Reservation.State.USED


class TestWithoutRoom:
    def test_launch_waits_until_guests_have_given(self, strict: LaunchingHost) -> None:
        strict.see(2 * GIB, a_guest("a"))
        made = strict.launch()
        assert made.state is WAITING
        strict.woken.clear()
        for _ in range(8):
            made = strict.later(made, 0.25)
            assert made.state is WAITING
        assert set(strict.woken) == {"guest web waits for memory"}
        strict.see(4 * GIB, a_guest("a"), after=0.1)
        made = strict.later(made, 0.1)
        assert (made.state, made.note) == (STARTS, "")
        assert strict.left == [("web", 2 * GIB)]

    def test_launch_continues_across_a_reload(self, strict: LaunchingHost) -> None:
        strict.see(2 * GIB, a_guest("a"))
        made = strict.launch()
        reservations = HostReservations(
            strict.settings, LawParameters(), strict.context, strict.guests, strict.state, lambda: LIMITS, lambda: ""
        )
        launches = HostLaunches(strict.launches.settings, reservations, strict.context)
        assert launches.look(made).state is WAITING, "the reservations have not been read yet"
        assert launches.look(replace(made, until=strict.clock.now)).state is STARTS, "mom does not wait forever for them"
        reservations.load()
        assert launches.look(made).state is WAITING, "there was no cycle since"
        strict.see(4 * GIB, a_guest("a"))
        reservations.follow()
        assert (launches.look(made).state, launches.look(made).note) == (STARTS, "")
        assert reservations.release(made.reservation).state is Reservation.State.RELEASED
        assert launches.look(made).state is STARTS

    def test_late_memory_starts_the_guest_with_a_warning(self, host: LaunchingHost) -> None:
        host.see(2 * GIB, a_guest("a"))
        made = host.launch()
        assert made.state is WAITING
        made = host.later(made, 10.1)
        assert made.state is STARTS
        assert "are available" in made.note
        assert host.left == [("web", 2 * GIB)], "guests continue to release memory"

    def test_too_large_guest_gets_the_largest_part(self, host: LaunchingHost) -> None:
        host.see(2 * GIB, a_guest("a"))
        most = host.kept.room().most_kib
        made = host.launch(launched(kib=8 * GIB))
        assert made.state is WAITING
        assert host.left == [("web", most)]
        host.see(2 * GIB + most, a_guest("a"))
        made = host.later(made, 0.1)
        assert made.state is STARTS
        assert "cannot reserve" in made.note

    def test_earlier_reservation_is_kept_without_more_memory(self, host: LaunchingHost) -> None:
        kept = host.reserved(2 * GIB, a_guest("a"), name="web", available=KEEPS + 2 * GIB)
        host.see(KEEPS + 2 * GIB)
        made = host.launch(launched(kib=8 * GIB))
        assert (made.state, made.reservation, host.left) == (STARTS, kept.id, [("web", 2 * GIB)])

    def test_number_of_waiting_launches_is_limited(self, strict: LaunchingHost) -> None:
        strict.see(2 * GIB, *(a_guest(f"g{number}", 16 * GIB) for number in range(4)))
        waiting = [strict.launch(launched(f"n{number}", GIB)) for number in range(MOST_WAITING + 1)]
        assert [launch.state for launch in waiting] == [WAITING] * MOST_WAITING + [REFUSED]
        assert "8 other launches are waiting" in waiting[-1].note
        assert strict.later(waiting[0], 0.1).state is WAITING, "new launches do not end earlier ones"
        strict.later(waiting[0], 10.1)
        assert strict.launch(launched("last", GIB)).state is WAITING

    def test_guest_starts_at_once_without_any_memory(self, host: LaunchingHost, caplog: pytest.LogCaptureFixture) -> None:
        host.see(KEEPS)
        made = host.launch()
        assert made.state is STARTS
        assert f"guest web is started anyway: {made.note}" in caplog.text
        assert "at most 0 KiB can" in made.note


class TestUnknownHost:
    def test_observing_mom_refuses_and_reserves_nothing(self, strict: LaunchingHost) -> None:
        in_force: Mapping[str, object] = {"mode": "observe"}
        strict.context.configuration = lambda: in_force  # type: ignore[assignment, return-value]  # one of its settings
        strict.see(KEEPS)
        made = strict.launch(launched(kib=80 * GIB))
        assert made.state is STARTS
        assert "mom only observes" in made.note
        assert strict.left == []

    def test_guests_start_before_the_first_cycle(self, strict: LaunchingHost) -> None:
        made = strict.launch()
        assert made.state is STARTS
        assert "mom has not looked at the host yet" in made.note

    @pytest.mark.parametrize("reserved", [False, True])
    def test_waiting_guests_start_when_the_host_becomes_unknown(self, strict: LaunchingHost, reserved: bool) -> None:
        strict.see(2 * GIB, a_guest("a"))
        if reserved:
            strict.kept.reserve(2 * GIB, 600, name="web")
            strict.follow(Snapshot(monotonic=strict.clock.now))
        made = strict.launch()
        strict.follow(Snapshot(monotonic=strict.clock.now))
        assert made.state is WAITING
        assert strict.later(made, 10.1).state is STARTS

    def test_decided_launch_does_not_change(self, strict: LaunchingHost) -> None:
        strict.see(2 * GIB, a_guest("a"))
        refused = strict.launch(launched(kib=80 * GIB))
        strict.see(200 * GIB)
        assert strict.launches.look(refused) == refused
