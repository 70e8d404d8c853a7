"""The plugin with simulated guests: its steps, ignored guests, and its memory."""

import json
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from moving_hypervisor import MovingHypervisor
from pydantic import ValidationError

from mom_core import (
    Decision,
    Declarations,
    EngineState,
    Entity,
    FieldSpec,
    Guest,
    GuestBusy,
    HypervisorError,
    LedgerEntry,
    Outcome,
    PluginContext,
    Report,
    Revision,
    Scope,
    Snapshot,
    Source,
    Status,
    Unit,
    Value,
)
from mom_core.testing import snapshot
from mom_devkit import FakeGuest, HandClock, apply_decisions, put_back
from mom_kvm import Destination, GuestMoves, GuestState, HostDrain, Promises
from mom_plugins_sla import EvictionPlugin
from mom_plugins_sla.eviction.jobs import Job
from mom_plugins_sla.eviction.requests import request
from mom_plugins_sla.eviction.settings import EvictionSettings
from mom_plugins_sla.eviction.steps import EvictionField, Step
from mom_plugins_sla.eviction.verbs import eviction

FULL: Mapping[str, Value] = {"mem_available": 1_000_000, "mem_really_available": 5_000, "psi_memory_full_avg10": 60.0}
ROOM: Mapping[str, Value] = {"mem_available": 1_000_000, "mem_really_available": 900_000, "psi_memory_full_avg10": 0.0}
VAPOR: Mapping[str, Value] = {
    "may_save": 1, "may_pause": 0, "may_power_off": 0, "may_migrate": 0, "leave_warning": 30.0, "comes_back": 1, "sla_class": "vapor",
}  # fmt: skip
MAY_ALL: Mapping[str, Value] = {**VAPOR, "may_pause": 1, "may_power_off": 1, "may_migrate": 1}


class FleetDrain:
    """Service of an operator who drains the host with a plugin fleet."""

    def is_ordered(self, decision: Decision) -> bool:
        return decision.source == Source("fleet")


class Bench:
    """Plugin in cycles that are `step` seconds apart."""

    step = 5

    def __init__(
        self,
        folder: Path,
        *,
        guests: int = 4,
        mode: str = "enforce",
        ordinary: Mapping[str, Value] = {},  # not changed
        fields: Mapping[str, Mapping[str, Value]] = {},  # as above
        **settings: object,
    ) -> None:
        self.folder, self.mode, self.clock = folder, mode, HandClock()
        self.hypervisor = MovingHypervisor([FakeGuest(f"vm{number}") for number in range(1, guests + 1)])
        self.fields, self.ordinary = fields, ordinary
        self.host: Mapping[str, Value] = FULL
        self.plugin = self.start((), **settings)

    def start(self, changes: Sequence[LedgerEntry] = (), **settings: object) -> EvictionPlugin:
        context = PluginContext(
            name="eviction",
            state_directory=self.folder,
            monotonic=self.clock,
            engine_state=lambda: EngineState(changes=changes),
            configuration=lambda: {"mode": self.mode},
            offers=self.services(),
        )
        plugin = EvictionPlugin(EvictionSettings.model_validate(settings), context)
        plugin.mom_setup()
        self.plugin = plugin
        return plugin

    def services(self) -> dict[type, Sequence[object]]:
        return {HostDrain: (FleetDrain(),)}

    def cycle(self, *wanted: tuple[str, str, Value]) -> Report:
        """:param wanted: decisions of a policy: guest, control, value"""
        self.clock.now += self.step
        plugin, hypervisor = self.plugin, self.hypervisor
        listed: Sequence[Guest] = ()
        with suppress(HypervisorError):  # then the guests are unknown
            listed = hypervisor.guests()
        host = {**self.host, **plugin.mom_collect_host(hypervisor)}
        own = plugin.mom_collect_guests(hypervisor, listed) if listed else {}
        known: dict[str, Mapping[str, Value]] = {
            guest.name: {"rss": 1000, **self.ordinary, **self.fields.get(guest.name, {}), **own[guest.id]} for guest in listed
        }
        taken = snapshot(host=host, guests=known, properties={guest.name: {"uuid": guest.id} for guest in listed})
        ids = {guest.name: guest.id for guest in listed}
        assert set(taken.guests) == set(ids.values()), "the bench's guests have the hypervisor's ids"
        seen = Snapshot(taken.host, taken.guests, self.clock.wall(), self.clock.now)
        decisions = list(plugin.mom_act(seen))
        problems = list(plugin.mom_problems(seen))
        for name, control, value in wanted:
            if name in ids:
                decisions.append(Decision(seen.guests[ids[name]].entity, control, value, "", Source("50_policy", 3, 1)))
        revisions = [*plugin.mom_review(seen, decisions)]
        dropped = [revision.before for revision in revisions]
        left = [decision for decision in decisions if decision not in dropped]
        if self.mode == "enforce":
            outcomes = apply_decisions(plugin, left, hypervisor, seen)
        else:
            outcomes = [Outcome(decision, 0, 0, Status.OBSERVED) for decision in left]
        report = Report(1, seen.time, self.mode, seen, decisions, revisions, outcomes, problems, (), 0.1)
        plugin.mom_report(report)
        self.settle()
        return report

    def settle(self) -> None:
        """Wait until all calls have ended. The end of a call wakes a cycle, which checks it first."""
        if calls := self.plugin.jobs.calls:
            wait(calls, 60)
            self.plugin.jobs.check_stopped(self.hypervisor)

    def cycles(self, seconds: float, *wanted: tuple[str, str, Value]) -> list[Report]:
        return [self.cycle(*wanted) for _ in range(int(seconds / self.step))]

    def identity(self, name: str) -> str:
        return next(one.id for one in (*self.hypervisor.known.values(), *self.hypervisor.stopped.values()) if one.name == name)

    def entity(self, name: str) -> Entity:
        return next(guest.entity for guest in self.hypervisor.guests() if guest.name == name)

    @property
    def remembered(self) -> list[str]:
        return [f"{one.name}: {one.step}" for one in self.plugin.jobs.stopped]


