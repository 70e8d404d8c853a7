"""Promises that moves must keep, and reasons for no move: `mom fleet plan` on example fleets."""

import time
from collections.abc import Iterable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mom_core import MomError
from mom_kvm import Destination
from mom_plugins_fleet.coordinator.plan import LOST_SECONDS, RECENT_SECONDS, for_balance, needs_of, next_orders, places
from mom_plugins_fleet.records import FinishedMove, HostedGuest, HostState, Member, Move, MoverState, MoveState, Orders
from mom_plugins_fleet.verbs.status import host_rows, planned, print_hosts, print_plan
from mom_plugins_fleet.view import SETTLES_SECONDS, SILENT_SECONDS, FleetView, ended

GIB = 1 << 20


def guest(
    name: str, gib: int = 2, *, held: int | None = None, working: int | None = None, guarantee: int = 0, stays: str = ""
) -> HostedGuest:
    return HostedGuest(
        id=f"id-{name}",
        name=name,
        size=gib * GIB,
        maximum=gib * GIB,
        held=None if held is None else held * GIB,
        working=None if working is None else working * GIB,
        guarantee=guarantee * GIB,
        stays=stays,
    )


def ordered(*moves: Move) -> Orders:
    """Return orders of a coordinator that knows the progress of these moves."""
    over = [move for move in moves if move.state is MoveState.DONE]
    finished = tuple(move if isinstance(move, FinishedMove) else ended(move, move.state, time.time()) for move in over)
    return Orders(epoch=3, moves=tuple(move for move in moves if move not in over), finished=finished)


class Fleet(FleetView):
    """Fleet of connected hosts of 64 GiB, half of it available."""

    @property
    def newest(self) -> float:
        return max(self.states.set_at.values(), default=0.0)

    def host(
        self,
        name: str,
        guests: Iterable[HostedGuest] = (),
        *,
        available: int = 32,
        total: int = 64,
        draining: bool = False,
        balance: bool = False,
        mover: MoverState | None = None,
        address: str = "",
        promisable: int | None = None,
    ) -> None:
        reached = Destination.parse(address or f"qemu://{name}/system")
        member = Member(group="g", address=reached, draining=draining, cordoned=draining, balance=balance)
        self.members.records[name] = (1, member)
        state = HostState(
            mode="enforce",
            total=total * GIB,
            available=available * GIB,
            promisable=None if promisable is None else promisable * GIB,
            guests=tuple(guests),
            mover=mover,
        )
        self.states.records[name] = (1, state)
        self.states.set_at[name] = time.time()

    def decide(self, host: str) -> Mapping[str, str]:
        """Let the coordinator plan for a host. Return reasons why guests stay."""
        orders, stuck = next_orders(self, host, 7, places(self))
        self.orders.records[host] = (1, orders)
        return stuck

    def end(self, host: str, state: MoveState) -> None:
        """End all moves of a host."""
        orders = self.orders.records[host][1]
        moves = [move.model_copy(update={"state": state}) for move in orders.moves]
        self.orders.records[host] = (2, ordered(*moves, *orders.finished))

    def moves(self, host: str) -> list[tuple[str, str]]:
        return [(move.name, move.to) for move in self.orders.records[host][1].moves]


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


# --- promises ------------------------------------------------------------------------------------------------------------------------


def test_a_guest_is_moved_by_what_its_host_holds_of_it_and_not_by_what_it_was_sold(fleet):
    fleet.host("a", [guest("large", 70, held=20, working=4)], total=128, draining=True)
    fleet.host("b", total=58, available=40)
    fleet.decide("a")
    assert fleet.moves("a") == [("large", "b")]
    assert fleet.orders.records["a"][1].moves[0].takes == 20 * GIB


def test_what_is_not_known_of_a_guest_is_as_large_as_it_was_sold():
    assert needs_of(guest("x", 70)) == 70 * GIB
    assert needs_of(guest("x", 70, held=3, working=9)) == 9 * GIB
    assert needs_of(HostedGuest(id="x", name="x")) is None


def test_a_promise_must_hold_from_the_first_moment_on_though_the_guest_holds_less(fleet):
    fleet.host("a", [guest("gold", 40, held=4, guarantee=40)], draining=True)
    fleet.host("b", available=32)
    assert "needs 40.00 GiB" in fleet.decide("a")["gold"]
    fleet.host("b", available=60)
    fleet.decide("a")
    assert fleet.moves("a") == [("gold", "b")]


