"""Guests that a host reports to the fleet individually, and sums of the others."""

import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from fake_moves import FakeMoves
from fake_promises import FakePromises

from mom_core import Guest, HypervisorError, PluginContext, PluginSettings, Problem, Report, hookimpl
from mom_core.testing import snapshot
from mom_devkit import FakeHypervisor, HandClock, PluginRun
from mom_kvm import Destination, GuestDescription, GuestMoves, Promises, stale_seconds
from mom_plugins_fleet import FleetPlugin
from mom_plugins_fleet.coordinator.plan import place_of, places
from mom_plugins_fleet.host.agent import FleetAgent
from mom_plugins_fleet.host.orders import HostOrders
from mom_plugins_fleet.records import LARGEST_RECORD, HostState, Member, Move
from mom_plugins_fleet.signatures import SeenRevisions
from mom_plugins_fleet.view import FleetView

GIB = 1 << 20


class Drained(FleetAgent):
    """Agent without servers, of a host that is drained or not."""

    def __init__(self) -> None:
        self.orders = HostOrders("h1", [], SeenRevisions(), logging.getLogger("test"), lambda _: "", lambda _: None)


OFFERS = {Promises: (FakePromises("mem_promised"),), GuestMoves: (FakeMoves(),)}


def many(count: int, name: str = "guest", **fields: object) -> Mapping[str, Guest]:
    guests = {f"{name}-{number}": {"balloon_max": (number + 1) * GIB, "mem_promised": GIB, **fields} for number in range(count)}
    properties = {one: {"uuid": str(uuid.uuid5(uuid.NAMESPACE_DNS, one))} for one in guests}
    return snapshot(guests=guests, properties=properties).guests  # type: ignore[arg-type]  # the fields are numbers


def state_of(
    guests: Mapping[str, Guest],
    *,
    problems: tuple[Problem, ...] = (),
    promisable: int | None = 1 << 38,
    swap_usage: int | None = None,
    reserved: int | None = None,
) -> HostState:
    plugin = FleetPlugin(FleetPlugin.Settings(host="h1"), PluginContext(name="fleet", offers=OFFERS, monotonic=HandClock()))
    plugin.agent = Drained()
    memory = {"mem_available": 1 << 40, "mem_really_available": 1 << 39, "mem_promisable": promisable, "mem_reserved": reserved}
    taken = snapshot(host={**memory, "swap_usage": swap_usage})
    plugin.mom_report(Report(1, 0.0, "enforce", replace(taken, guests=guests), (), (), (), problems, (), 0.01))
    state = plugin.state()
    assert state is not None
    return state


def test_a_host_with_ten_thousand_guests_fits_into_a_message_with_all_that_is_promised() -> None:
    state = state_of(many(10_000), reserved=3 * GIB)
    assert len(state.guests) + state.others == 10_000
    assert sum(one.guarantee for one in state.guests) + state.others_promised == 10_000 * GIB
    assert (state.promisable, state.reserved) == (1 << 38, 3 * GIB)
    assert len(state.packed()) < LARGEST_RECORD


def test_what_may_be_in_swap_of_a_guest_counts_where_it_does_not_tell() -> None:
    def held(swap_usage: int | None, rss: int = 3 * GIB, host_swap: int | None = None) -> int | None:
        guests = many(1, balloon_max=8 * GIB, rss=rss, host_swap=host_swap)
        (told,) = state_of(guests, swap_usage=swap_usage).guests
        return told.held

    assert held(4 * GIB, host_swap=GIB) == held(None, host_swap=GIB) == 4 * GIB
    assert held(0) == 3 * GIB, "nothing of the host is in swap, so nothing of the guest is"
    assert held(GIB) == 4 * GIB
    assert held(100 * GIB) == 8 * GIB, "it has no more than it was sold"
    assert held(100 * GIB, rss=9 * GIB) == 9 * GIB, "or than its process holds"
    assert held(None) is None, "what may be in swap is not known: it counts with all that it was sold"


def test_what_is_promised_to_guests_that_are_not_told_of_counts_where_others_might_come() -> None:
    view = FleetView()
    view.members.records["h1"] = (1, Member(group="g", address="qemu+tls://h1/system"))  # type: ignore[arg-type]  # it is parsed
    view.states.records["h1"] = (1, state_of(many(1000)))
    view.states.set_at["h1"] = view.states.newest = time.time()
    assert places(view)["h1"].promised == 1000 * GIB