def refusals(reports: Sequence[Report]) -> list[str]:
    return list(dict.fromkeys(revision.reason for report in reports for revision in report.revisions))


def applied(reports: Sequence[Report]) -> list[tuple[str, str]]:
    return [
        (outcome.decision.entity.name, outcome.decision.control)
        for report in reports
        for outcome in report.outcomes
        if outcome.status is Status.APPLIED
    ]


# --- the ladder -----------------------------------------------------------------------------------------------------------------------


def test_a_guest_whose_class_allows_it_is_saved_and_comes_back_when_there_has_been_room(tmp_path: Path) -> None:
    bench = Bench(tmp_path, enabled=True, fields={"vm2": VAPOR})
    reports = bench.cycles(200)
    assert applied(reports) == [("vm2", "guest_save")]
    assert bench.remembered == ["vm2: save"]
    warned = [problem for report in reports for problem in report.problems]
    assert warned[0].entity is not None
    assert warned[0].entity.name == "vm2"
    assert len({problem.message for problem in warned}) == 1, "one problem is one text"
    bench.host = ROOM
    bench.cycles(590)
    assert bench.hypervisor.stopped
    bench.cycles(30)
    assert not bench.hypervisor.stopped
    assert bench.remembered == []


def test_nobody_is_stopped_without_a_word_of_the_operator_or_without_a_class(tmp_path: Path) -> None:
    assert applied(Bench(tmp_path, ordinary=MAY_ALL).cycles(300)) == []
    assert applied(Bench(tmp_path, enabled=True).cycles(300)) == []


def test_guests_are_moved_to_the_destination_before_any_is_stopped(tmp_path: Path) -> None:
    bench = Bench(tmp_path, enabled=True, guests=8, destination="qemu+tls://spare/system", ordinary=MAY_ALL)
    done = applied(bench.cycles(2000))
    assert [control for _, control in done[:2]] == ["guest_migrate", "guest_migrate"]
    assert set(bench.hypervisor.migrated.values()) == {Destination.parse("qemu+tls://spare/system")}
    assert [control for _, control in done[2:]] == ["guest_save"], "no more than a quarter is moved within an hour"