def test_promises_to_guests_on_their_way_count_where_they_go(fleet):
    fleet.host("a", [guest(name, 30, held=5, guarantee=30) for name in "xy"], draining=True)
    fleet.host("b", [guest("own", 60, held=5, guarantee=60)], total=100, available=95)
    assert "can promise 30.00 GiB to the guest" in fleet.decide("a")["y"]
    assert fleet.moves("a") == [("x", "b")]


def test_a_promise_counts_where_its_guest_has_gone_before_that_host_tells_of_it_and_once_when_it_does(fleet):
    leaving, own = [guest(name, 30, held=5, guarantee=30) for name in "xyz"], guest("own", 60, held=5, guarantee=60)
    fleet.host("a", leaving, draining=True)
    fleet.host("b", [own], total=130, available=125)
    fleet.decide("a")
    assert [name for name, _ in fleet.moves("a")] == ["x", "y"]
    going = fleet.orders.records["a"]
    fleet.end("a", MoveState.DONE)
    assert "can promise " in fleet.decide("a")["z"]
    assert places(fleet)["b"].promised == 120 * GIB
    fleet.orders.records["a"] = going
    fleet.host("b", [own, leaving[0]], total=130, available=120)
    assert places(fleet)["b"].promised == 120 * GIB, "libvirt lists a guest there while it comes"
    fleet.host("b", [own, guest("x", 30, held=5, guarantee=0)], total=130, available=120)
    assert places(fleet)["b"].promised == 120 * GIB, "and its mom may not know yet what is promised to it"


def test_orders_that_are_left_of_a_host_that_was_removed_keep_no_room(fleet):
    fleet.host("a", [guest("x", 30)], draining=True)
    fleet.host("b", available=64)
    free = places(fleet)["b"].room
    fleet.decide("a")
    assert places(fleet)["b"].room == free - 30 * GIB
    del fleet.members.records["a"]
    fleet.members.damaged["a"] = "it is not signed"
    assert places(fleet)["b"].room == free - 30 * GIB, "what a thief has overwritten is not removed"
    del fleet.members.damaged["a"]
    assert places(fleet)["b"].room == free


# --- arrivals --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("state", "waits"), [(MoveState.ORDERED, False), (MoveState.ACCEPTED, True)])
def test_no_guest_waits_for_those_of_a_host_that_tells_how_it_is_and_follows_no_orders(fleet, state, waits):
    fleet.host("t", available=60)
    fleet.host("a", [guest("1"), guest("2")], draining=True)
    fleet.decide("a")
    for ago, still in ((LOST_SECONDS - 9, True), (LOST_SECONDS + 1, waits)):
        moves = fleet.orders.records["a"][1].moves
        ordered = tuple(one.model_copy(update={"state": state, "order": int(time.time() - ago)}) for one in moves)
        fleet.orders.records["a"] = (2, Orders(epoch=7, moves=ordered))
        fleet.host("c", [guest("3")], draining=True)
        assert ("3" in fleet.decide("c")) == still
    assert fleet.moves("c") == ([] if waits else [("3", "t")])


def test_a_guest_that_still_comes_to_a_host_that_is_drained_meanwhile_leaves_it_when_it_is_there(fleet):
    fleet.host("a", [guest("1")], draining=True)
    fleet.host("b")
    fleet.host("c", available=20)
    now = time.time()
    fleet.states.set_at.update(a=now, b=now, c=now)
    fleet.decide("a")
    fleet.end("a", MoveState.ACCEPTED)
    fleet.host("b", [guest("1")], draining=True)
    assert fleet.decide("b") == {"1": "it is still arriving from a"}
    assert fleet.moves("b") == []
    fleet.states.set_at["a"] = now - LOST_SECONDS - 1
    assert fleet.decide("b") == {}, "whoever was to let it go says nothing any more"
    fleet.states.set_at["a"] = now
    fleet.orders.records.pop("b")
    fleet.end("a", MoveState.DONE)
    fleet.host("a", draining=True)
    fleet.decide("b")
    assert fleet.moves("b") == [("1", "c")]