def test_no_guest_comes_to_a_host_that_does_not_know_yet_what_it_can_promise() -> None:
    view = FleetView()
    view.members.records["h1"] = (1, Member(group="g", address="qemu+tls://h1/system"))  # type: ignore[arg-type]  # it is parsed
    view.states.set_at["h1"] = view.states.newest = time.time()
    view.states.records["h1"] = (1, state_of({}, promisable=None))
    assert places(view) == {}
    assert place_of(view, "h1") == "the memory that the host can promise is unknown"
    view.states.records["h1"] = (1, HostState(mode="enforce", total=GIB, available=GIB))
    assert places(view)["h1"].unpromised == GIB, "without a plugin that holds promises, all of its memory counts"


def test_of_a_guest_whose_description_was_not_read_yet_all_may_be_promised() -> None:
    guests = {
        identity: replace(guest, blocked={"*": GuestDescription.UNREAD})
        for identity, guest in many(1, mem_promised=None, balloon_max=3 * GIB).items()
    }
    assert [one.guarantee for one in state_of(guests).guests] == [3 * GIB]


def test_how_many_guests_are_unhealthy_is_not_known_where_none_of_them_tells() -> None:
    assert state_of({}).unhealthy == 0
    assert state_of(many(3, stats_age=None)).unhealthy is None
    well, ill = ({"balloon_cur": GIB, "mem_usable": usable, "stats_age": 1.0} for usable in (GIB, 0))
    assert state_of({**many(1, stats_age=None), **many(2, "well", **well)}).unhealthy == 0
    assert state_of({**many(1, stats_age=None), **many(2, "ill", **ill)}).unhealthy == 2


def seen(report: Report, *, later: float = 0.0) -> tuple[HostState | None, str | None]:
    """Return the host's report some seconds after a cycle, and why it would not move its first guest."""
    clock = HandClock(report.snapshot.monotonic + report.duration + later)
    context = PluginContext(name="fleet", offers={GuestMoves: (FakeMoves(),)}, monotonic=clock)
    plugin = FleetPlugin(FleetPlugin.Settings(host="h1"), context)
    plugin.agent = Drained()
    plugin.mom_report(report)
    first = FakeHypervisor().guests()[0]
    move = Move(guest=first.id, name="vm1", to="h2", destination=Destination.parse("qemu+tls://h2/system"), takes=1, number=1)
    return plugin.state(), plugin.accepts(move)


def guests_of(report: Report) -> int | None:
    state = seen(report)[0]
    return None if state is None else len(state.guests)


def test_a_host_whose_hypervisor_does_not_answer_is_silent_and_not_taken_for_an_empty_one(mom_run: Callable[..., PluginRun]) -> None:
    class Hypervisor(FakeHypervisor):
        away = False

        def guests(self) -> Sequence[Guest]:
            if self.away:
                raise HypervisorError("libvirtd is away")
            return super().guests()

    hypervisor = Hypervisor()

    class Machine:
        def __init__(self, settings: PluginSettings, context: PluginContext) -> None:
            """Ignore the arguments."""

        @hookimpl
        def mom_hypervisor(self) -> Hypervisor:
            return hypervisor

    def between(number: int) -> None:
        hypervisor.away = number in (2, 3, 8)
        if number == 7:
            hypervisor.known.clear()

    reports = mom_run({"machine": Machine}, cycles=12, between=between).reports
    told = [guests_of(report) for report in reports]
    assert told[:4] == [3, None, None, 3]
    assert (told[6], told[7], told[11]) == (0, None, 0), "and one that is empty is that again a little later"
    assert [seen(reports[number])[1] for number in (0, 1, 3, 6)] == ["", None, "", "the guest is not on the host"]


def test_a_host_whose_mom_does_not_look_any_more_is_silent(mom_run: Callable[..., PluginRun]) -> None:
    (report,) = mom_run({"sim": {"guests": 2}}, cycles=1).reports
    late = stale_seconds(PluginContext().interval)
    assert seen(report, later=late - 1)[0] is not None
    assert seen(report, later=late + 1) == (None, None)