def test_observing_touches_nobody_and_tells_nobody_but_shows_what_it_would_do(tmp_path: Path) -> None:
    bench = Bench(tmp_path, enabled=True, mode="observe", fields={"vm2": VAPOR})
    reports = bench.cycles(200)
    assert any("mom only observes" in problem.message for report in reports for problem in report.problems)
    assert [o.status for report in reports for o in report.outcomes][:1] == [Status.OBSERVED]
    assert not bench.hypervisor.stopped
    assert bench.remembered == []
    assert not (tmp_path / "eviction").exists()


def test_what_was_announced_is_called_off_when_mom_is_told_to_observe(tmp_path: Path) -> None:
    bench = Bench(tmp_path, enabled=True, fields={"vm2": VAPOR})
    bench.cycles(70)
    bench.mode = "observe"
    bench.cycles(100)
    assert bench.remembered == []


def test_a_step_that_fails_is_not_tried_again_and_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, enabled=True, fields={"vm2": VAPOR})
    tried: list[str] = []

    def save(guest: Entity, timeout_seconds: float) -> None:
        tried.append(guest.name)
        raise HypervisorError("the disk is full")

    bench.hypervisor.save = save  # type: ignore[method-assign]  # one that fails
    reports = bench.cycles(1000)
    assert tried == ["vm2"]
    assert bench.remembered == []
    assert reports[-1].snapshot.guests[bench.identity("vm2")].fields["guest_eviction_error"] == "the disk is full"


# --- guests that shut down late -----------------------------------------------------------------------------------------------------------


def asked(tmp_path: Path) -> Bench:
    """Return a bench with a guest that has not shut down within its time."""
    bench = Bench(tmp_path, guests=8, timeout="5s")
    bench.fields, bench.host = {"vm1": MAY_ALL}, ROOM
    follows = bench.hypervisor.shut_down
    bench.hypervisor.shut_down = lambda guest: None  # type: ignore[method-assign]  # the guest does not follow
    bench.cycles(60, ("vm1", "guest_shutdown", 1))
    bench.hypervisor.shut_down = follows  # type: ignore[method-assign]  # as it was
    assert bench.cycle().snapshot.host.fields["guests_stopped"] == 0, "it runs"
    return bench


@pytest.mark.parametrize("crashes", [False, True])
def test_a_guest_that_shuts_down_after_its_time_comes_back_as_one_that_did_in_time(tmp_path: Path, crashes: bool) -> None:
    bench = asked(tmp_path)
    if crashes:
        bench.start(timeout="5s")
    bench.cycles(1500)
    assert "to be shut down" in mom_eviction(tmp_path)[1]
    bench.hypervisor.shut_down(bench.entity("vm1"))
    if crashes:  # without a cycle
        bench.start(timeout="5s")
    assert bench.cycles(10)[-1].snapshot.host.fields["guests_stopped"] == 1
    bench.cycles(690)
    assert not bench.hypervisor.stopped
    assert bench.remembered == []


@pytest.mark.parametrize(("step", "away"), [("guest_pause", 0), ("guest_save", 700), ("guest_shutdown", 700)])
def test_what_a_guest_was_promised_is_told_while_it_is_not_listed_and_after_a_crash_too(tmp_path: Path, step: str, away: int) -> None:
    bench = Bench(tmp_path, guests=8)
    promises = SimpleNamespace(promised_kib=lambda guest: 700.0)
    bench.services = lambda: {HostDrain: (FleetDrain(),), Promises: (promises,)}  # type: ignore[method-assign]  # as with the plugin balloon
    bench.start()
    bench.fields = {"vm1": MAY_ALL}
    assert bench.cycle().snapshot.host.fields["mem_promised_stopped"] == 0
    bench.cycles(60, ("vm1", step, 1))
    assert bench.cycle().snapshot.host.fields["mem_promised_stopped"] == away
    bench.start()
    assert bench.cycle().snapshot.host.fields["mem_promised_stopped"] == away
    bench.host = ROOM
    bench.cycles(700)
    assert bench.cycle().snapshot.host.fields["mem_promised_stopped"] == 0, "it counts by itself again"


def test_one_that_was_asked_counts_as_about_to_stop_and_is_not_let_go_on_as_it_runs(tmp_path: Path) -> None:
    bench = asked(tmp_path)
    bench.ordinary = MAY_ALL
    assert len(applied(bench.cycles(60, *every("guest_save")))) == 1, "two of eight may be stopped"
    assert "mom asked it to shut down, but it still runs" in mom_eviction(tmp_path, "undo", "vm1")[1]
    assert "vm1: shut down" in bench.remembered