def test_what_a_silent_host_has_not_accepted_for_long_is_ordered_anew_by_the_room_there_is_when_it_is_back(fleet):
    fleet.host("a", [guest("1", 20)], draining=True)
    fleet.host("b")
    fleet.decide("a")
    assert fleet.moves("a") == [("1", "b")]
    orders = fleet.orders.records["a"][1]
    long_ago = int(time.time() - LOST_SECONDS - 10)
    fleet.orders.records["a"] = (1, orders.model_copy(update={"moves": (orders.moves[0].model_copy(update={"order": long_ago}),)}))
    fleet.decide("a")
    assert fleet.moves("a") == [("1", "b")], "it tells how it is"
    fleet.states.set_at["a"] -= LOST_SECONDS
    fleet.decide("a")
    assert fleet.moves("a") == []
    fleet.host("a", [guest("1", 20)], draining=True)
    fleet.host("b", available=20)
    assert "it needs 20.00 GiB" in fleet.decide("a")["1"]
    assert fleet.moves("a") == []


def test_a_guest_that_has_just_come_takes_the_room_that_its_host_may_have_told_of_before_it_was_there(fleet):
    fleet.host("a", [guest("1", 20)], draining=True)
    fleet.host("b")
    fleet.decide("a")
    fleet.host("b", [guest("1", 20)], available=31)  # reported while it arrived
    fleet.end("a", MoveState.DONE)
    fleet.host("a", [guest("2", 20)], draining=True)
    assert "it needs 20.00 GiB" in fleet.decide("a")["2"]
    fleet.states.set_at["b"] += SETTLES_SECONDS + 1
    assert places(fleet)["b"].available == 31 * GIB
    fleet.decide("a")
    assert fleet.moves("a") == [("2", "b")]


def test_what_a_host_keeps_for_a_launch_is_no_room_for_guests_of_others(fleet):
    fleet.host("a", [guest("1", 10, guarantee=10)], draining=True)
    fleet.host("b", available=32, promisable=60)
    state = fleet.states.records["b"][1]
    fleet.states.records["b"] = (1, state.model_copy(update={"reserved": 20 * GIB}))
    place = places(fleet)["b"]
    assert (place.available, place.promisable) == (12 * GIB, 40 * GIB)
    assert "it needs 10.00 GiB" in fleet.decide("a")["1"]


# --- movers ----------------------------------------------------------------------------------------------------------------------------


def test_guests_go_only_where_their_mover_moves_them(fleet):
    pve = MoverState(name="proxmox_mover", live=True, within="rack1")
    fleet.host("a", [guest("1")], draining=True, mover=pve)
    fleet.host("b", available=60, mover=MoverState(name="proxmox_mover", live=True, within="rack2"), address="host://b")
    assert "within rack1" in fleet.decide("a")["1"]
    fleet.host("c", available=20, mover=pve, address="host://c")
    fleet.decide("a")
    assert fleet.moves("a") == [("1", "c")]
    assert str(fleet.orders.records["a"][1].moves[0].destination) == "host://c"


def test_a_mover_that_chooses_is_told_anywhere_and_only_where_one_host_could_keep_the_promise(fleet):
    engine = MoverState(name="ovirt_mover", live=True, chooses=True, within="ovirt")
    fleet.host("a", [guest("1", 40, held=40)], draining=True, mover=engine)
    fleet.host("b", available=32, mover=engine, address="host://b")
    assert fleet.decide("a")
    fleet.host("b", available=60, mover=engine, address="host://b")
    fleet.host("c", available=20, mover=engine, address="host://c")
    fleet.decide("a")
    assert [(move.to, move.destination) for move in fleet.orders.records["a"][1].moves] == [("b", Destination.ANYWHERE)]
    fleet.end("a", MoveState.DONE)
    fleet.host("a", draining=True, mover=engine)
    fleet.host("c", [guest("1", 40, held=40)], available=20, mover=engine, address="host://c")
    fleet.decide("a")
    assert fleet.moves("a") == [], "it has come, though elsewhere"


# --- balance ---------------------------------------------------------------------------------------------------------------------------

LIVE = MoverState(name="qemu:///system", live=True)
WORKED = (9, 9, 9, 9, 9, 9)


def uneven(
    here: Iterable[int | None] = WORKED, there: int = 4, *, balance: bool = True, mover: MoverState | None = LIVE, stays: str = ""
) -> Fleet:
    """Return hosts `a` and `b` of 64 GiB whose guests use these GiB."""
    fleet = Fleet()
    guests = [guest(f"g{n}", 10, held=10, working=works, stays=stays) for n, works in enumerate(here)]
    fleet.host("a", guests, available=4, mover=mover, balance=balance)
    fleet.host("b", [guest("other", 10, held=10, working=there)], available=50, mover=LIVE)
    return fleet


