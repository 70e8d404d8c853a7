"""The engine with plugins of the test's own: what a cycle does, what a bad plugin cannot do, and what is put back."""

import itertools
import json
import math
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

import pytest

from mom_core import (
    Change,
    Clock,
    Columns,
    Condition,
    Config,
    ControlSpec,
    Decision,
    Declarations,
    Derived,
    Engine,
    FieldSpec,
    Guest,
    GuestColumn,
    HypervisorError,
    InTransition,
    MomError,
    PluginError,
    PluginSettings,
    PluginState,
    Problem,
    Report,
    Revision,
    Scope,
    ShadowDecisions,
    Snapshot,
    Source,
    StateFile,
    Status,
    Target,
    Unit,
    Value,
    hookimpl,
)
from mom_core.engine import engine as engine_module
from mom_core.engine import judgement
from mom_core.engine.engine import BROKEN_CYCLES
from mom_core.engine.problems import LONGEST, MOST_OF_ONE
from mom_core.ledger import Ledger
from mom_core.plugins.invoker import FAILURES_BEFORE_SET_ASIDE, FIRST_RETRY_SECONDS, PluginWorker
from mom_core.testing import snapshot as snapshot_of
from mom_daemon import Explainers, json_text, status_of
from mom_daemon.look.status_file import reported
from mom_devkit import HandClock, config_of, wait_until


class Notes(Protocol):
    """A service that the core has never heard of."""

    def read(self) -> None: ...
    def write(self) -> None: ...


class Base:
    def __init__(self, settings: PluginSettings, context: Any) -> None:
        self.settings = settings
        self.context = context


class Machine:
    """A host with guests whose one knob, `size`, can be set."""

    def __init__(self, sizes: dict[str, int] | None = None) -> None:
        self.sizes = {"a": 100, "b": 200} if sizes is None else sizes
        self.listing: Callable[[], object] | None = None
        self.set_calls: list[tuple[str, int]] = []
        self.hides = False
        """Whether it does not tell any size."""

    uri = "test:///machine"

    def guests(self) -> Sequence[Guest]:
        if self.listing is not None:
            return self.listing()  # type: ignore[return-value]  # rubbish on purpose
        return [Guest(name, name, properties={"name": name}) for name in self.sizes]


@pytest.fixture
def machine() -> Machine:
    return Machine()


def machine_plugin(machine: Machine) -> type:
    return plugin_of(
        mom_hypervisor=lambda self: machine,
        mom_declare=lambda self: [FieldSpec("size", Unit.KIB, Scope.GUEST, "size"), FieldSpec("free", Unit.KIB, Scope.HOST, "free")],
        mom_collect_host=lambda self: {"free": 1000},
        mom_collect_guests=lambda self, guests: {one.id: {"size": machine.sizes[one.id]} for one in guests if one.id in machine.sizes},
    )


SIZE = ControlSpec("size", Unit.KIB, Scope.GUEST, "size", field="size", minimum=10, maximum=1000)


def control_plugin(machine: Machine, spec: ControlSpec = SIZE) -> type:
    class SizePlugin(Base):
        @hookimpl
        def mom_declare(self) -> list[ControlSpec]:
            return [spec]

        @hookimpl
        def mom_read(self, targets: Sequence[Target]) -> dict[Target, Value]:
            return {} if machine.hides else {target: machine.sizes.get(target.entity.id) for target in targets}

        @hookimpl
        def mom_write(self, changes: Sequence[Change]) -> None:
            for change in changes:
                assert isinstance(change.value, int)
                machine.sizes[change.entity.id] = change.value
                if not change.back:
                    machine.set_calls.append((change.entity.id, change.value))

    return SizePlugin


def plugin_of(**hooks: Callable[..., object]) -> type:
    """A plugin with these functions as its hooks; each takes the plugin first."""
    return type("Made", (Base,), {name: hookimpl(function) for name, function in hooks.items()})


def declaring(*fields: str, scope: Scope = Scope.GUEST) -> Callable[..., object]:
    return lambda self: [FieldSpec(name, Unit.KIB, scope, "") for name in fields]


def evaluator(decide: Callable[[Snapshot], Iterable[object]]) -> type:
    return plugin_of(mom_evaluate=lambda self, snapshot, history: decide(snapshot))


def actor(act: Callable[[Snapshot], Iterable[object]]) -> type:
    return plugin_of(mom_act=lambda self, snapshot: act(snapshot))


def reporter(report: Callable[[Snapshot], Iterable[object]]) -> type:
    return plugin_of(mom_problems=lambda self, snapshot: report(snapshot))


def want(value: Value, only: str = "", control: str = "size") -> Callable[[Snapshot], list[Decision]]:
    return lambda snapshot: [Decision(g.entity, control, value) for g in snapshot.guests.values() if not only or g.name == only]


def engine_with(
    tmp_path: Path,
    machine: Machine,
    /,
    *evaluators: type,
    mode: str = "enforce",
    clock: Clock | None = None,
    spec: ControlSpec = SIZE,
    **more: type,
) -> Engine:
    plugins = {"machine": machine_plugin(machine), "size": control_plugin(machine, spec)}
    plugins |= {f"e{n}": one for n, one in enumerate(evaluators)} | more
    return Engine(config_of(tmp_path, plugins, mode=mode, stop_timeout=60.0), clock)


OneCycle = Callable[..., Report]


@pytest.fixture
def cycle(tmp_path: Path, machine: Machine) -> OneCycle:
    """Does one cycle with an engine that manages the machine, and puts everything back; the arguments are those of `engine_with`."""

    def one(*evaluators: type, **options: Any) -> Report:
        with engine_with(tmp_path, machine, *evaluators, **options) as engine:
            return engine.cycle()

    return one


def statuses(report: Report) -> dict[str, Status]:
    return {outcome.decision.entity.name: outcome.status for outcome in report.outcomes}


def test_a_cycle_collects_decides_and_applies(cycle: OneCycle, machine: Machine) -> None:
    report = cycle(evaluator(want(50, "a")))
    assert report.snapshot.host.fields == {"free": 1000}
    assert {g.name: dict(g.fields) for g in report.snapshot.guests.values()} == {"a": {"size": 100}, "b": {"size": 200}}
    assert statuses(report) == {"a": Status.APPLIED}
    assert machine.set_calls == [("a", 50)]
    assert not report.problems
    assert {plugin.state for plugin in report.plugins} == {PluginState.OK}


def test_a_cycle_that_is_given_a_snapshot_goes_by_it_and_asks_neither_hypervisor_nor_collectors(tmp_path: Path, machine: Machine) -> None:
    def refuses() -> object:
        raise AssertionError("the hypervisor was asked")

    machine.listing = refuses
    now = 0.0
    known = [
        snapshot_of(host={"name": "then"}, guests={"a": {"size": size, "warmth": 7}}, properties={"host": {"name": "then"}})
        for size in (100, 90, 80)
    ]
    looked_back: list[Sequence[int | float | None]] = []

    def decide(self: object, snapshot: Snapshot, history: Sequence[Snapshot]) -> list[Decision]:
        looked_back.append([older.guests["a"].number("size") for older in history])
        wanted = (("size", 5), ("size", 50), ("warmth_wanted", 3000))
        return [Decision(snapshot.guests["a"].entity, control, value) for control, value in wanted]

    plugins = {"machine": machine_plugin(machine), "size": control_plugin(machine), "e": plugin_of(mom_evaluate=decide)}
    declared = Declarations(
        {(Scope.GUEST, "warmth"): FieldSpec("warmth", Unit.COUNT, Scope.GUEST, "")},
        {"warmth_wanted": ControlSpec("warmth_wanted", Unit.COUNT, Scope.GUEST, "", field="warmth", maximum=40)},
    )
    clock = Clock(lambda: now, lambda: 1e9 + now)
    with Engine(config_of(tmp_path, plugins, mode="observe"), clock, declared=declared) as engine:
        for number, one in enumerate(known, 41):
            now = 5.0 * number
            report = engine.cycle(snapshot=replace(one, number=number, time=1e9 + now, monotonic=now))
            assert (report.number, report.time, report.snapshot.host.name) == (number, 1e9 + now, "then")
            assert not report.problems
            assert {o.decision.control: (o.decision.value, o.before) for o in report.outcomes} == {
                "size": (50, one.guests["a"].number("size")),
                "warmth_wanted": (40, 7),
            }
    assert looked_back == [[], [100], [100, 90]]
    assert machine.sizes == {"a": 100, "b": 200}


def test_a_field_is_declared_and_read_in_the_unit_in_which_it_is_known(tmp_path: Path, machine: Machine) -> None:
    known = Declarations({(Scope.HOST, "free"): FieldSpec("free", Unit.BYTES, Scope.HOST, "")})
    reader = plugin_of(mom_declare=lambda self: [FieldSpec.reads("free", Unit.BYTES, Scope.HOST)])
    for plugins, declared, refused in (({}, known, "machine"), ({"reader": reader}, Declarations(), "reader")):
        with pytest.raises(PluginError, match="declares the field free in") as caught:
            Engine(config_of(tmp_path, {"machine": machine_plugin(machine), **plugins}), declared=declared).open()
        assert caught.value.plugin == refused


@pytest.mark.parametrize("reader_first", [True, False])
def test_a_field_that_a_plugin_only_reads_is_of_the_plugin_that_collects_it(tmp_path: Path, machine: Machine, reader_first: bool) -> None:
    read = [FieldSpec.reads("free", Unit.KIB, Scope.HOST), FieldSpec.reads("warmth", Unit.COUNT, Scope.GUEST)]
    reader = plugin_of(mom_declare=lambda self: read, mom_collect_host=lambda self: {"free": 1})
    order = {"reader": reader, "machine": machine_plugin(machine)}
    with Engine(config_of(tmp_path, order if reader_first else dict(reversed(order.items())))) as engine:
        declared = engine.plugins.declarations
        assert declared.fields[Scope.HOST, "free"].collected
        assert declared.field_owners[Scope.HOST, "free"] == "machine"
        assert not declared.fields[Scope.GUEST, "warmth"].collected, "nobody collects it, and policies may name it"
        assert (Scope.GUEST, "warmth") not in declared.field_owners
        assert any("did not declare" in problem.message for problem in engine.cycle().problems), "it reads, and collects nothing"


def test_what_is_decided_on_trial_is_reported_and_nothing_else(tmp_path: Path, machine: Machine) -> None:
    def decide(snapshot: Snapshot) -> list[object]:
        return [*want(50, "a")(snapshot), *([ShadowDecisions([*want(40)(snapshot)])] if snapshot.number == 2 else ())]

    with engine_with(tmp_path, machine, evaluator(decide)) as engine:
        report = engine.cycle()
        assert (report.considered, report.differences(), status_of(engine, report)["trial"]) == (None, [], None)
        report = engine.cycle()
        assert machine.sizes == {"a": 50, "b": 200}
        assert [decision.value for decision in report.considered or ()] == [40, 40]
        assert [(entity.name, decided, tried) for entity, _, decided, tried in report.differences()] == [("a", 50, 40), ("b", None, 40)]
        trial = status_of(engine, report)["trial"]
        assert trial is not None
        assert (trial["decisions"], trial["differing"], trial["differences"][0]["considered"]) == (2, 2, 40)
        assert not report.problems