# --- calls that are not answered --------------------------------------------------------------------------------------------------------


def unanswered(tmp_path: Path, control: str) -> Bench:
    """Return a bench with a guest whose stop was not answered in time."""
    bench = Bench(tmp_path, guests=8, ordinary=MAY_ALL)
    bench.host = ROOM

    def silent(guest: Entity, *_: object) -> None:
        raise GuestBusy("no answer within 5 s")

    bench.hypervisor.pause = bench.hypervisor.save = bench.hypervisor.shut_down = silent  # type: ignore[method-assign, assignment]  # none answers
    bench.cycles(60, ("vm1", control, 1))
    del bench.hypervisor.pause, bench.hypervisor.save, bench.hypervisor.shut_down
    return bench


STOPS = {"guest_pause": GuestState.PAUSED, "guest_save": GuestState.SAVED, "guest_shutdown": GuestState.OFF}


@pytest.mark.parametrize("control", STOPS)
@pytest.mark.parametrize("crashes", [False, True])
def test_a_guest_that_stops_after_its_call_was_given_up_comes_back_as_others_do(tmp_path: Path, control: str, crashes: bool) -> None:
    bench = unanswered(tmp_path, control)
    vm1 = bench.entity("vm1")
    fields = bench.cycle().snapshot.guests[vm1.id].fields
    assert bench.plugin.jobs.error(vm1.id) == "no answer within 5 s"
    assert fields["guest_paused"] == (None if control == "guest_pause" else 0), "unknown"
    assert any("the guest is being" in reason for reason in refusals(bench.cycles(10, ("vm1", "guest_save", 1))))
    if control == "guest_pause":
        bench.hypervisor.pause(vm1)
    else:
        bench.hypervisor._stop(vm1, STOPS[control])
    if crashes:  # without a cycle
        bench.start()
    assert bench.cycle().snapshot.host.fields["guests_stopped"] == 1
    bench.cycles(700)
    assert bench.hypervisor.stands[vm1.id] is GuestState.RUNNING
    assert bench.remembered == []


@pytest.mark.parametrize("crashes", [False, True])
def test_a_pause_that_takes_effect_after_mom_has_ended_can_still_be_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crashes: bool
) -> None:
    bench = unanswered(tmp_path, "guest_pause")
    monkeypatch.setattr(time, "time", bench.clock.wall)
    if crashes:
        bench.start()
    noted = [entry(bench, "vm1")]
    assert [one.status for one in put_back(bench.plugin, noted, bench.hypervisor)] == [Status.FAILED], "and so stays in the ledger"
    monkeypatch.setattr(time, "time", lambda: bench.clock.wall() + 600)
    assert [one.status for one in put_back(bench.plugin, noted, bench.hypervisor)] == [Status.APPLIED], "it never took effect"
    bench.hypervisor.pause(bench.entity("vm1"))
    assert [one.status for one in put_back(bench.plugin, noted, bench.hypervisor)] == [Status.APPLIED]
    assert bench.hypervisor.stands[bench.identity("vm1")] is GuestState.RUNNING
    assert bench.remembered == []


@pytest.mark.parametrize("control", ["guest_pause", "guest_shutdown"])
def test_a_guest_whose_call_never_took_effect_is_free_again_after_some_time(tmp_path: Path, control: str) -> None:
    bench = unanswered(tmp_path, control)
    assert len(bench.remembered) == 1
    bench.step = 20
    bench.cycles(2500)
    assert bench.remembered == []
    assert bench.hypervisor.stands == {}


@pytest.mark.parametrize("how", ["crash", "error"])
def test_a_guest_that_is_still_being_saved_after_its_time_is_not_forgotten(tmp_path: Path, how: str) -> None:
    bench = Bench(tmp_path, guests=8, ordinary=MAY_ALL)
    bench.host = ROOM
    save = bench.hypervisor.save

    def slow(guest: Entity, timeout_seconds: float) -> None:
        bench.hypervisor.stands[guest.id] = GuestState.PAUSED  # as during a save
        raise HypervisorError("the connection broke")

    bench.hypervisor.save = slow  # type: ignore[method-assign]  # as above
    bench.cycles(60, ("vm1", "guest_save", 1))
    if how == "crash":
        bench.start()
    bench.step = 20
    bench.cycles(3000)
    assert bench.remembered == ["vm1: save"]
    assert bench.plugin.jobs.under_way == 0, "the others need not wait for it"
    save(bench.entity("vm1"), 1.0)
    bench.cycles(700)
    assert bench.remembered == []
    assert not bench.hypervisor.stopped