def balanced(fleet: Fleet) -> tuple[str, str, str] | str:
    """Return the moved guest, its host and its destination; or why no guest moves."""
    found = for_balance(fleet, places(fleet), "g")
    return found if isinstance(found, str) else (found[1].guest, found[0], found[1].to)


@pytest.mark.parametrize(
    ("here", "more", "said"),
    [
        ([9, None], {}, "fewer than two hosts"),
        ([9, 9], {}, "working sets fill 28% of a and 6% of b"),
        (WORKED, {"there": 50}, "and 78% of b; a move needs 70% on the fullest host and a difference of 15%"),
        ([54], {}, "lower the highest load"),
        (WORKED, {"stays": "its class does not allow it"}, "no guest of a qualifies"),
        (WORKED, {"balance": False}, "`mom fleet balance a` allows the move of g0 to b"),
        (WORKED, {"mover": MoverState(name="m")}, "may stop guests while it moves them"),
        (WORKED, {"mover": MoverState(name="engine", live=True, chooses=True)}, "chooses their destination itself"),
    ],
)
def test_it_is_said_why_no_guest_is_moved_for_balance(here, more, said):
    assert said in balanced(uneven(here, **more))


def test_the_guest_is_moved_that_leaves_the_fuller_of_both_the_least_full_once_in_a_day_whatever_came_of_it():
    assert balanced(uneven([2, 25, 20, 7])) == ("id-g1", "a", "b")
    fleet = uneven()
    assert balanced(fleet) == ("id-g0", "a", "b")
    moved = Move(guest="id-g0", name="g0", to="a", destination=Destination.ANYWHERE, takes=GIB, number=1)
    lately = ended(moved, MoveState.DONE, time.time() - 3600)
    earlier = ended(moved.model_copy(update={"guest": "id-g1"}), MoveState.DONE, time.time() - RECENT_SECONDS - 60)
    fleet.orders.records["b"] = (1, Orders(finished=(lately, earlier)))
    assert balanced(fleet) == ("id-g1", "a", "b")


@given(st.lists(st.integers(0, 20), max_size=4), st.integers(0, 64), st.integers(0, 64))
def test_a_move_for_balance_breaks_no_promise_and_leaves_no_host_as_full_as_the_fullest_was(here, there, available):
    fleet = uneven(here, there)
    fleet.host("b", fleet.guests("b").values(), available=available, mover=LIVE, balance=True)
    found = for_balance(fleet, places(fleet), "g")
    if isinstance(found, str):
        assert found
        return
    origin, move = found
    works = {"a": sum(here), "b": there}
    moved = (fleet.guests(origin)[move.guest].working or 0) // GIB
    assert works[origin] >= 0.7 * 64
    assert max(works[origin] - moved, works[move.to] + moved) < works[origin]
    assert move.takes <= places(fleet)[move.to].room


def test_balance_waits_for_drains_and_for_guests_that_are_on_their_way():
    fleet = uneven()
    fleet.host("c", draining=True)
    assert balanced(fleet) == "no guest is moved now: c is being drained"
    fleet.host("c")
    order = Move(guest="x", name="x", to="b", destination=Destination.parse("qemu://b/system"), takes=GIB, number=1)
    for state in (MoveState.ORDERED, MoveState.ACCEPTED, MoveState.DONE):
        fleet.orders.records["c"] = (1, ordered(order.model_copy(update={"state": state})))
        assert balanced(fleet) == "no guest is moved now: guests of c are being moved"


@pytest.mark.parametrize(
    ("died", "state"), [("c", None), ("c", MoveState.ORDERED), ("c", MoveState.ACCEPTED), ("c", MoveState.DONE), ("d", MoveState.DONE)]
)
def test_balance_goes_on_without_a_host_that_died(died, state):
    fleet = uneven()
    fleet.host("c", [guest("x")], draining=state is None)
    fleet.host("d")
    if state is not None:
        move = Move(guest="x", name="x", to="d", destination=Destination.parse("qemu://d/system"), takes=GIB, number=1, state=state)
        fleet.orders.records["c"] = (1, ordered(move))
    now = time.time()
    fleet.states.set_at.update(dict.fromkeys("abcd", now))
    fleet.states.set_at[died] -= SILENT_SECONDS + 1
    assert isinstance(balanced(fleet), str), "it may only be away for a moment"
    fleet.states.set_at[died] -= LOST_SECONDS + 1
    assert balanced(fleet) == ("id-g0", "a", "b")