def test_a_decision_without_a_source_is_its_plugins_and_explained_with_its_reason(tmp_path: Path, machine: Machine) -> None:
    def decide(snapshot: Snapshot) -> list[object]:
        wanted = Decision(snapshot.guests["a"].entity, "size", 5, "nobody needs more")
        return [wanted, ShadowDecisions([replace(wanted, value=70)])]

    with engine_with(tmp_path, machine, evaluator(decide)) as engine:
        report = engine.cycle()
        from_status = reported(json.loads(json.dumps(status_of(engine, report))))
    (decision,), (outcome,), (considered,) = report.decisions, report.outcomes, report.considered or ()
    assert [one.source for one in (decision, outcome.decision, considered)] == [Source("e0")] * 3
    for known in (report, from_status):
        told = " ".join(one["text"] for one in Explainers().explain(known, known.snapshot.guests["a"])["sentences"])
        assert "The plugin e0 wants size 5" in told
        assert ", because nobody needs more." in told
        assert "The review of core made that 10" in told


def test_an_act_is_done_whoever_has_the_control_and_keeps_nobody_from_it(tmp_path: Path, machine: Machine) -> None:
    acts = want(70, only="a")

    def decide(snapshot: Snapshot) -> list[Decision]:
        return want(50)(snapshot) if snapshot.number in {1, 3} else []

    with engine_with(tmp_path, machine, evaluator(decide), actor(acts)) as engine:
        first, second, third = engine.cycle(), engine.cycle(), engine.cycle()
    assert [one.decision.value for one in first.outcomes if one.decision.entity.name == "a"] == [50], "the evaluator comes first"
    assert [one.decision.value for one in second.outcomes] == [70], "it is silent, and has the control all the same"
    assert [one.decision.value for one in third.outcomes if one.decision.entity.name == "a"] == [50]


def test_problems_of_plugins_that_decide_nothing_are_reported_and_rubbish_is_told(cycle: OneCycle) -> None:
    wrong = [Problem(Source("mine"), "it squeaks"), 7]
    report = cycle(actor(lambda snapshot: "nonsense"), reporter(lambda snapshot: wrong), actor(lambda snapshot: wrong))
    assert [problem.message for problem in report.problems] == [
        "mom_act must return a list, not str",
        "it squeaks",
        "mom_problems returned a int where a Problem belongs",
        "mom_act returned a Problem where a Decision belongs",
        "mom_act returned a int where a Decision belongs",
    ]


@pytest.mark.parametrize("source", ["other", "other {}"])
def test_one_plugins_flood_of_problems_leaves_room_for_those_of_others(cycle: OneCycle, source: str) -> None:
    flood = [Problem(Source(source.format(number)), f"{number} {'x' * 10_000}") for number in range(5000)]
    report = cycle(reporter(lambda snapshot: flood), reporter(lambda snapshot: [Problem(Source("mine"), "it squeaks")]))
    *of_flood, last = [problem for problem in report.problems if problem.source.name != "mine"]
    assert of_flood == [replace(one, message=one.message[:LONGEST]) for one in flood[:MOST_OF_ONE]]
    assert (last.source.name, last.message) == ("e0", "4900 more problems in this cycle are left out")
    assert Problem(Source("mine"), "it squeaks") in report.problems


def test_nor_is_there_a_problem_for_each_of_thousands_of_wrong_fields(cycle: OneCycle) -> None:
    report = cycle(bad=plugin_of(mom_collect_host=lambda self: {f"f{number}": 1 for number in range(5000)}))
    assert len(report.problems) == MOST_OF_ONE + 1
    assert report.problems[-1] == Problem(Source("bad"), "4900 more problems in this cycle are left out")


def test_what_somebody_else_changed_is_left_alone(tmp_path: Path, machine: Machine) -> None:
    with engine_with(tmp_path, machine, evaluator(want(50))) as engine:
        engine.cycle()
        machine.sizes["a"] = 77
    assert machine.sizes == {"a": 77, "b": 200}


@pytest.mark.parametrize(("after_that", "stands"), [("same", 100), ("next", 70), ("", 100)])
def test_what_a_boot_of_the_host_has_set_anew_is_what_stood_there_before_mom(
    tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch, after_that: str, stands: int
) -> None:
    boot = tmp_path / "boot_id"
    boot.write_text("same\n")
    monkeypatch.setattr("mom_core.ledger.BOOT_ID", boot)
    machine.sizes, machine.listing = {"host": 100}, list
    spec, wanted = replace(SIZE, scope=Scope.HOST, field="free"), [50]
    decides = evaluator(lambda snapshot: [Decision(snapshot.host.entity, "size", wanted[0])])
    engine = engine_with(tmp_path, machine, decides, spec=spec)
    engine.cycle()
    engine.close(put_back=False)
    boot.write_text(f"{after_that}\n")
    machine.sizes["host"] = 70 if after_that == "next" else machine.sizes["host"]
    wanted[0] = 60
    with engine_with(tmp_path, machine, decides, spec=spec) as engine:
        engine.cycle()
        assert machine.sizes == {"host": 60}
    assert machine.sizes == {"host": stands}


def test_the_ledger_is_on_disk_before_the_control_is_applied(cycle: OneCycle, tmp_path: Path, machine: Machine) -> None:
    seen: list[Any] = []

    class Watching(control_plugin(machine)):  # type: ignore[misc]  # a class made by a function
        @hookimpl
        def mom_write(self, changes: Sequence[Change]) -> None:
            seen.append(json.loads((tmp_path / "state/ledger.json").read_text())["content"])

    report = cycle(evaluator(want(50, "a")), size=Watching)
    assert [(e["name"], e["before"], e["applied"]) for e in seen[0]] == [("a", 100, 50)]
    assert report.outcomes[0].status is Status.FAILED
    assert "100 still stands" in report.outcomes[0].error


def rounding_plugin(machine: Machine, on_set: Callable[[], None] = lambda: None) -> type:
    """A control that takes multiples of 8 only, as a kernel does that keeps whole pages."""

    class RoundingPlugin(control_plugin(machine)):  # type: ignore[misc]  # a class made by a function
        @hookimpl
        def mom_write(self, changes: Sequence[Change]) -> None:
            for change in changes:
                assert isinstance(change.value, int)
                machine.sizes[change.entity.id] = change.value // 8 * 8
                on_set()

    return RoundingPlugin


@pytest.mark.parametrize("cycles", [1, 3])
@pytest.mark.parametrize("killed", [False, True])
def test_what_the_kernel_rounded_is_put_back(tmp_path: Path, cycles: int, *, killed: bool) -> None:
    machine = Machine({"a": 104, "b": 200})
    wanted = iter((want(53), want(60), want(60)))

    def decide(snapshot: Snapshot) -> list[Decision]:
        return next(wanted)(snapshot)

    size = rounding_plugin(machine)
    engine = engine_with(tmp_path, machine, evaluator(decide), size=size)
    engine.open()
    for _ in range(cycles):
        engine.cycle()
    assert machine.sizes == {"a": 48 if cycles == 1 else 56, "b": 48 if cycles == 1 else 56}
    engine.close(put_back=not killed)
    if killed:
        with engine_with(tmp_path, machine, evaluator(lambda _: ()), size=size):
            pass
    assert machine.sizes == {"a": 104, "b": 200}, "the first value, however often it changed"
    assert json.loads((tmp_path / "state/ledger.json").read_text())["content"] == []


@pytest.mark.parametrize(
    ("asked", "stands", "after", "said"),
    [
        (53, 48, 104, ""),
        # farther off than what stood there, so it may be another process's
        (103, 96, 96, "mom was cut off while it set 103: if no other process has changed it since, set it to 104 by hand"),
    ],
)
def test_what_mom_may_have_set_when_it_was_killed_is_put_back_where_it_is_surely_its_own_or_told_with_what_to_do(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, asked: int, stands: int, after: int, said: str
) -> None:
    machine, left = Machine({"a": 104}), tmp_path / "left"

    def killed() -> None:
        if not left.exists():
            shutil.copytree(tmp_path / "state", left / "state")

    with engine_with(tmp_path, machine, evaluator(want(asked)), size=rounding_plugin(machine, killed)) as engine:
        engine.cycle()
    machine.sizes["a"] = stands
    with engine_with(left, machine, evaluator(lambda _: ()), size=rounding_plugin(machine)):
        pass
    assert machine.sizes == {"a": after}
    assert said in caplog.text


class Broken(Base):
    """Has a mistake two calls deep, which a library of Python's notices."""

    @hookimpl
    def mom_collect_host(self) -> dict[str, Value]:
        return self._read()

    @hookimpl
    def mom_report(self, report: Report) -> None:
        raise KeyError("no such report")

    def _read(self) -> dict[str, Value]:
        return dict(json.loads("{"))