# --- review -----------------------------------------------------------------------------------------------------------------------------


def every(control: str, value: Value = 1) -> list[tuple[str, str, Value]]:
    return [(f"vm{number}", control, value) for number in range(1, 9)]


def test_a_policy_that_would_stop_everybody_stops_a_quarter_after_the_warning(tmp_path: Path) -> None:
    bench, control = Bench(tmp_path, guests=8), "guest_save"
    bench.ordinary, bench.host = MAY_ALL, ROOM
    early = bench.cycles(30, *every(control))
    assert applied(early) == []
    assert any("announced" in reason for reason in refusals(early))
    later = bench.cycles(300, *every(control))
    assert len(applied(later)) == 2
    assert any("the limit is 2 of 8" in reason for reason in refusals(later))


def test_a_policy_cannot_do_what_the_class_forbids(tmp_path: Path) -> None:
    bench = Bench(tmp_path, fields={"vm1": VAPOR, "vm2": {**VAPOR, "may_save": 0}})
    reports = bench.cycles(100, ("vm1", "guest_shutdown", 1), ("vm2", "guest_save", 1), ("vm3", "guest_pause", 1))
    assert applied(reports) == []
    assert any("class vapor does not allow this step (may_power_off)" in reason for reason in refusals(reports))
    assert any("no class that allows this step" in reason for reason in refusals(reports))


def test_what_a_policy_does_not_want_any_more_is_called_off(tmp_path: Path) -> None:
    bench = Bench(tmp_path, ordinary=MAY_ALL)
    bench.cycles(20, ("vm1", "guest_save", 1))
    bench.cycle()
    assert applied(bench.cycles(25, ("vm1", "guest_save", 1))) == [], "the warning begins anew"


def test_an_operators_drain_moves_all_and_those_without_a_class_only_where_that_is_allowed(tmp_path: Path) -> None:
    for unclassed, moved in ((False, 1), (True, 4)):
        bench = Bench(tmp_path / str(unclassed), move_unclassed=unclassed)
        bench.fields = {"vm1": MAY_ALL}
        seen = bench.cycle().snapshot
        wanted = [Decision(guest.entity, "guest_migrate", "qemu+tls://h2/system", "", Source("fleet")) for guest in seen.guests.values()]
        assert len(wanted) - len([*bench.plugin.mom_review(seen, wanted)]) == moved
        forged = [Decision(one.entity, "guest_migrate", "qemu+tls://h2/system", "", Source("fleet", 1, 1)) for one in wanted]
        assert len([*bench.plugin.mom_review(seen, forged)]) == 4


def test_a_drain_moves_no_guest_of_which_the_plugin_of_classes_is_silent(tmp_path: Path) -> None:
    bench = Bench(tmp_path, move_unclassed=True)
    specs = [FieldSpec(name, Unit.FLAG, Scope.GUEST, "") for name in ("may_migrate", EvictionField.ANSWERS)]
    bench.plugin._context.declarations = Declarations({(Scope.GUEST, one.name): one for one in specs})
    unknown = ["the guest's class is unknown now: the plugin that assigns classes has not answered"] * 4
    cycles: Sequence[tuple[Mapping[str, Value], list[str]]] = (({}, unknown), ({EvictionField.ANSWERS: None}, []), ({}, unknown))
    for told, said in cycles:
        bench.ordinary = told
        seen = bench.cycle().snapshot
        wanted = [Decision(guest.entity, "guest_migrate", "qemu+tls://h2/system", "", Source("fleet")) for guest in seen.guests.values()]
        assert [one.reason for one in bench.plugin.mom_review(seen, wanted)] == said
        assert [why for guest in seen.guests.values() if (why := bench.plugin.mom_services()[GuestMoves].why_stays(guest))] == said