def test_a_guest_that_was_not_moved_for_balance_is_not_tried_again_within_a_day_whoever_coordinates():
    fleet = uneven()
    fleet.host("b", fleet.guests("b").values(), available=50, mover=LIVE)
    found = for_balance(fleet, places(fleet), "g")
    assert not isinstance(found, str)
    fleet.orders.records["a"] = (1, Orders(moves=(found[1],)))
    fleet.end("a", MoveState.FAILED)
    before = places(fleet)["b"].room
    fleet.decide("a")
    assert fleet.moves("a") == []
    assert balanced(fleet) == ("id-g1", "a", "b"), "its orders say so, which the next coordinator reads"
    guests = fleet.guests("a").values()
    fleet.host("a")
    assert places(fleet)["b"].room == before, "and it takes no room where it has not come, though it has ended since"
    fleet.host("a", guests, available=4, mover=LIVE, balance=True)
    fleet.states.set_at["b"] += RECENT_SECONDS + 1
    fleet.states.set_at["a"] += RECENT_SECONDS + 1
    assert balanced(fleet) == ("id-g0", "a", "b")


# --- mom fleet plan ----------------------------------------------------------------------------------------------------------------------


def three_hosts() -> Fleet:
    fleet = Fleet()
    mover = MoverState(name="qemu:///system", live=True)
    fleet.host("a", [guest(f"g{n}", 4, held=3) for n in range(5)] + [guest("stuck", stays="its class does not allow it")], mover=mover)
    fleet.host("b", available=30)
    fleet.host("c", available=30)
    return fleet


def test_the_plan_shows_all_moves_of_a_drain_that_has_not_begun_and_changes_nothing():
    fleet = three_hosts()
    plan = planned(fleet, ["a"])
    assert sorted(move["guest"] for move in plan["moves"]) == [f"g{n}" for n in range(5)]
    assert {move["to"] for move in plan["moves"]} == {"b", "c"}, "each takes room from the next"
    assert plan["stay"] == [("a", "stuck", "its class does not allow it")]
    assert fleet.orders.records == {}
    assert plan["closed"] == {"a": "it is being drained"}
    assert planned(three_hosts())["moves"] == []
    with pytest.raises(MomError, match="no host x"):
        planned(fleet, ["x"])


def test_it_is_said_why_hosts_take_no_guests(fleet, capsys):
    for name in "abcde":
        fleet.host(name, draining=name == "e")
    fleet.members.records["a"] = (1, Member(group="g"))
    fleet.members.records["b"] = (1, fleet.members.records["b"][1].model_copy(update={"cordoned": True, "balance": True}))
    fleet.states.records["c"] = (1, HostState(mode="observe", problems=1))
    for silent in "de":
        fleet.states.set_at[silent] -= SILENT_SECONDS + 1
    plan = planned(fleet)
    reasons = {
        "a": "it has no address",
        "b": "it is cordoned",
        "c": "its memory, or its available",
        "d": "it is silent",
        "e": "it is being",
    }
    assert [why for name, why in reasons.items() if not plan["closed"][name].startswith(why)] == []
    assert plan["stay"] == [("e", "all guests", "the host is silent: it gets no orders")]
    print_hosts(host_rows(fleet))
    said = capsys.readouterr().out
    assert [part for part in ("cordoned, balance", "c has 1 problem: see mom status", "observe") if part not in said] == []


def test_the_plan_is_printed(capsys):
    for plan, said in (
        (planned(three_hosts(), ["a"]), "a accepts no guests: it is being drained"),
        (planned(three_hosts()), "No guest would be moved: no host is drained."),
        (planned(uneven()), "g0 would move from a to b"),
    ):
        print_plan(plan)
        assert said in " ".join(capsys.readouterr().out.split())


def test_what_hosts_tell_prints_nothing_but_text(fleet, capsys):
    evil = HostedGuest(id="x", name="\x1b[2Jevil", size=GIB, maximum=GIB)
    fleet.host("a", [evil, HostedGuest(id="y", name="y", size=GIB, maximum=GIB, stays="\x1b]0;x\x07")], draining=True)
    fleet.host("b", mover=MoverState(name="\x1b[31m"))
    print_plan(planned(fleet))
    assert "\x1b" not in capsys.readouterr().out