def test_a_hooks_first_failure_has_file_line_and_traceback(tmp_path: Path, machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    line = Broken._read.__code__.co_firstlineno + 1
    with engine_with(tmp_path, machine, evaluator(want(50)), broken=Broken) as engine:
        report = engine.cycle()
        (problem,) = [problem for problem in report.problems if problem.source.name == "broken"]
        assert problem.message.startswith("mom_collect_host: JSONDecodeError: Expecting property name")
        assert problem.message.endswith(f"(at {__file__}:{line})")
        first = caplog.text
        engine.cycle()
        second = caplog.text[len(first) :]
    assert first.count("Traceback (most recent call last)") == 2
    for words in ("plugin broken: mom_collect_host failed:", "in _read", f'"{__file__}", line {line}', "KeyError: 'no such report'"):
        assert words in first
    assert 'invoker.py", line' not in first, "how mom calls a plugin is not what its author looks for"
    assert "Traceback" not in second, "the same failure again is not told again"


def failed(worker: PluginWorker, hook: Callable[[], object]) -> BaseException:
    """How the hook has failed, which is logged."""
    call = worker.begin("h", hook)
    assert call is not None
    error = worker.finish(call).error
    assert error is not None
    worker.log_failure("h", error)
    worker.close(time.monotonic() + 10)
    return error


@pytest.mark.parametrize("raised", [ValueError, HypervisorError])
def test_a_secret_in_a_failure_is_in_neither_the_line_nor_the_traceback(raised: type[Exception], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "mom")
    worker = PluginWorker("p", 60, hide=lambda text: text.replace("hunter2", "***"))

    def fail() -> None:
        raise raised("the password is hunter2")

    failed(worker, fail)
    assert "in fail" in caplog.text
    assert "the password is ***" in caplog.text
    assert "hunter2" not in caplog.text


def test_what_was_kept_at_one_end_is_put_back_at_the_next_one_however_that_comes(tmp_path: Path, machine: Machine) -> None:
    plugins = {"machine": machine_plugin(machine), "size": control_plugin(machine), "e": evaluator(want(50))}
    done, broken = threading.Event(), False

    def after_cycle(report: Report) -> None:
        done.set()
        if broken:
            engine.wake("again")
            raise RuntimeError("a mistake of mom's own")

    engine = Engine(config_of(tmp_path, plugins), on_report=after_cycle)
    engine.start()
    assert done.wait(60)
    engine.stop(put_back=False)
    assert machine.sizes == {"a": 50, "b": 50}
    broken = True
    with pytest.raises(RuntimeError):
        engine.run()
    assert machine.sizes == {"a": 100, "b": 200}


def test_a_control_whose_present_value_is_unknown_is_not_applied(cycle: OneCycle, machine: Machine) -> None:
    machine.hides = True
    report = cycle(evaluator(want(50)))
    assert statuses(report) == {"a": Status.REFUSED, "b": Status.REFUSED}
    assert "could not be put back" in report.outcomes[0].error
    assert machine.set_calls == []


@pytest.mark.parametrize(
    ("unit", "found", "told"),
    [
        (Unit.COUNT, "5", "odd should be a number and is str '5'"),
        (Unit.COUNT, math.nan, "odd should be a number below 2**63 and is float nan"),
        (Unit.COUNT, 10**400, "odd should be a number below 2**63 and is int 1000"),
        (Unit.COUNT, InTransition("5"), "odd should be a number and is str '5'"),
        (Unit.TEXT, 5, "odd should be a text and is int 5"),
        (Unit.LIST, ["x"], "odd should be a list of mappings and is list ['x']"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_a_control_cannot_stand_at_is_never_what_is_put_back(
    tmp_path: Path, machine: Machine, unit: Unit, found: Any, told: str
) -> None:
    written: list[Change] = []
    plugin = plugin_of(
        mom_declare=lambda self: [ControlSpec("odd", unit, Scope.GUEST, "", field="size")],
        mom_read=lambda self, targets: dict.fromkeys(targets, found),
        mom_write=lambda self, changes: written.extend(changes),
    )
    value: Any = {Unit.COUNT: 77, Unit.TEXT: "77"}.get(unit, [{"name": "x"}])
    with engine_with(tmp_path, machine, evaluator(want(50)), evaluator(want(value, control="odd")), odd=plugin) as engine:
        report = engine.cycle()
        assert {one.control for one in engine.state().changes} == {"size"}
    of_odd = [one for one in report.outcomes if one.decision.control == "odd"]
    assert [one.status for one in of_odd] == [Status.FAILED] * 2
    assert all(f"mom_read: {told}" in one.error for one in of_odd)
    assert [one.status for one in report.outcomes if one.decision.control == "size"] == [Status.APPLIED] * 2
    assert written == []


LARGE = "x" * 10**6


@pytest.mark.parametrize(
    ("unit", "found", "value", "which"),
    [
        (Unit.TEXT, LARGE, "5", "its present value"),
        (Unit.TEXT, "5", LARGE, "the new value"),
        (Unit.LIST, [{"name": LARGE}], [], "its present value"),
        (Unit.LIST, [], [{"name": object()}], "the new value"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_value_that_is_too_large_for_the_ledger_is_refused_by_itself(
    tmp_path: Path, machine: Machine, unit: Unit, found: Any, value: Any, which: str
) -> None:
    plugin = plugin_of(
        mom_declare=lambda self: [ControlSpec("odd", unit, Scope.GUEST, "", field="size")],
        mom_read=lambda self, targets: dict.fromkeys(targets, found),
        mom_write=lambda self, changes: None,
    )
    with engine_with(tmp_path, machine, evaluator(want(50)), evaluator(want(value, control="odd")), odd=plugin) as engine:
        report = engine.cycle()
    errors = {one.error for one in report.outcomes if one.decision.control == "odd"}
    assert errors == {f"{which} is none that the ledger can keep (JSON of up to 64 KiB), so it could not be put back"}
    assert [one.status for one in report.outcomes if one.decision.control == "size"] == [Status.APPLIED] * 2


def test_a_full_disk_stops_controls_and_is_said(tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    with engine_with(tmp_path, machine, evaluator(want(50))) as engine:

        def full(*args: object, **kwargs: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("mom_core.state_files.replace_file", full)
        report = engine.cycle()
        assert set(statuses(report).values()) == {Status.REFUSED}
        assert machine.set_calls == []
        assert any("No space left" in problem.message for problem in report.problems)
        monkeypatch.undo()
        assert set(statuses(engine.cycle()).values()) == {Status.APPLIED}


def test_a_ledger_that_was_damaged_is_an_alert_that_says_where_it_is_now(tmp_path: Path, machine: Machine) -> None:
    (tmp_path / "state").mkdir(mode=0o750)
    (tmp_path / "state/ledger.json").write_text("{")
    with engine_with(tmp_path, machine, evaluator(want(50))) as engine:
        verdict = engine.cycle().verdict
    assert verdict is not None
    (condition,) = (one for one in verdict.conditions if one.name == "ledger")
    assert str(tmp_path / "state/ledger.json.damaged-1") in condition.message
    assert "in the damaged file" in condition.cure


def test_decisions_on_unknown_guests_and_controls_are_dropped(cycle: OneCycle, machine: Machine) -> None:
    stranger = Guest("x", "x").entity
    decisions = [Decision(stranger, "size", 50), Decision(Guest("a", "a").entity, "colour", 1), Decision(stranger, "size", 60)]
    report = cycle(evaluator(lambda snapshot: decisions))
    assert machine.set_calls == []
    assert [r.reason for r in report.revisions] == [
        "there is no such guest",
        "no enabled plugin has this control",
        "there is no such guest",
    ]


def test_a_blocked_control_is_dropped_with_the_hypervisors_reason(cycle: OneCycle, machine: Machine) -> None:
    machine.listing = lambda: [Guest("a", "a", blocked={"size": "it is paused"}), Guest("b", "b", blocked={"*": "it is leaving"})]
    report = cycle(evaluator(want(50)))
    assert sorted(r.reason for r in report.revisions) == ["it is leaving", "it is paused"]
    assert machine.set_calls == []


def test_a_reviewer_changes_and_drops_with_reasons(cycle: OneCycle, machine: Machine) -> None:
    def review(self: object, decisions: Sequence[Decision]) -> Iterable[Revision]:
        first, second = sorted(decisions, key=lambda d: d.entity.name)
        yield Revision(first, Decision(first.entity, first.control, 77, source=first.source), "promised")
        yield Revision(second, None, "not today")

    report = cycle(evaluator(want(50)), r=plugin_of(mom_review=review))
    assert machine.set_calls == [("a", 77)]
    assert [(r.reviewer, r.reason) for r in report.revisions] == [("r", "promised"), ("r", "not today")]


def test_a_reviewer_cannot_leave_the_controls_bounds_or_move_a_decision(cycle: OneCycle, machine: Machine) -> None:
    def review(self: object, decisions: Sequence[Decision]) -> Iterable[object]:
        first, second = sorted(decisions, key=lambda d: d.entity.name)
        yield Revision(first, Decision(first.entity, first.control, 1), "tiny")
        yield Revision(second, Decision(first.entity, first.control, 500), "elsewhere")
        yield "rubbish"

    report = cycle(evaluator(want(50)), r=plugin_of(mom_review=review))
    assert sorted(machine.set_calls) == [("a", 10), ("b", 50)]
    assert len(report.problems) == 2


def test_without_the_word_of_a_controls_reviewer_it_is_not_applied(cycle: OneCycle, machine: Machine) -> None:
    class Reviewing(control_plugin(machine)):  # type: ignore[misc]  # a class made by a function
        @hookimpl
        def mom_review(self, decisions: Sequence[Decision]) -> Iterable[Revision]:
            raise RuntimeError("lost")

    report = cycle(evaluator(want(50)), size=Reviewing)
    assert machine.set_calls == []
    assert {r.reason for r in report.revisions} == {"the plugin size could not review it"}


class Raises(Base):
    @hookimpl
    def mom_collect_host(self) -> dict[str, Value]:
        raise SystemExit("no")

    @hookimpl
    def mom_evaluate(self) -> Iterable[object]:
        yield Problem(Source("x"), "one")
        raise ValueError("two\nlines")


class Rubbish(Base):
    @hookimpl
    def mom_declare(self) -> list[FieldSpec]:
        return [
            FieldSpec("fine", Unit.KIB, Scope.HOST, ""),
            FieldSpec("worse", Unit.KIB, Scope.HOST, ""),
            FieldSpec("t", Unit.TEXT, Scope.GUEST, ""),
        ]

    @hookimpl
    def mom_collect_host(self) -> dict[Any, Any]:
        return {"fine": 1, "worse": math.nan, "undeclared": 3, 5: 5, "t": "x"}

    @hookimpl
    def mom_collect_guests(self) -> dict[Any, Any]:
        return {"nobody": {}, "a": 7, "b": {"t": 1 << 70, "size": 1}}

    @hookimpl
    def mom_evaluate(self) -> list[object]:
        return [None, 5, "x", Decision("vm", "size", 5)]  # type: ignore[arg-type]  # rubbish on purpose


class HalfWay:
    def __iter__(self) -> Iterator[object]:
        yield from ()
        raise ValueError("the rest is away")


def reviewer(revise: Callable[[Decision], object]) -> type:
    return plugin_of(mom_review=lambda self, decisions: [revise(one) for one in decisions])


def sized(change: Callable[[Any], object]) -> type:
    return evaluator(lambda snapshot: [change(one) for one in want(60)(snapshot)])


def odd(value: object, scope: Scope) -> type:
    found = {"odd": value}
    if scope is Scope.HOST:
        return plugin_of(mom_declare=declaring("odd", scope=scope), mom_collect_host=lambda self: found)
    return plugin_of(mom_declare=declaring("odd"), mom_collect_guests=lambda self, guests: {one.id: found for one in guests})


ODD: Any = 5
UNHASHABLE: Any = []


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (sized(lambda one: replace(one, source="mine")), "the source of a Decision should be Source and is str 'mine'"),
        (sized(lambda one: replace(one, source=None)), "the source of a Decision should be Source and is NoneType None"),
        (sized(lambda one: replace(one, control=["size"])), "the control of a Decision should be str and is list ['size']"),
        (sized(lambda one: replace(one, entity=one.entity._replace(id=[1]))), "the id of a Entity should be str and is list [1]"),
        (sized(lambda one: replace(one, reason=5)), "its answer is invalid: the reason of a Decision should be str and is int 5"),
        (sized(lambda one: ShadowDecisions([ODD])), "mom_evaluate: its answer is invalid"),
        (sized(lambda one: ShadowDecisions(ODD)), "mom_evaluate: its answer is invalid: TypeError"),
        (sized(lambda one: Problem(Source("x"), ODD)), "the message of a Problem should be str and is int 5"),
        (sized(lambda one: Problem(Source("x"), "m", ODD)), "the entity of a Problem should be Entity or None and is int 5"),
        (sized(lambda one: Problem(Source("x"), "m", severity=ODD)), "the severity of a Problem should be Severity and is int 5"),
        (reporter(lambda snapshot: [Problem(Source("x"), ODD)]), "mom_problems: its answer is invalid: the message of a Problem"),
        (reporter(lambda snapshot: [Condition("x", "y", severity=UNHASHABLE)]), "mom_problems: its answer is invalid: the severity"),
        (evaluator(lambda snapshot: HalfWay()), "mom_evaluate: ValueError: the rest is away"),
        (reviewer(lambda one: Revision(one, ODD, "more")), "mom_review: the after of a Revision should be Decision or None and is int 5"),
    ],
)
def test_what_makes_no_sense_is_told_and_ends_no_cycle(tmp_path: Path, machine: Machine, bad: type, told: str) -> None:
    with engine_with(tmp_path, machine, evaluator(want(50)), bad=bad) as engine:
        report = engine.cycle()
        json_text(status_of(engine, report))
    assert statuses(report) == {"a": Status.APPLIED, "b": Status.APPLIED}
    assert any(told in problem.message for problem in report.problems if problem.source.name == "bad"), report.problems


@pytest.mark.parametrize("wrong", [{"id": 5}, {"id": ["b"]}, {"name": None}, {"blocked": None}, {"incarnation": 5}])
def test_of_a_list_of_guests_what_makes_no_sense_is_left_out(cycle: OneCycle, machine: Machine, wrong: Mapping[str, Any]) -> None:
    machine.listing = lambda: [Guest("a", "a"), replace(Guest("b", "b"), **wrong)]
    report = cycle(evaluator(want(50)))
    assert statuses(report) == {"a": Status.APPLIED}
    assert "the list of guests: its answer is invalid" in report.problems[0].message


def test_a_list_of_guests_that_fails_half_way_is_no_list(cycle: OneCycle, machine: Machine) -> None:
    machine.listing = HalfWay
    assert [problem.message[:42] for problem in cycle().problems] == ["the guests are unknown: ValueError: the re"]


@pytest.mark.parametrize("bad", [Raises, Rubbish])
def test_a_bad_plugin_is_reported_and_the_others_results_stand(cycle: OneCycle, bad: type) -> None:
    report = cycle(evaluator(want(50)), bad=bad)
    assert statuses(report) == {"a": Status.APPLIED, "b": Status.APPLIED}
    assert report.snapshot.host.fields["free"] == 1000
    assert any(problem.source.name == "bad" for problem in report.problems)
    if bad is Rubbish:
        assert report.snapshot.host.fields == {"free": 1000, "fine": 1}
        assert len(report.problems) == 12


@pytest.mark.parametrize(
    ("value", "taken"),
    [
        (0, True), (-5, True), (1.5, True), (True, True), (None, True), ((1 << 63) - 1, True), (1 - (1 << 63), True),
        (float(1 << 62), True), (1 << 63, False), (-(1 << 63), False), (10**400, False), (math.nan, False), (math.inf, False),
        (-math.inf, False),
        (1e300, False), ("5", False), ([5], False), (Decimal(5), False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("beside", [{}, {"other": 7}, {"other": math.inf}, {"other": 1 << 62}])
def test_a_number_in_bounds_is_taken_whatever_stands_beside_it(cycle: OneCycle, value: Any, taken: bool, beside: dict[str, Any]) -> None:
    rows = {"a": {"odd": value, **beside}, "b": {**beside, "odd": value}}
    collects = plugin_of(mom_declare=declaring("odd", "other"), mom_collect_guests=lambda self: rows)
    report = cycle(collects=collects)
    for guest in report.snapshot.guests.values():
        assert ("odd" in guest.fields) is taken
        assert guest.fields.get("other") == (None if beside.get("other") == math.inf else beside.get("other"))
    wrong = (not taken) + (beside.get("other") == math.inf)
    assert [problem.source.name for problem in report.problems] == ["collects"] * 2 * wrong


def test_what_is_told_by_field_is_checked_and_joined_as_what_is_told_by_guest(cycle: OneCycle, machine: Machine) -> None:
    def collect(self: object, guests: Sequence[Guest]) -> Columns:
        assert [guest.id for guest in guests] == ["a", "b"]
        odd: Any = "x"
        return Columns({"one": [1, None], "two": [odd, 2.5], "three": [None, None], "size": [7, 7], "four": [4, 4]})

    by_field = plugin_of(mom_declare=declaring("one", "two", "three", "size"), mom_collect_guests=collect)
    report = cycle(by_field=by_field)
    guests, sizes = report.snapshot.guests, dict(machine.sizes)
    assert dict(guests["a"].fields) == {"size": sizes["a"], "one": 1}, "the plugin that comes first has the size"
    assert dict(guests["b"].fields) == {"size": sizes["b"], "two": 2.5}
    assert report.snapshot.column("one") == (1, None)
    assert report.snapshot.column("three") == report.snapshot.column("no plugin tells") == (None, None)
    wrong = [problem.message for problem in report.problems]
    assert len(wrong) == 3
    assert "field two should be a number and is str 'x'" in wrong[0]
    assert all("'four' that it did not declare" in message for message in wrong[1:])


def deriving(derive: Callable[..., object]) -> type:
    """A plugin that derives the fields `half` of guests and `all` of the host."""
    fields = [FieldSpec("half", Unit.KIB, Scope.GUEST, ""), FieldSpec("all", Unit.KIB, Scope.HOST, "")]
    return plugin_of(mom_declare=lambda self: fields, mom_derive=lambda self, snapshot: derive(snapshot))


def test_what_follows_from_all_that_was_collected_is_there_when_evaluators_look(tmp_path: Path, machine: Machine) -> None:
    def derive(snapshot: Snapshot) -> Derived:
        sizes = [size for size in snapshot.column("size") if isinstance(size, int)]
        return Derived({"all": sum(sizes)}, Columns({"half": [size // 2 for size in sizes], "stray": sizes}))

    seen: list[tuple[Value, Value]] = []

    def look(snapshot: Snapshot) -> Iterable[Decision]:
        seen.append((snapshot.host.fields["all"], snapshot.guests["b"].fields["half"]))
        return ()

    with engine_with(tmp_path, machine, evaluator(look), derives=deriving(derive)) as engine:
        report = engine.cycle()
        assert seen == [(300, 100)]
        assert dict(report.snapshot.guests["a"].fields) == {"size": 100, "half": 50}
        assert all("'stray' that it did not declare" in problem.message for problem in report.problems)
        assert report.problems
        again = engine.cycle(
            snapshot=replace(report.snapshot, guests={"a": replace(report.snapshot.guests["a"], fields={"size": 8, "half": 77})})
        )
    assert dict(again.snapshot.guests["a"].fields) == {"size": 8, "half": 4}, "a recorded one is derived anew"


@pytest.mark.parametrize("wrong", [None, {"half": 1}, Derived(guests=Columns({"half": [1]})), Derived({"half": 1})])
def test_what_makes_no_sense_is_not_derived_and_harms_nobody(cycle: OneCycle, wrong: object) -> None:
    def fails(snapshot: Snapshot) -> object:
        raise ValueError("no law")

    report = cycle(wrong=deriving(lambda snapshot: wrong), fails=deriving(fails))
    assert dict(report.snapshot.guests["a"].fields) == {"size": 100}
    assert report.snapshot.host.fields == {"free": 1000}
    sources = [problem.source.name for problem in report.problems]
    assert sources.count("fails") == 1
    assert sources.count("wrong") == 1


def test_columns_that_do_not_have_a_value_for_each_guest_are_refused(cycle: OneCycle) -> None:
    too_few = plugin_of(mom_declare=declaring("one"), mom_collect_guests=lambda self: Columns({"one": [1]}))
    report = cycle(too_few=too_few)
    assert all("one" not in guest.fields for guest in report.snapshot.guests.values())
    assert ["a value for each of the 2 guests" in problem.message for problem in report.problems] == [True]


def test_of_many_guests_each_has_its_own_fields_and_only_what_is_wrong_is_missing(cycle: OneCycle, machine: Machine) -> None:
    """More than are looked at together, listed in no order."""
    many = 1111
    machine.listing = lambda: [Guest(f"id-{number}", f"vm-{number * 7 % many:04}") for number in range(many)]

    rows: dict[str, dict[str, Any]] = {f"id-{number}": {"one": number} for number in range(many) if number % 10}
    rows |= {"id-5": {"one": "x"}, "id-1005": {"one": 5, "two": None}, "stranger": {"one": 1}}
    others = {f"id-{number}": {"two": -number} for number in range(many)}
    first = plugin_of(mom_declare=declaring("one", "two"), mom_collect_guests=lambda self: rows)
    second = plugin_of(mom_declare=declaring("one", "two"), mom_collect_guests=lambda self: others)
    report = cycle(first=first, second=second)
    guests = report.snapshot.guests
    assert [guest.name for guest in guests.values()] == [f"vm-{number:04}" for number in range(many)]
    for number in range(many):
        one = {} if number % 10 == 0 or number == 5 else {"one": 5 if number == 1005 else number}
        assert {name: value for name, value in guests[f"id-{number}"].fields.items() if name != "size"} == {**one, "two": -number}
    assert sorted(problem.message.partition(" ")[0] for problem in report.problems if problem.source.name == "first") == [
        "its", "mom_collect_guests",
    ]  # fmt: skip


def test_a_snapshot_stays_as_it_is_when_a_plugin_changes_what_it_gave(tmp_path: Path, machine: Machine) -> None:
    given: dict[str, Any] = {"size": 0}

    def the_same_mapping(self: object, guests: Sequence[Guest]) -> dict[str, dict[str, Any]]:
        given["size"] += 1
        return {guest.id: given for guest in guests}

    besides = plugin_of(mom_declare=declaring("two"), mom_collect_guests=lambda self, guests: {guest.id: {"two": 2} for guest in guests})
    plugin = machine_plugin(machine)
    plugin.mom_collect_guests = hookimpl(the_same_mapping)  # type: ignore[attr-defined]  # a class made by a function
    with engine_with(tmp_path, machine, machine=plugin, besides=besides) as engine:
        snapshots = [engine.cycle().snapshot for _ in range(2)]
    for number, snapshot in enumerate(snapshots, 1):
        assert snapshot.guests
        assert {(guest.fields["size"], guest.fields["two"]) for guest in snapshot.guests.values()} == {(number, 2)}
    assert "two" not in given


def test_no_plugin_changes_what_the_others_see_of_the_host(tmp_path: Path, machine: Machine) -> None:
    def derive(self: object, snapshot: Snapshot) -> Derived:
        fields: Any = snapshot.host.fields
        fields["free"] = 10**8
        return Derived()

    def report_of(self: object, report: Report) -> None:
        fields: Any = report.snapshot.host.fields
        for change in (lambda: fields.pop("free"), lambda: fields.update(free=5), lambda: fields.__ior__({"free": 5}), fields.clear):
            with pytest.raises(TypeError, match="a snapshot cannot be changed"):
                change()
        changed.append(report.number)

    changed: list[int] = []
    derives, reads = plugin_of(mom_derive=derive), plugin_of(mom_report=report_of)
    with engine_with(tmp_path, machine, derives=derives, reads=reads) as engine:
        report = engine.cycle()
        host = report.snapshot.host
        assert host.fields == {"free": 1000}
        assert [problem.source.name for problem in report.problems] == ["derives"]
        assert changed == [1]
        properties: Any = host.properties
        with pytest.raises(TypeError):
            properties["name"] = "another"
    assert json.loads(json.dumps(host.fields)) == deepcopy(host.fields) == {"free": 1000}


def test_half_a_character_in_a_guests_name_or_id_reaches_nothing_that_writes(cycle: OneCycle, machine: Machine) -> None:
    machine.listing = lambda: [Guest("a", "web\ud800"), Guest("b\udfff", "b")]
    report = cycle()
    assert [(guest.id, guest.name) for guest in report.snapshot.guests.values()] == [("a", "web\ufffd")]
    assert any("holds half a character" in problem.message for problem in report.problems)


def test_rubbish_from_the_hypervisor_lists_no_guest_twice(cycle: OneCycle, machine: Machine) -> None:
    machine.listing = lambda: [Guest("a", "a"), Guest("a", "other"), "b", None]
    report = cycle()
    assert list(report.snapshot.guests) == ["a"]
    assert len(report.problems) == 3


def test_a_lost_hypervisor_has_no_guest_touched_or_forgotten(tmp_path: Path, machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    with engine_with(tmp_path, machine, evaluator(want(50))) as engine:
        engine.cycle()

        def away() -> object:
            raise HypervisorError("libvirtd is away", hint="start it")

        machine.listing = away
        for _ in range(8):
            report = engine.cycle()
        assert report.verdict is not None
        assert [one.cure for one in report.verdict.conditions if one.name == "guests"] == ["start it; `mom doctor` says more"]
        assert report.snapshot.guests == {}
        assert [problem.message for problem in report.problems] == ["the guests are unknown: libvirtd is away"]
        assert "libvirtd is away" in caplog.text
        assert "Traceback" not in caplog.text
        machine.listing = None
        assert len(engine.cycle().snapshot.guests) == 2
    assert machine.sizes == {"a": 100, "b": 200}


def test_a_guest_that_is_gone_for_good_leaves_the_ledger(tmp_path: Path, machine: Machine) -> None:
    with engine_with(tmp_path, machine, evaluator(want(50))) as engine:
        engine.cycle()
        del machine.sizes["a"]
        for _ in range(2):
            engine.cycle()
        assert len(engine.state().changes) == 2
        engine.cycle()
        assert len(engine.state().changes) == 1


def test_a_guest_with_the_id_of_the_host_has_no_change_of_the_host_forgotten(tmp_path: Path, machine: Machine) -> None:
    machine.sizes["host"] = 100
    machine.listing = lambda: [Guest("host", "host", incarnation="1")]
    spec, decides = replace(SIZE, scope=Scope.HOST, field="free"), evaluator(lambda snapshot: [Decision(snapshot.host.entity, "size", 50)])
    engine = engine_with(tmp_path, machine, decides, spec=spec)
    engine.cycle()
    assert engine.cycle().outcomes[0].status is Status.UNCHANGED
    engine.close(put_back=False)
    with engine_with(tmp_path, machine, spec=spec) as later:
        later.cycle()
        assert len(later.state().changes) == 1
    assert machine.sizes["host"] == 100


@pytest.mark.parametrize(
    ("lists", "came_of_it"),
    [
        pytest.param([("a", "1"), ("b", "1")], {"a": Status.APPLIED, "b": Status.APPLIED}, id="both are there"),
        pytest.param([("b", "1")], {"a": Status.GONE, "b": Status.APPLIED}, id="one is missing from both lists"),
        pytest.param([], {"a": Status.GONE, "b": Status.GONE}, id="both are missing from both lists"),
        pytest.param([("a", "2"), ("b", "1")], {"a": Status.GONE, "b": Status.APPLIED}, id="one was started anew"),
    ],
)
@pytest.mark.parametrize("first", [[], [("b", "1")], [("a", "2"), ("b", "1")]])
def test_no_guest_is_taken_for_gone_by_one_short_list_when_all_is_put_back(
    tmp_path: Path,
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    lists: list[tuple[str, str]],
    came_of_it: dict[str, Status],
    first: list[tuple[str, str]],
) -> None:
    def listing(*those: tuple[str, str]) -> list[Guest]:
        return [Guest(name, name, incarnation=incarnation) for name, incarnation in those]

    machine.listing = lambda: listing(("a", "1"), ("b", "1"))
    engine = engine_with(tmp_path, machine, evaluator(want(50)))
    engine.cycle()
    answers = [listing(*first)]
    machine.listing = lambda: answers.pop() if answers else listing(*lists)
    monkeypatch.setattr(judgement, "WATCH_SECONDS", 0.01)
    outcomes = {outcome.decision.entity.id: outcome.status for outcome in engine.close()}
    sure = {name: Status.APPLIED for name, incarnation in first if incarnation == "1"}  # of whom the first list has left no doubt
    assert outcomes == came_of_it | sure
    kept = {entry.entity.id for entry in Ledger.open(tmp_path / "state", look=True).entries.values()}
    assert kept == {name for name, status in outcomes.items() if status is Status.FAILED}


def test_a_guest_that_was_started_anew_has_a_new_first_value(tmp_path: Path, machine: Machine) -> None:
    life = ["1"]
    machine.listing = lambda: [Guest("a", "a", incarnation=life[0])]
    with engine_with(tmp_path, machine, evaluator(want(50))) as engine:
        engine.cycle()
        life[0] = "2"
        machine.sizes["a"] = 300
        engine.cycle()
        assert machine.sizes["a"] == 50
    assert machine.sizes["a"] == 300


def test_a_plugin_that_hangs_costs_one_deadline_and_is_then_left_out(tmp_path: Path, machine: Machine) -> None:
    release, calls = threading.Event(), list[str]()

    def hang(self: object) -> dict[str, Value]:
        calls.append("mom_collect_host")
        release.wait(600)
        return {}

    bad = plugin_of(mom_collect_host=hang, mom_evaluate=lambda self: [])
    plugins = {"machine": machine_plugin(machine), "size": control_plugin(machine), "e": evaluator(want(50)), "bad": bad}
    config = config_of(tmp_path, plugins, {"bad": {"deadline": "500ms"}})
    with Engine(config) as engine:
        first = engine.cycle()
        assert statuses(first) == {"a": Status.APPLIED, "b": Status.APPLIED}
        assert next(p.message for p in first.problems) == "mom_collect_host: DeadlineExceeded: mom_collect_host did not answer within 0.5 s"
        second = engine.cycle()
        assert not [p.message for p in second.problems if "DeadlineExceeded" in p.message]
        unheard = {p.message for p in (*first.problems, *second.problems) if "called" in p.message}
        assert unheard == {"none of its hooks is called: its call of mom_collect_host has not come back"}
        assert calls == ["mom_collect_host"]
        assert {p.name: p.state for p in second.plugins}["bad"] is PluginState.HUNG
        release.set()
        (worker,) = (plugin.worker for plugin in engine.plugins.plugins if plugin.name == "bad")
        wait_until(lambda: not worker.hung)
        third = engine.cycle()
        assert {p.name: p.state for p in third.plugins}["bad"] is PluginState.OK


def test_a_plugin_that_keeps_failing_is_set_aside_and_tried_again(tmp_path: Path, machine: Machine) -> None:
    now = 0.0
    calls: list[float] = []

    def fail(snapshot: Snapshot) -> list[Decision]:
        calls.append(now)
        raise RuntimeError("no")

    with engine_with(tmp_path, machine, evaluator(fail), clock=Clock(lambda: now, lambda: now)) as engine:
        for _ in range(10):
            report = engine.cycle()
        assert len(calls) == 3
        assert {p.name: p.state for p in report.plugins}["e0"] is PluginState.SET_ASIDE
        now = FIRST_RETRY_SECONDS
        engine.cycle()
        assert len(calls) == 4


def test_a_stop_does_not_wait_for_a_plugin_that_hangs_and_restores_the_rest(tmp_path: Path, machine: Machine) -> None:
    release = threading.Event()
    hang_now = threading.Event()

    def hang(self: object) -> dict[str, Value]:
        if machine.sizes["a"] == 50:
            hang_now.set()
            release.wait(600)
        return {}

    bad = plugin_of(mom_collect_host=hang)
    plugins = {"machine": machine_plugin(machine), "size": control_plugin(machine), "e": evaluator(want(50)), "bad": bad}
    engine = Engine(config_of(tmp_path, plugins, {"bad": {"deadline": "5m"}}, stop_timeout=60.0))
    engine.start()
    try:
        assert hang_now.wait(60)
        began = time.monotonic()
    finally:
        engine.stop()
    assert time.monotonic() - began < 30
    assert machine.sizes == {"a": 100, "b": 200}
    release.set()


def test_a_plugin_that_hangs_keeps_no_other_ones_changes_from_being_put_back(tmp_path: Path, machine: Machine) -> None:
    release, other = threading.Event(), Machine({"a": 100})
    weight = replace(SIZE, name="weight")
    hangs = type("Hangs", (control_plugin(other, weight),), {"mom_report": hookimpl(lambda self: release.wait(600))})
    wants = evaluator(lambda snapshot: [*want(50, "a", "weight")(snapshot), *want(50, "a")(snapshot)])
    plugins = {"machine": machine_plugin(machine), "hangs": hangs, "size": control_plugin(machine), "e": wants}
    engine = Engine(config_of(tmp_path, plugins, {"hangs": {"deadline": "200ms"}}, stop_timeout=2.0))
    engine.cycle()
    assert (machine.sizes["a"], other.sizes["a"]) == (50, 50)
    came = {outcome.decision.control: (outcome.status, outcome.error) for outcome in engine.close()}
    release.set()
    assert came == {"weight": (Status.FAILED, "the plugin hangs hangs"), "size": (Status.APPLIED, "")}
    assert machine.sizes["a"] == 100


@pytest.mark.parametrize("hangs", [False, True])
def test_what_a_plugin_had_set_when_it_failed_is_put_back_however_many_values_were_decided_meanwhile(
    tmp_path: Path, machine: Machine, hangs: bool
) -> None:
    values, release = itertools.count(50), threading.Event()

    class Breaks(control_plugin(machine, replace(SIZE, gradual=1))):  # type: ignore[misc]  # a class made by a function
        @hookimpl
        def mom_write(self, changes: Sequence[Change]) -> None:
            for change in changes:
                assert isinstance(change.value, int)
                machine.sizes[change.entity.id] = change.value
            if not changes[0].back:
                assert hangs
                release.wait(600)

    decides = evaluator(lambda snapshot: [Decision(snapshot.guests["a"].entity, "size", next(values))])
    plugins = {"machine": machine_plugin(machine), "size": Breaks, "e": decides}
    engine = Engine(config_of(tmp_path, plugins, {"size": {"deadline": "100ms"}}, stop_timeout=2.0))
    for _ in range(20):
        report = engine.cycle()
    assert statuses(report) == {"a": Status.FAILED}
    assert any("mom_write" in one.message for one in report.problems), "it is said why"
    release.set()
    engine.close()
    assert machine.sizes == {"a": 100, "b": 200}


def hanging_plugin(machine: Machine, release: threading.Event, hangs: list[bool]) -> type:
    """Sets sizes; where the last of `hangs` says so, only when it is released."""

    class Hangs(control_plugin(machine)):  # type: ignore[misc]  # a class made by a function
        @hookimpl
        def mom_write(self, changes: Sequence[Change]) -> None:
            if hangs.pop():
                release.wait(600)
            machine.sizes |= {change.entity.id: change.value for change in changes if isinstance(change.value, int)}
            hangs.append(False)

    return Hangs


def test_what_a_plugin_sets_that_was_replaced_while_it_hung_is_put_back_after_that(tmp_path: Path, machine: Machine) -> None:
    clock, release, hangs = HandClock(), threading.Event(), [True]
    size = hanging_plugin(machine, release, hangs)

    def config(mode: str, deadline: str) -> Config:
        plugins = {"machine": machine_plugin(machine), "size": size, "e": evaluator(want(50, "a"))}
        return config_of(tmp_path, plugins, {"size": {"deadline": deadline}}, mode=mode, stop_timeout=0.5)

    with Engine(config("enforce", "100ms"), Clock(clock, clock.wall)) as engine:
        engine.cycle()
        hangs.append(False)
        engine.reload(config("observe", "200ms"))
        for was_released in (False, True):
            clock.now += 31
            engine.cycle()
            if not was_released:
                release.set()
                wait_until(lambda: machine.sizes["a"] == 50)
                wait_until(lambda: not any(one.worker.hung for one in engine._left_behind))
        assert machine.sizes == {"a": 100, "b": 200}


def test_what_a_replaced_plugin_may_still_set_when_mom_ends_stays_in_the_ledger(tmp_path: Path, machine: Machine) -> None:
    release, hangs = threading.Event(), [True]
    size = hanging_plugin(machine, release, hangs)

    def config(deadline: str) -> Config:
        plugins = {"machine": machine_plugin(machine), "size": size, "e": evaluator(want(50, "a"))}
        return config_of(tmp_path, plugins, {"size": {"deadline": deadline}}, stop_timeout=1.0)

    engine = Engine(config("100ms"))
    engine.cycle()
    hangs.append(False)
    engine.reload(config("60s"))
    assert statuses(engine.cycle()) == {"a": Status.APPLIED}, "by the plugin that took its place"
    (left,) = engine._left_behind
    (outcome,) = engine.close()
    assert (outcome.status, outcome.error) == (Status.FAILED, "the plugin size hangs")
    release.set()
    wait_until(lambda: not left.worker.hung)
    assert machine.sizes["a"] == 50, "what it was told to set before it hung"
    with engine:
        pass
    assert machine.sizes == {"a": 100, "b": 200}


def test_an_engine_in_a_thread_starts_stops_and_starts_again_and_a_second_one_is_refused(tmp_path: Path, machine: Machine) -> None:
    before = set(threading.enumerate())
    engine = engine_with(tmp_path, machine, evaluator(want(50)))
    for _ in range(2):
        engine.start()
        with pytest.raises(MomError, match="running already"):
            engine.start()
        with pytest.raises(MomError, match=r"process \d+ .* holds"):
            engine_with(tmp_path, machine).open()
        wait_until(lambda: machine.sizes["a"] == 50)
        engine.stop()
        assert machine.sizes == {"a": 100, "b": 200}
        assert set(threading.enumerate()) <= before


def test_a_stop_when_nothing_runs_keeps_no_later_start_from_running(tmp_path: Path, machine: Machine) -> None:
    engine = engine_with(tmp_path, machine, evaluator(want(50)))
    engine.stop()
    for _ in range(2):
        engine.start()
        wait_until(lambda: machine.sizes["a"] == 50)
        engine.stop()
        engine.stop(put_back=False)
        assert machine.sizes == {"a": 100, "b": 200}
    assert statuses(engine.cycle()) == {"a": Status.APPLIED, "b": Status.APPLIED}
    engine.close()
    engine.stop()
    with engine:
        assert statuses(engine.cycle()) == {"a": Status.APPLIED, "b": Status.APPLIED}


def test_an_engine_that_ended_by_itself_says_so_when_it_is_to_take_a_configuration(tmp_path: Path, machine: Machine) -> None:
    def ends(report: Report) -> None:
        raise SystemExit(3)

    config = config_of(tmp_path, {"machine": machine_plugin(machine)})
    engine = Engine(config, on_report=ends)
    engine.start()
    wait_until(lambda: not engine.is_running)
    with pytest.raises(MomError, match="the engine is not open"):
        engine.reload(config, timeout=0.1)
    with pytest.raises(SystemExit):
        engine.stop()


def test_an_engine_that_does_not_end_in_time_says_so_and_is_not_started_a_second_time(tmp_path: Path, machine: Machine) -> None:
    begun, release, threads = threading.Event(), threading.Event(), set[threading.Thread]()

    def waits(report: Report) -> None:
        threads.add(threading.current_thread())
        begun.set()
        release.wait(600)

    engine = Engine(config_of(tmp_path, {"machine": machine_plugin(machine)}, stop_timeout=0.1), on_report=waits)
    engine.start()
    assert begun.wait(60)
    with pytest.raises(MomError, match="has not ended in time"):
        engine.stop()
    with pytest.raises(MomError, match="running already"):
        engine.start()
    release.set()
    engine.stop()
    assert len(threads) == 1
    engine.start()
    wait_until(lambda: len(threads) == 2)
    engine.stop()


def test_a_program_that_has_a_thread_of_its_own_run_the_engine_can_reload_it_between_two_cycles(tmp_path: Path, machine: Machine) -> None:
    collecting, changed_in = threading.Event(), list[tuple[str, bool]]()

    def collect(self: object) -> dict[str, Value]:
        collecting.set()
        time.sleep(0.2)
        collecting.clear()
        return {}

    class Told(Engine):
        def _change_to(self, config: Config) -> None:
            changed_in.append((threading.current_thread().name, collecting.is_set()))
            super()._change_to(config)

    plugins = {"machine": machine_plugin(machine), "slow": plugin_of(mom_collect_host=collect)}
    engine = Told(config_of(tmp_path, plugins))
    runs = threading.Thread(target=engine.run, name="the program's own")
    runs.start()
    assert collecting.wait(60)
    engine.reload(config_of(tmp_path, plugins, interval=0.07), timeout=60)
    assert engine.config.interval == 0.07
    engine.stop()
    runs.join(60)
    assert changed_in == [("the program's own", False)]


def test_a_stop_before_an_engine_is_opened_is_kept_for_the_run_that_a_signal_came_before(tmp_path: Path, machine: Machine) -> None:
    engine = engine_with(tmp_path, machine, evaluator(want(50)))
    engine.stop()
    engine.run()
    assert (engine.number, machine.set_calls) == (0, [])


def test_waking_runs_a_cycle_before_the_next_is_due(tmp_path: Path, machine: Machine) -> None:
    reports: list[Report] = []
    config = config_of(tmp_path, {"machine": machine_plugin(machine)}, interval=600.0)
    engine = Engine(config, on_report=reports.append)
    engine.start()
    try:
        wait_until(lambda: len(reports) == 1)
        engine.wake("a guest came")
        wait_until(lambda: len(reports) == 2)
    finally:
        engine.stop()
    assert [report.woken_by for report in reports] == ["", "a guest came"]


def test_a_reload_keeps_the_old_plugins_when_the_new_ones_are_wrong(tmp_path: Path, machine: Machine) -> None:
    with engine_with(tmp_path, machine, evaluator(want(50))) as engine:
        engine.cycle()
        plugins = {"machine": machine_plugin(machine), "bad": plugin_of(mom_setup=lambda self: 1 / 0)}
        with pytest.raises(MomError, match="plugin bad of test-bad 0: mom_setup failed: ZeroDivisionError"):
            engine.reload(config_of(tmp_path, plugins))
        machine.sizes["a"] = 60
        assert statuses(engine.cycle()) == {"a": Status.APPLIED, "b": Status.UNCHANGED}
        assert "size" in engine.plugins.declarations.controls


def test_a_reload_says_the_mode_and_what_it_was(tmp_path: Path, machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    plugins = {"machine": machine_plugin(machine)}
    with caplog.at_level("INFO"), Engine(config_of(tmp_path, plugins, mode="observe")) as engine:
        engine.reload(config_of(tmp_path, plugins, mode="observe"))
        engine.reload(config_of(tmp_path, plugins))
    said = [record.getMessage() for record in caplog.records if "is in force" in record.getMessage()]
    assert said == [f"the new configuration is in force: mode {mode}, plugins machine" for mode in ("observe", "enforce (it was observe)")]


def test_a_reload_keeps_unchanged_plugins_and_puts_back_what_leaves(tmp_path: Path, machine: Machine) -> None:
    made: list[object] = []
    torn: list[object] = []

    class Kept(Base):
        def __init__(self, settings: PluginSettings, context: Any) -> None:
            super().__init__(settings, context)
            made.append(self)

        @hookimpl
        def mom_teardown(self) -> None:
            torn.append(self)

    plugins = {"machine": machine_plugin(machine), "size": control_plugin(machine), "e": evaluator(want(50)), "kept": Kept}
    with Engine(config_of(tmp_path, plugins)) as engine:
        engine.cycle()
        assert machine.sizes == {"a": 50, "b": 50}
        del plugins["size"], plugins["e"]
        engine.reload(config_of(tmp_path, plugins))
        assert machine.sizes == {"a": 100, "b": 200}
        assert len(made) == 1
        assert torn == []
        engine.cycle()
    assert torn == made


def test_an_engine_tells_of_its_progress_between_the_calls_of_a_slow_plugin(tmp_path: Path, machine: Machine) -> None:
    said: list[str] = []

    class Slow(control_plugin(machine)):  # type: ignore[misc]  # made for this test
        @hookimpl
        def mom_read(self, targets: Sequence[Target]) -> dict[Target, Value]:
            said.append("read")
            return {target: machine.sizes[target.entity.id] for target in targets}

        @hookimpl
        def mom_write(self, changes: Sequence[Change]) -> None:
            said.append("write")

    plugins = {"machine": machine_plugin(machine), "size": Slow, "e": evaluator(want(50))}
    with Engine(config_of(tmp_path, plugins), on_progress=lambda: said.append("progress")) as engine:
        engine.cycle()
        # What is written is read back in the same call, which has one deadline.
        assert " ".join(said[said.index("read") :]).startswith("read progress write read progress")


@pytest.mark.parametrize(("mode", "seconds"), [("enforce", 5.0), ("observe", 60.0)])
def test_what_an_observing_mom_puts_back_between_two_cycles_counts_as_a_step(
    tmp_path: Path, machine: Machine, mode: str, seconds: float
) -> None:
    with engine_with(tmp_path, machine, mode=mode) as engine:
        assert engine.longest_step == seconds


@pytest.mark.parametrize("answers", ["at once", "later", "never"])
def test_a_reload_with_another_hypervisor_puts_back_what_that_does_not_list(
    tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch, answers: str
) -> None:
    def not_yet() -> object:
        if answers == "later":
            other.listing = None
        raise HypervisorError("not connected yet")

    other = Machine({"b": 50})
    other.uri = "test:///other"
    if answers != "at once":
        other.listing = not_yet
    plugins = {"machine": machine_plugin(machine), "size": control_plugin(machine), "e": evaluator(want(50))}
    monkeypatch.setattr(engine_module, "LISTED_SECONDS", 0.3)
    with Engine(config_of(tmp_path, plugins)) as engine:
        engine.cycle()
        assert machine.sizes == {"a": 50, "b": 50}
        engine.reload(config_of(tmp_path, plugins | {"machine": machine_plugin(other)}))
        assert machine.sizes == {"a": 100, "b": 200 if answers == "never" else 50}
        assert len(engine.state().changes) == (answers != "never")


def test_a_hypervisor_is_there_until_the_plugins_that_use_it_have_ended(tmp_path: Path, machine: Machine) -> None:
    torn: list[str] = []

    def ends(name: str, plugin: Any) -> Any:
        return type(name, (plugin,), {"mom_teardown": hookimpl(lambda self: torn.append(name))})

    plugins = {"machine": ends("machine", machine_plugin(machine)), "size": ends("size", control_plugin(machine))}
    with Engine(config_of(tmp_path, plugins)) as engine:
        engine.cycle()
    assert torn == ["size", "machine"]


def test_the_settings_in_force_are_put_together_once_for_each_configuration(tmp_path: Path, machine: Machine) -> None:
    plugins = {"machine": machine_plugin(machine), "size": control_plugin(machine)}
    with Engine(config_of(tmp_path, plugins)) as engine:
        contexts = [plugin.context for plugin in engine.plugins.plugins]
        first = contexts[0].configuration()
        assert first["plugins"] == {"machine": {"deadline": "5s"}, "size": {"deadline": "5s"}}
        assert all(context.configuration() is first for context in contexts)
        del plugins["size"]
        engine.reload(config_of(tmp_path, plugins))
        assert contexts[0].configuration()["plugins"] == {"machine": {"deadline": "5s"}}


def test_a_reload_that_is_asked_for_while_one_is_under_way_is_done_too(tmp_path: Path, machine: Machine) -> None:
    loaded: list[float] = []

    def load() -> Config:
        loaded.append(time.monotonic())
        if len(loaded) == 1:
            engine.request_reload(load)  # the operator's second SIGHUP
        return config_of(tmp_path, {"machine": machine_plugin(machine)})

    with Engine(config_of(tmp_path, {"machine": machine_plugin(machine)})) as engine:
        engine.start()
        try:
            engine.request_reload(load)
            wait_until(lambda: len(loaded) >= 2)
        finally:
            engine.stop()
    assert len(loaded) == 2


def test_a_plugins_reload_is_refused_as_a_whole(tmp_path: Path, machine: Machine) -> None:
    committed: list[str] = []
    good = False

    def reload(self: object) -> Callable[[], None]:
        if not good:
            raise MomError("policy 50_x:3:1 is wrong")
        return lambda: committed.append("second")

    first, second = plugin_of(mom_reload=lambda self: lambda: committed.append("first")), plugin_of(mom_reload=reload)
    config = config_of(tmp_path, {"machine": machine_plugin(machine), "first": first, "second": second})
    with Engine(config) as engine:
        with pytest.raises(MomError, match="policy 50_x:3:1 is wrong"):
            engine.reload(config)
        assert committed == []
        good = True
        engine.reload(config)
    assert committed == ["first", "second"]


def test_what_goes_wrong_in_a_reload_ends_no_engine_and_is_not_tried_again(
    tmp_path: Path, machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    committed: list[str] = []
    loads: list[int] = []

    def fails() -> None:
        raise ValueError("late")

    def load() -> Config:
        loads.append(1)
        raise ValueError("odd")

    first, second = (plugin_of(mom_reload=lambda self, commit=commit: commit) for commit in (fails, lambda: committed.append("second")))
    config = config_of(tmp_path, {"machine": machine_plugin(machine), "first": first, "second": second}, interval=0.05)
    engine = Engine(config)
    engine.start()
    try:
        engine.reload(config, 60)
        assert committed == ["second"]
        assert "plugin first: what mom_reload returned failed: ValueError: late" in caplog.text
        engine.request_reload(load)
        wait_until(lambda: "the new configuration could not be taken: ValueError: odd" in caplog.text)
        before = engine.number
        wait_until(lambda: engine.number > before + BROKEN_CYCLES)
        assert len(loads) == 1
    finally:
        engine.stop()


def test_what_puts_a_reload_in_force_may_neither_hang_nor_end_the_engine(
    tmp_path: Path, machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    committed: list[str] = []
    release = threading.Event()

    def ends() -> None:
        raise SystemExit(5)

    commits = {"hangs": lambda: release.wait(600), "ends": ends, "good": lambda: committed.append("good")}
    plugins = {name: plugin_of(mom_reload=lambda self, commit=commit: commit) for name, commit in commits.items()}
    config = config_of(tmp_path, {"machine": machine_plugin(machine), **plugins}, {"hangs": {"deadline": "100ms"}}, stop_timeout=60.0)
    with Engine(config) as engine:
        engine.reload(config)
        assert committed == ["good"]
        assert "plugin hangs: what mom_reload returned failed: DeadlineExceeded" in caplog.text
        assert "plugin ends: what mom_reload returned failed: SystemExit: 5" in caplog.text
        assert {one.name: one.state for one in engine.cycle().plugins}["hangs"] is PluginState.HUNG
        release.set()


def test_a_stop_does_not_wait_for_what_puts_a_reload_in_force(tmp_path: Path, machine: Machine) -> None:
    release, hangs = threading.Event(), threading.Event()

    def commit() -> None:
        hangs.set()
        release.wait(600)

    plugins = {"machine": machine_plugin(machine), "slow": plugin_of(mom_reload=lambda self: commit)}
    config = config_of(tmp_path, plugins, {"slow": {"deadline": "5m"}}, stop_timeout=5.0)
    engine = Engine(config)
    engine.start()
    try:
        engine.request_reload(lambda: config)
        assert hangs.wait(60)
        began = time.monotonic()
    finally:
        engine.stop()
    assert time.monotonic() - began < 30
    assert not any(thread.name == "mom-engine" for thread in threading.enumerate())
    release.set()


def test_a_reload_that_the_operator_has_corrected_is_taken_however_often_it_was_refused(tmp_path: Path, machine: Machine) -> None:
    good = False

    def reload(self: object) -> None:
        if not good:
            raise MomError("policy 50_x:3:1 is wrong")

    config = config_of(tmp_path, {"machine": machine_plugin(machine), "policy": plugin_of(mom_reload=reload)})
    with Engine(config) as engine:
        for _ in range(FAILURES_BEFORE_SET_ASIDE + 1):
            with pytest.raises(MomError, match="policy 50_x:3:1 is wrong"):
                engine.reload(config)
        assert {plugin.state for plugin in engine.cycle().plugins} == {PluginState.OK}
        good = True
        engine.reload(config)


def test_switching_to_observe_puts_everything_back_and_touches_nothing_more(tmp_path: Path, machine: Machine) -> None:
    plugins = {"machine": machine_plugin(machine), "size": control_plugin(machine), "e": evaluator(want(50))}
    with Engine(config_of(tmp_path, plugins)) as engine:
        engine.cycle()
        engine.reload(config_of(tmp_path, plugins, mode="observe"))
        assert machine.sizes == {"a": 100, "b": 200}
        machine.set_calls.clear()
        report = engine.cycle()
    assert [(one.status, one.before) for one in report.outcomes] == [(Status.OBSERVED, 100), (Status.OBSERVED, 200)]
    assert machine.set_calls == []


def test_what_another_plugin_had_set_is_put_back_by_the_one_that_has_the_control_now(tmp_path: Path, machine: Machine) -> None:
    plugins = {"machine": machine_plugin(machine), "old": control_plugin(machine), "e": evaluator(want(50))}
    engine = Engine(config_of(tmp_path, plugins))
    engine.cycle()
    engine.close(put_back=False)
    del plugins["e"], plugins["old"]
    with Engine(config_of(tmp_path, plugins | {"new": control_plugin(machine)})):
        pass
    assert machine.sizes == {"a": 100, "b": 200}


@pytest.mark.parametrize("serve", [True, False])
def test_a_mom_that_starts_to_observe_puts_back_what_the_one_before_has_left(tmp_path: Path, machine: Machine, *, serve: bool) -> None:
    plugins = {"machine": machine_plugin(machine), "size": control_plugin(machine), "e": evaluator(want(50))}
    engine = Engine(config_of(tmp_path, plugins))
    engine.cycle()
    engine.close(put_back=False)
    engine = Engine(config_of(tmp_path, plugins, mode="observe"), serve=serve)
    engine.cycle()
    engine.close(put_back=False)
    assert machine.sizes == ({"a": 100, "b": 200} if serve else {"a": 50, "b": 50}), "a program that only looks changes nothing"


def test_what_could_not_be_put_back_when_mom_was_told_to_observe_is_tried_again(
    tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugins = {"machine": machine_plugin(machine), "size": control_plugin(machine), "e": evaluator(want(50))}
    with Engine(config_of(tmp_path, plugins)) as engine:
        engine.cycle()
        machine.hides = True
        engine.reload(config_of(tmp_path, plugins, mode="observe"))
        machine.hides = False
        engine.cycle()
        assert machine.sizes == {"a": 50, "b": 50}, "not at once"
        monkeypatch.setattr("mom_core.engine.engine.PUT_BACK_AGAIN_SECONDS", 0.0)
        engine.cycle()
        assert machine.sizes == {"a": 100, "b": 200}
        machine.sizes["a"] = 60
        engine.cycle()
    assert machine.sizes == {"a": 60, "b": 200}, "somebody else's by now"


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"mom_colect_host": hookimpl(lambda self: {})}, "there is no hook mom_colect_host (did you mean mom_collect_host?)"),
        ({"mom_collect_host": hookimpl(lambda self, hypervisr: {})}, "hypervisr"),
        ({"mom_collect_host": lambda self: {}}, "mom_collect_host is not marked as a hook (put @hookimpl above it)"),
        ({"mom_collect_host": hookimpl(wrapper=True)(lambda self: (yield))}, "hook wrapper"),
        ({"mom_declare": hookimpl(lambda self: [ControlSpec("c", Unit.KIB, Scope.GUEST, "", "size")])}, "lacks mom_read or mom_write"),
        ({"mom_hypervisor": hookimpl(lambda self: 5)}, "mom_hypervisor returned a int"),
        ({"__init__": lambda self, settings, context: 1 / 0}, "its constructor failed: ZeroDivisionError"),
    ],
)
def test_a_plugin_that_is_built_wrong_is_refused_with_its_name(tmp_path: Path, attributes: Mapping[str, Any], message: str) -> None:
    plugin = type("Wrong", (Base,), dict(attributes))
    with pytest.raises(MomError) as caught, Engine(config_of(tmp_path, {"wrong": plugin})):
        pass
    assert "plugin wrong of test-wrong 0" in str(caught.value)
    assert message in str(caught.value)


def test_an_attribute_that_begins_like_a_hook_is_none(cycle: OneCycle) -> None:
    def keep(self: Any, settings: object, context: object) -> None:
        self.mom_path = "/run/mom"

    report = cycle(kept=type("Kept", (Base,), {"__init__": keep}))
    assert not [problem for problem in report.problems if problem.source.name == "kept"]


def test_a_hook_that_is_to_be_tried_first_is_called_before_those_of_plugins_that_come_before(tmp_path: Path, machine: Machine) -> None:
    def reviewer_of(size: int, *, first: bool) -> type:
        def mom_review(self: object, decisions: Sequence[Decision]) -> list[Revision]:
            return [Revision(one, replace(one, value=size), "by turn") for one in decisions if one.value != size]

        return type("Reviewer", (Base,), {"mom_review": hookimpl(tryfirst=first)(mom_review)})

    with engine_with(
        tmp_path, machine, evaluator(want(50)), plain=reviewer_of(60, first=False), eager=reviewer_of(70, first=True)
    ) as engine:
        report = engine.cycle()
    assert [revision.reviewer for revision in report.revisions[:1]] == ["eager"]


def test_of_columns_and_metrics_of_one_name_the_first_plugins_count_and_that_is_logged(
    tmp_path: Path, machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    def having(*columns: GuestColumn) -> type:
        return plugin_of(mom_declare=lambda self: columns)

    ours = (
        GuestColumn("heat", ("size",), Unit.KIB, "ours", metric="acme_heat"),
        GuestColumn(GuestColumn.REMARKS, ("size",), Unit.TEXT, "ours"),
    )
    theirs = (
        GuestColumn("heat", ("free",), Unit.KIB, "theirs", metric="other_heat"),
        GuestColumn("cold", ("size",), Unit.KIB, "theirs", metric="acme_heat"),
        GuestColumn(GuestColumn.REMARKS, ("size",), Unit.TEXT, "theirs"),
    )
    with engine_with(tmp_path, machine, ours=having(*ours), theirs=having(*theirs)) as engine:
        columns = engine.plugins.declarations.guest_columns
    assert [*columns] == [*ours, replace(theirs[1], metric=""), theirs[2]]
    assert "plugin theirs: its column heat is left out: the plugin ours comes first and has one" in caplog.text
    assert "plugin theirs: its metric acme_heat is left out: the plugin ours comes first and has one" in caplog.text


@pytest.mark.parametrize(("made", "why"), [(lambda fields: 1 // 0, "ZeroDivisionError"), (lambda fields: math.nan, "it gives NaN")])
def test_that_a_column_fails_is_logged_once(
    tmp_path: Path, machine: Machine, caplog: pytest.LogCaptureFixture, made: Callable[[Mapping[str, Value]], Value], why: str
) -> None:
    column = GuestColumn("heat", ("size",), Unit.KIB, "how hot it is", made=made)
    with engine_with(tmp_path, machine, hot=plugin_of(mom_declare=lambda self: [column])) as engine:
        (shown,) = engine.plugins.declarations.guest_columns
        assert [*shown.values(engine.cycle().snapshot), *shown.values(engine.cycle().snapshot)] == [None] * 4
    assert caplog.text.count("plugin hot: its column heat is unknown of some guests") == 1
    assert f"of some guests: {why}" in caplog.text


def test_two_plugins_with_one_control_are_refused(tmp_path: Path, machine: Machine) -> None:
    with pytest.raises(MomError, match="the control size is declared by the plugins size and other"):
        engine_with(tmp_path, machine, other=control_plugin(machine)).open()


def test_a_failed_start_tears_down_what_was_set_up(tmp_path: Path) -> None:
    events: list[str] = []

    first = plugin_of(mom_setup=lambda self: events.append("up"), mom_teardown=lambda self: events.append("down"))
    with pytest.raises(MomError, match="mom_setup failed: SystemExit: 3"):
        Engine(config_of(tmp_path, {"first": first, "second": plugin_of(mom_setup=lambda self: sys.exit(3))})).open()
    assert events == ["up", "down"]


def test_a_setup_that_hangs_ends_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    class Hangs(Base):
        def __init__(self, settings: PluginSettings, context: Any) -> None:
            super().__init__(settings, context)
            monkeypatch.setattr("mom_core.plugins.registry.SETUP_SECONDS", 0.2)  # from now on: the constructor has its time

        @hookimpl
        def mom_setup(self) -> None:
            release.wait(600)

    with pytest.raises(MomError, match=r"plugin bad of test-bad 0: mom_setup failed: .*did not answer within 0.2 s"):
        Engine(config_of(tmp_path, {"bad": Hangs}, {"bad": {"deadline": "100ms"}})).open()
    release.set()


@pytest.mark.parametrize("hook", ["mom_setup", "mom_report"])
def test_a_plugin_that_hangs_when_it_leaves_is_torn_down_once_its_call_is_back(
    tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, hook: str
) -> None:
    """What it listens at, locks or has begun would be in the way of the one that takes its place, for as long as mom runs."""
    release, ended = threading.Event(), threading.Event()

    def tear_down(self: object) -> None:
        ended.set()
        raise ValueError("nobody hears this")

    hangs = plugin_of(**{hook: lambda self: release.wait(600)}, mom_teardown=tear_down)
    monkeypatch.setattr("mom_core.plugins.registry.SETUP_SECONDS", 0.2)
    alone = {"machine": machine_plugin(machine)}
    plugins = {**alone, "bad": hangs}
    with Engine(config_of(tmp_path, plugins if hook == "mom_report" else alone, {"bad": {"deadline": "100ms"}})) as engine:
        engine.cycle()
        if hook == "mom_report":
            engine.reload(config_of(tmp_path, alone))
        else:
            with pytest.raises(MomError, match=r"did not answer within 0\.2 s"):
                engine.reload(config_of(tmp_path, plugins, {"bad": {"deadline": "100ms"}}))
        assert not ended.is_set()
        release.set()
        assert ended.wait(60)
        wait_until(lambda: "plugin bad: mom_teardown: ValueError: nobody hears this" in caplog.text)


@pytest.mark.parametrize("refused", [False, True])
def test_what_comes_back_late_of_a_plugin_that_is_not_in_use_writes_no_file_of_the_one_that_is(tmp_path: Path, *, refused: bool) -> None:
    release, ended = threading.Event(), threading.Event()

    class Keeps(Base):
        kept, hangs = "in use", False

        def __init__(self, settings: PluginSettings, context: Any) -> None:
            super().__init__(settings, context)
            self.file = context.state_file("kept.json", "what is kept", list)

        @hookimpl
        def mom_report(self) -> None:
            if self.hangs:
                release.wait(600)
            self.file.write([self.kept])

        @hookimpl
        def mom_teardown(self) -> None:
            try:
                self.file.write([self.kept])
            finally:
                ended.set()

    class Leaves(Keeps):
        kept, hangs = "not in use", not refused

    bad = {"bad": plugin_of(mom_setup=lambda self: 1 / 0)}
    first, second = (Keeps, Leaves) if refused else (Leaves, Keeps)
    with Engine(config_of(tmp_path, {"kept": first}, {"kept": {"deadline": "100ms"}})) as engine:
        engine.cycle()
        with pytest.raises(MomError) if refused else nullcontext():
            engine.reload(config_of(tmp_path, {"kept": second, **(bad if refused else {})}))
        if not refused:
            engine.cycle()
        release.set()
        assert ended.wait(60)
        assert StateFile(tmp_path / "state/kept/kept.json", "what is kept", list).read() == ["in use"]


def test_a_problem_is_logged_once_and_counted(tmp_path: Path, machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    with engine_with(tmp_path, machine, evaluator(lambda s: [Problem(Source("p", 3, 4), "guest is odd")])) as engine:
        for _ in range(5):
            engine.cycle()
        assert [record.message for record in caplog.records if "odd" in record.message] == ["p:3:4: guest is odd"]
        assert [(standing.cycles, standing.message) for standing in engine.problems()] == [(5, "guest is odd")]


# --- services -----------------------------------------------------------------------------------------------------------------------


class Kept:
    """Notes that are nothing but there."""

    def __init__(self) -> None:
        self.read = self.write = lambda: None


def texts_plugin(texts: object) -> type:
    return plugin_of(mom_services=lambda self: {} if texts is None else {Notes: texts})


def test_every_plugin_finds_what_the_others_offer_in_its_context_when_it_is_set_up(tmp_path: Path) -> None:
    seen: list[object] = []

    def set_up(self: Base) -> None:
        seen.extend((self.context.service(Notes), self.context.serves))

    first, second = Kept(), Kept()
    plugins = {
        "server": plugin_of(mom_setup=set_up),
        "none": texts_plugin(None),
        "first": texts_plugin(first),
        "second": texts_plugin(second),
    }
    with Engine(config_of(tmp_path, plugins)) as engine:
        context = engine.plugins.plugins[0].context
        assert engine.service(Notes) is context.service(Notes) is first
        assert context.services(Notes) == (first, second), "in the YAML order"
        assert context.service(Clock) is None
        assert context.services(Clock) == ()
    with Engine(config_of(tmp_path, plugins), serve=False):
        pass
    assert seen == [first, True, first, False]


def test_a_refused_reload_leaves_all_plugins_with_the_services_from_before(tmp_path: Path) -> None:
    texts: object = Kept()
    plugins = {"plain": Base, "evaluator": texts_plugin(texts)}
    with Engine(config_of(tmp_path, plugins)) as engine:
        with pytest.raises(MomError):
            engine.reload(
                config_of(tmp_path, {"plain": Base, "evaluator": texts_plugin(Kept()), "bad": plugin_of(mom_setup=lambda self: 1 / 0)})
            )
        contexts = [plugin.context for plugin in engine.plugins.plugins]
        assert all(context.service(Notes) is texts for context in contexts)
        engine.reload(config_of(tmp_path, {"plain": Base}))
        assert contexts[0].service(Notes) is None