@pytest.mark.parametrize("who", ["fleet", "a policy"])
@pytest.mark.parametrize("destination", ["qemu+ssh://h/system?command=/bin/sh", 1])
def test_whoever_decides_a_destination_that_runs_programs_gets_no_further(tmp_path: Path, who: str, destination: Value) -> None:
    bench = Bench(tmp_path, move_unclassed=True)
    seen = bench.cycle().snapshot
    wanted = [Decision(guest.entity, "guest_migrate", destination, "", Source(who)) for guest in seen.guests.values()]
    bench.ordinary = MAY_ALL
    revisions: list[Revision] = [*bench.plugin.mom_review(bench.cycle().snapshot, wanted)]
    assert ["the destination is invalid" in one.reason for one in revisions] == [True] * 4
    outcomes = apply_decisions(bench.plugin, wanted, bench.hypervisor, seen)
    assert {one.status for one in outcomes} == {Status.FAILED}, "one that passed the review nevertheless is refused where it would be done"
    with pytest.raises(ValidationError):
        EvictionSettings(destination=destination)  # type: ignore[arg-type]  # as in YAML
    bench.settle()
    assert bench.hypervisor.migrated == {}


# --- changes of others, and restarts ---------------------------------------------------------------------------------------------------


def paused(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path, ordinary=MAY_ALL)
    bench.cycles(60, ("vm1", "guest_pause", 1))
    assert bench.remembered == ["vm1: pause"]
    return bench


def test_a_guest_that_somebody_else_lets_go_on_is_left_alone(tmp_path: Path) -> None:
    bench = paused(tmp_path)
    bench.hypervisor.resume(bench.entity("vm1"))
    reports = bench.cycles(1000, ("vm1", "guest_pause", 1))
    assert bench.remembered == []
    assert any("an operator resumed the guest" in reason for reason in refusals(reports)), "for half an hour whatever a policy wants"


def test_a_guest_that_is_gone_for_one_look_is_not_forgotten(tmp_path: Path) -> None:
    bench = paused(tmp_path)
    vm1 = bench.hypervisor.known.pop("vm1")
    bench.cycles(10)
    assert bench.remembered == ["vm1: pause"]
    bench.hypervisor.known["vm1"] = vm1
    bench.cycle()
    del bench.hypervisor.known["vm1"]
    bench.cycles(15)
    assert bench.remembered == []


def entry(bench: Bench, name: str, control: str = "guest_pause") -> LedgerEntry:
    incarnation = next(guest.incarnation for guest in bench.hypervisor.guests() if guest.id == bench.identity(name))
    return LedgerEntry(bench.entity(name), control, 0, 1, "eviction", 0.0, incarnation)


def test_a_paused_guest_goes_on_at_moms_end_and_only_if_it_is_moms_pause(tmp_path: Path) -> None:
    bench = paused(tmp_path)
    bench.hypervisor.pause(bench.entity("vm2"))  # by another program
    bench.start()  # another process restores, and has read the file
    outcomes = put_back(bench.plugin, [entry(bench, "vm1"), entry(bench, "vm2"), entry(bench, "vm3")], bench.hypervisor)
    assert [outcome.status for outcome in outcomes] == [Status.APPLIED, Status.LEFT_ALONE, Status.APPLIED]
    assert bench.hypervisor.stands[bench.identity("vm1")] is GuestState.RUNNING
    assert bench.remembered == []


def two_paused(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path, guests=8, ordinary=MAY_ALL)
    bench.cycles(60, ("vm1", "guest_pause", 1), ("vm2", "guest_pause", 1))
    assert bench.remembered == ["vm1: pause", "vm2: pause"]
    return bench


def test_a_paused_guest_that_does_not_answer_keeps_no_other_one_from_going_on(tmp_path: Path) -> None:
    bench = two_paused(tmp_path)
    bench.hypervisor.silent = {bench.identity("vm1")}
    outcomes = put_back(bench.plugin, [entry(bench, "vm1"), entry(bench, "vm2")], bench.hypervisor)
    assert {outcome.decision.entity.name: outcome.status for outcome in outcomes} == {"vm1": Status.FAILED, "vm2": Status.APPLIED}
    assert bench.hypervisor.stands[bench.identity("vm2")] is GuestState.RUNNING
    assert bench.remembered == ["vm1: pause"]


def test_a_saved_guest_survives_a_crash_and_the_next_run_lets_it_go_on(tmp_path: Path) -> None:
    bench = Bench(tmp_path, ordinary=MAY_ALL)
    bench.cycles(60, ("vm1", "guest_save", 1))
    assert bench.remembered == ["vm1: save"]
    vm1 = Entity(Scope.GUEST, bench.identity("vm1"), "vm1")
    outcomes = put_back(bench.plugin, [LedgerEntry(vm1, "guest_save", 0, 1, "eviction", 0.0)], bench.hypervisor)
    assert outcomes[0].status is Status.GONE
    assert bench.hypervisor.stopped, "it stays saved"
    bench.start()
    bench.host = ROOM
    bench.cycles(700)
    assert not bench.hypervisor.stopped


def test_a_guest_that_mom_has_paused_goes_on_though_the_file_is_damaged(tmp_path: Path) -> None:
    bench = paused(tmp_path)
    paused_by_mom = entry(bench, "vm1")
    (tmp_path / "eviction" / "jobs.json").write_text("{")
    bench.start(changes=[paused_by_mom])
    assert bench.remembered == ["vm1: pause"]
    bench.cycle()
    assert [outcome.status for outcome in put_back(bench.plugin, [paused_by_mom], bench.hypervisor)] == [Status.APPLIED]
    assert bench.remembered == []


def test_a_disk_that_takes_nothing_keeps_mom_from_stopping_anybody(tmp_path: Path) -> None:
    bench = Bench(tmp_path, ordinary=MAY_ALL)
    (tmp_path / "eviction").write_text("in the way")
    reports = bench.cycles(60, ("vm1", "guest_save", 1))
    assert applied(reports) == []
    assert any("cannot record" in outcome.error for report in reports for outcome in report.outcomes)
    assert not bench.hypervisor.stopped


def test_what_the_disk_did_not_take_is_said_until_it_is_written(tmp_path: Path) -> None:
    bench = Bench(tmp_path, ordinary=MAY_ALL)
    for name in ("vm1", "vm2"):
        bench.plugin.jobs.stop(bench.hypervisor, Job(bench.identity(name), name, Step.PAUSE, needs=1000.0, comes_back=False))
    file = tmp_path / "eviction" / "jobs.json"
    file.unlink()
    file.mkdir()  # a folder in its place makes writing fail
    bench.hypervisor.resume(bench.entity("vm1"))
    for _ in range(3):  # also without new content
        bench.cycle()
        assert "cannot be written" in bench.plugin._context.state_files[-1].write_error
    assert bench.remembered == ["vm2: pause"]
    bench.hypervisor.resume(bench.entity("vm2"))
    bench.cycle()
    file.rmdir()
    bench.cycle()
    bench.cycle()
    assert not bench.plugin._context.state_files[-1].write_error
    assert json.loads(file.read_text())["content"] == []


def test_more_than_a_few_at_once_wait_for_their_turn(tmp_path: Path) -> None:
    bench = Bench(tmp_path, guests=9, share=0.7, ordinary=MAY_ALL)
    reports = bench.cycles(60, *every("guest_save"))
    assert [count for report in reports if (count := len(applied([report])))] == [4, 2]
    assert not any(outcome.status is Status.FAILED for report in reports for outcome in report.outcomes)


# --- limits across restarts --------------------------------------------------------------------------------------------------


SPARE = "qemu+tls://spare/system"
LEFT_ALONE = "an operator resumed the guest"


@pytest.mark.parametrize("writable", [True, False])
def test_no_more_guests_are_moved_within_an_hour_though_mom_is_started_anew_every_four_minutes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writable: bool
) -> None:
    only_moved = {**MAY_ALL, "may_save": 0, "may_pause": 0, "may_power_off": 0}
    bench = Bench(tmp_path, enabled=True, guests=8, destination=SPARE, ordinary=only_moved)
    monkeypatch.setattr("mom_plugins_sla.eviction.recent_steps.time.time", bench.clock.wall)
    file = tmp_path / "eviction" / "recent.json"
    if not writable:
        file.mkdir(parents=True)  # a folder in its place makes writing fail
    bench.step = 20
    bench.cycles(1000)
    assert len(bench.hypervisor.migrated) == 2, "what could not be written counts, too"
    if not writable:
        file.rmdir()
        bench.cycle()
    for _ in range(6):
        bench.start(enabled=True, destination=SPARE)
        bench.cycles(240)
    assert len(bench.hypervisor.migrated) == 2
    bench.cycles(2000)
    assert len(bench.hypervisor.migrated) > 2, "an hour has passed"


def undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Return a bench with a guest that the operator has resumed, after a restart of mom."""
    bench = paused(tmp_path)
    monkeypatch.setattr("mom_plugins_sla.eviction.recent_steps.time.time", bench.clock.wall)
    request(tmp_path / "eviction" / "undo", bench.identity("vm1"), lambda: True, 1.0)
    bench.cycle()
    assert bench.remembered == []
    bench.start()
    return bench


def test_a_mom_that_only_observes_lets_no_guest_go_on_though_the_operator_asks_for_it(tmp_path: Path) -> None:
    bench = paused(tmp_path)
    bench.mode = "observe"
    request(tmp_path / "eviction" / "undo", bench.identity("vm1"), lambda: True, 1.0)
    bench.cycle()
    assert bench.remembered == ["vm1: pause"]
    assert bench.hypervisor.stands[bench.identity("vm1")] is GuestState.PAUSED


def test_a_guest_that_the_operator_lets_go_on_is_left_alone_by_the_next_mom_too_for_half_an_hour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = undone(tmp_path, monkeypatch)
    for _ in range(4):
        reports = bench.cycles(400, ("vm1", "guest_pause", 1))
        assert any(LEFT_ALONE in reason for reason in refusals(reports))
        bench.start()
    assert bench.remembered == []
    bench.cycles(400, ("vm1", "guest_pause", 1))
    assert bench.remembered == ["vm1: pause"]


# --- the command -------------------------------------------------------------------------------------------------------------------------


def mom_eviction(tmp_path: Path, *words: str) -> tuple[int, str]:
    config = tmp_path / "mom.yaml"
    config.write_text(
        f"state_directory: {tmp_path}\nrun_directory: {tmp_path}/run\nmode: enforce\nplugins:\n  sim: {{}}\n  eviction: {{}}\n"
    )
    done = CliRunner().invoke(eviction, ["-c", str(config), *words])
    return done.exit_code, done.output if done.exception is None or isinstance(done.exception, SystemExit) else str(done.exception)


def test_the_command_shows_who_is_stopped_and_says_whom_it_does_not_know(tmp_path: Path) -> None:
    assert mom_eviction(tmp_path) == (0, "mom has stopped no guest.\n")
    paused(tmp_path)
    code, text = mom_eviction(tmp_path)
    assert code == 0
    assert "vm1" in text
    assert "paused" in text
    assert json.loads(mom_eviction(tmp_path, "--json")[1])[0]["step"] == "pause"
    code, text = mom_eviction(tmp_path, "undo", "vm7")
    assert code != 0
    assert "has not stopped a guest vm7" in text


def test_a_request_is_done_by_the_mom_that_runs(tmp_path: Path) -> None:
    bench = paused(tmp_path)
    folder, identity = tmp_path / "eviction" / "undo", bench.identity("vm1")
    folder.mkdir()
    for name in ("0-somebody-else", ".hidden"):
        (folder / name).touch()
    with ThreadPoolExecutor() as threads:
        asked = threads.submit(mom_eviction, tmp_path, "undo", "vm1")
        while not asked.done():
            bench.cycle()
        assert asked.result() == (0, "Guest vm1 has resumed.\n")
    assert [one.name for one in folder.iterdir()] == [".hidden"]
    assert bench.remembered == []
    assert bench.hypervisor.stands[identity] is GuestState.RUNNING


def test_a_request_that_nobody_takes_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paused(tmp_path)
    monkeypatch.setattr("mom_plugins_sla.eviction.verbs.UNDO_SECONDS", 0.5)
    code, text = mom_eviction(tmp_path, "undo", "vm1")
    assert code != 0
    assert "mom did not accept the request" in text
    assert [*(tmp_path / "eviction" / "undo").iterdir()] == []
