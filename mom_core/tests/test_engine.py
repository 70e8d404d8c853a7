"""The engine with plugins of tests: cycles, faulty plugins, and restoring."""

import itertools
import json
import math
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
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
    Engine,
    FieldSpec,
    Guest,
    GuestColumn,
    HypervisorError,
    MomError,
    PluginError,
    PluginReport,
    PluginSettings,
    Problem,
    Report,
    Revision,
    Scope,
    Snapshot,
    Source,
    StateFile,
    Status,
    Target,
    Unit,
    Value,
    hookimpl,
)
from mom_core.engine import judgement
from mom_core.engine.engine import BROKEN_CYCLES
from mom_core.engine.problems import LONGEST, MOST_OF_ONE
from mom_core.ledger import Ledger
from mom_core.plugins.invoker import FAILURES_BEFORE_SET_ASIDE, PluginWorker
from mom_core.plugins.registry import constructed
from mom_daemon import json_text
from mom_daemon.status_file import status_of
from mom_devkit import config_of, wait_until


class Notes(Protocol):
    """Service that the core does not know."""

    def read(self) -> None: ...
    def write(self) -> None: ...


class Base:
    def __init__(self, settings: PluginSettings, context: Any) -> None:
        self.settings = settings
        self.context = context


class Machine:
    """Host with guests that have one setting, `size`."""

    def __init__(self, sizes: dict[str, int] | None = None) -> None:
        self.sizes = {"a": 100, "b": 200} if sizes is None else sizes
        self.listing: Callable[[], object] | None = None
        self.set_calls: list[tuple[str, int]] = []
        self.hides = False
        """Whether it reports no sizes."""

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
    """Return a plugin class with these functions as hooks. Each takes the plugin first."""
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
    """Return a function that runs a cycle on the machine, and restores everything. It takes the arguments of `engine_with`."""

    def one(*evaluators: type, **options: Any) -> Report:
        with engine_with(tmp_path, machine, *evaluators, **options) as engine:
            return engine.cycle()

    return one


def statuses(report: Report) -> dict[str, Status]:
    return {outcome.decision.entity.name: outcome.status for outcome in report.outcomes}


def test_a_field_has_one_unit(tmp_path: Path, machine: Machine) -> None:
    known = Declarations({(Scope.HOST, "free"): FieldSpec("free", Unit.BYTES, Scope.HOST, "")})
    reader = plugin_of(mom_declare=lambda self: [FieldSpec.reads("free", Unit.BYTES, Scope.HOST)])
    for plugins, declared, refused in (({}, known, "machine"), ({"reader": reader}, Declarations(), "reader")):
        with pytest.raises(PluginError, match="declares the field free in") as caught:
            Engine(config_of(tmp_path, {"machine": machine_plugin(machine), **plugins}), declared=declared).open()
        assert caught.value.plugin == refused


@pytest.mark.parametrize("reader_first", [True, False])
def test_a_field_belongs_to_the_plugin_that_collects_it(tmp_path: Path, machine: Machine, reader_first: bool) -> None:
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
        return [*want(50, "a")(snapshot), *([Decision.Trial([*want(40)(snapshot)])] if snapshot.number == 2 else ())]

    with engine_with(tmp_path, machine, evaluator(decide)) as engine:
        report = engine.cycle()
        assert (report.considered, report.differences(), status_of(engine, report)["trial"]) == (None, [], None)
        report = engine.cycle()
        assert machine.sizes == {"a": 50, "b": 200}
        assert [(decision.value, decision.source) for decision in report.considered or ()] == [(40, Source("e0"))] * 2
        assert [(entity.name, decided, tried) for entity, _, decided, tried in report.differences()] == [("a", 50, 40), ("b", None, 40)]
        trial = status_of(engine, report)["trial"]
        assert trial is not None
        assert (trial["decisions"], trial["differing"], trial["differences"][0]["considered"]) == (2, 2, 40)
        assert not report.problems


def test_problems_are_reported_also_without_decisions(cycle: OneCycle) -> None:
    wrong = [Problem(Source("mine"), "it squeaks"), 7]
    report = cycle(actor(lambda snapshot: "nonsense"), reporter(lambda snapshot: wrong))
    assert [problem.message for problem in report.problems] == [
        "mom_act must return a list, not str",
        "it squeaks",
        "mom_problems returned int instead of Problem",
    ]


@pytest.mark.parametrize(
    ("kind", "item", "why"),
    [
        (evaluator, Problem(Source("mine"), ValueError("no")), "mom_evaluate returned a Problem whose message is ValueError"),  # type: ignore[arg-type]  # a mistake on purpose
        (reporter, Problem("mine", "it squeaks"), "mom_problems returned a Problem whose source is str"),  # type: ignore[arg-type]  # a mistake on purpose
        (reporter, Condition("memory", "low", after="5s"), "mom_problems returned a Condition whose after is str"),  # type: ignore[arg-type]  # a mistake on purpose
    ],
)
def test_problem_with_a_wrong_part_does_not_end_the_cycle(cycle: OneCycle, kind: Callable[..., type], item: object, why: str) -> None:
    assert [problem.message for problem in cycle(kind(lambda snapshot: [item])).problems] == [why]


def test_a_flood_of_problems_of_one_plugin_is_cut(cycle: OneCycle) -> None:
    flood = [Problem(Source("e0"), f"{number} {'x' * 10_000}") for number in range(5000)]
    report = cycle(reporter(lambda snapshot: flood), reporter(lambda snapshot: [Problem(Source("mine"), "it squeaks")]))
    *of_flood, last = [problem for problem in report.problems if problem.source.name != "mine"]
    assert of_flood == [replace(one, message=one.message[:LONGEST]) for one in flood[:MOST_OF_ONE]]
    assert (last.source.name, last.message) == ("e0", "4900 more problems in this cycle are not shown")
    assert Problem(Source("mine"), "it squeaks") in report.problems


@pytest.mark.parametrize(("after_that", "stands"), [("same", 100), ("next", 70), ("", 100)])
def test_after_a_reboot_the_booted_value_is_the_original(
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
    assert "its value 100 did not change" in report.outcomes[0].error


def rounding_plugin(machine: Machine, on_set: Callable[[], None] = lambda: None) -> type:
    """Return a plugin whose control rounds values to multiples of 8, like a kernel that counts pages."""

    class RoundingPlugin(control_plugin(machine)):  # type: ignore[misc]  # a class made by a function
        @hookimpl
        def mom_write(self, changes: Sequence[Change]) -> None:
            for change in changes:
                assert isinstance(change.value, int)
                machine.sizes[change.entity.id] = change.value // 8 * 8
                on_set()

    return RoundingPlugin


@pytest.mark.parametrize(
    ("asked", "stands", "after", "said"),
    [
        (53, 48, 104, ""),
        # farther away than the original value, so another process may have set it
        (103, 96, 96, "mom was interrupted while it set 103: if no other process has changed the value since, set 104 by hand"),
    ],
)
def test_an_interrupted_change_is_restored_only_if_it_is_surely_moms(
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
    """Plugin with a mistake two calls deep, found by Python's library."""

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
    assert "Traceback" not in second, "the same failure again is not told again"


def failed(worker: PluginWorker, hook: Callable[[], object]) -> BaseException:
    """Return a hook's error, which is also logged."""
    call = worker.begin("h", hook)
    assert call is not None
    error = worker.finish(call).error
    assert error is not None
    worker.close(time.monotonic() + 10)
    return error


@pytest.mark.parametrize("raised", [ValueError, HypervisorError])
def test_a_secret_in_a_failure_is_masked(raised: type[Exception], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "mom")
    worker = PluginWorker("p", 60, hide=lambda text: text.replace("hunter2", "***"))

    def fail() -> None:
        raise raised("the password is hunter2")

    failed(worker, fail)
    assert "in fail" in caplog.text
    assert "the password is ***" in caplog.text
    assert "hunter2" not in caplog.text


def test_kept_changes_are_restored_at_the_next_end(tmp_path: Path, machine: Machine) -> None:
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


LARGE = "x" * 10**6
READ_AS = "mom_read: odd should be a"


@pytest.mark.parametrize(
    ("unit", "found", "value", "status", "error"),
    [
        (Unit.COUNT, "5", 77, Status.FAILED, f"{READ_AS} number and is str '5'"),
        (Unit.COUNT, ControlSpec.InTransition(math.nan), 77, Status.FAILED, f"{READ_AS} number below 2**63 and is float nan"),
        (Unit.TEXT, 5, "77", Status.FAILED, f"{READ_AS} text and is int 5"),
        (Unit.LIST, ["x"], [{"name": "x"}], Status.FAILED, f"{READ_AS} list of mappings and is list ['x']"),
        (Unit.TEXT, LARGE, "5", Status.REFUSED, "its present value is not JSON of at most 64 KiB: the ledger cannot save the value"),
        (
            Unit.LIST,
            [],
            [{"name": object()}],
            Status.REFUSED,
            "the new value is not JSON of at most 64 KiB: the ledger cannot save the value",
        ),
    ],
    ids=range(6),
)
def test_a_control_that_could_not_be_restored_is_not_set(
    tmp_path: Path, machine: Machine, unit: Unit, found: Any, value: Any, status: Status, error: str
) -> None:
    written: list[Change] = []
    plugin = plugin_of(
        mom_declare=lambda self: [ControlSpec("odd", unit, Scope.GUEST, "", field="size")],
        mom_read=lambda self, targets: dict.fromkeys(targets, found),
        mom_write=lambda self, changes: written.extend(changes),
    )
    with engine_with(tmp_path, machine, evaluator(want(50)), evaluator(want(value, control="odd")), odd=plugin) as engine:
        report = engine.cycle()
        assert {entry.control for entry in engine.state().changes} == {"size"}
    of_odd = [outcome for outcome in report.outcomes if outcome.decision.control == "odd"]
    assert [(outcome.status, error in outcome.error) for outcome in of_odd] == [(status, True)] * 2
    assert [outcome.status for outcome in report.outcomes if outcome.decision.control == "size"] == [Status.APPLIED] * 2
    assert written == []


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


def test_without_the_word_of_a_controls_reviewer_it_is_not_applied(cycle: OneCycle, machine: Machine) -> None:
    class Reviewing(control_plugin(machine)):  # type: ignore[misc]  # a class made by a function
        @hookimpl
        def mom_review(self, decisions: Sequence[Decision]) -> Iterable[Revision]:
            raise RuntimeError("lost")

    report = cycle(evaluator(want(50)), size=Reviewing)
    assert machine.set_calls == []
    assert {r.reason for r in report.revisions} == {"the size plugin failed to review this decision"}


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
        return {"nobody": {}, "b": {"t": 1 << 70, "size": 1}}

    @hookimpl
    def mom_evaluate(self) -> list[object]:
        return [None, 5, "x", Decision("vm", "size", 5)]  # type: ignore[arg-type]  # rubbish on purpose


class HalfWay:
    def __iter__(self) -> Iterator[object]:
        yield from ()
        raise ValueError("the rest is away")


def sized(change: Callable[[Any], object]) -> type:
    return evaluator(lambda snapshot: [change(decision) for decision in want(60)(snapshot)])


ODD: Any = 5


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (sized(lambda d: replace(d, control=["size"])), "its decision: the answer is invalid: TypeError"),
        (sized(lambda d: Decision.Trial([ODD])), "mom_evaluate: the answer is invalid"),
        (sized(lambda d: Decision.Trial(ODD)), "mom_evaluate: the answer is invalid: TypeError"),
        (evaluator(lambda snapshot: HalfWay()), "mom_evaluate: ValueError: the rest is away"),
    ],
)
def test_an_invalid_answer_becomes_a_problem(tmp_path: Path, machine: Machine, bad: type, message: str) -> None:
    with engine_with(tmp_path, machine, evaluator(want(50)), bad=bad) as engine:
        report = engine.cycle()
        json_text(status_of(engine, report))
    assert statuses(report) == {"a": Status.APPLIED, "b": Status.APPLIED}
    assert any(message in problem.message for problem in report.problems if problem.source.name == "bad"), report.problems


def test_invalid_guests_are_left_out_of_the_list(cycle: OneCycle, machine: Machine) -> None:
    fine = Guest("a", "a")
    invalid: list[Any] = [replace(fine, name="twice"), "b"]
    machine.listing = lambda: [fine, *invalid, Guest("c", "web")]
    report = cycle(evaluator(want(50, "a")))
    assert [(guest.id, guest.name) for guest in report.snapshot.guests.values()] == [("a", "a"), ("c", "web")]
    assert statuses(report) == {"a": Status.APPLIED}
    assert len(report.problems) == len(invalid)


def test_invalid_fields_and_decisions_are_dropped_and_the_others_kept(cycle: OneCycle) -> None:
    report = cycle(evaluator(want(50)), bad=Rubbish)
    assert statuses(report) == {"a": Status.APPLIED, "b": Status.APPLIED}
    assert report.snapshot.host.fields == {"free": 1000, "fine": 1}
    assert [problem.source.name for problem in report.problems] == ["bad"] * 11


@pytest.mark.parametrize(
    ("value", "is_kept"),
    [
        (0, True), (None, True), (True, True), ((1 << 63) - 1, True), (1 << 63, False), (10**400, False), (math.nan, False),
        (-math.inf, False), ("5", False), (Decimal(5), False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("other", [7, math.inf, 1 << 62])
def test_a_number_is_kept_if_it_is_within_bounds(cycle: OneCycle, value: Any, is_kept: bool, other: float) -> None:
    rows = {"a": {"odd": value, "other": other}, "b": {"other": other, "odd": value}}
    report = cycle(collects=plugin_of(mom_declare=declaring("odd", "other"), mom_collect_guests=lambda self: rows))
    for guest in report.snapshot.guests.values():
        assert ("odd" in guest.fields) is is_kept
        assert guest.fields.get("other") == (None if other == math.inf else other)
    assert len(report.problems) == 2 * ((not is_kept) + (other == math.inf))


def test_columns_are_checked_and_joined_like_rows(cycle: OneCycle, machine: Machine) -> None:
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
    """Return a plugin that derives the fields `half` of guests and `all` of the host."""
    fields = [FieldSpec("half", Unit.KIB, Scope.GUEST, ""), FieldSpec("all", Unit.KIB, Scope.HOST, "")]
    return plugin_of(mom_declare=lambda self: fields, mom_derive=lambda self, snapshot: derive(snapshot))


def test_evaluators_get_derived_fields(tmp_path: Path, machine: Machine) -> None:
    def derive(snapshot: Snapshot) -> Snapshot.Derived:
        sizes = [size for size in snapshot.column("size") if isinstance(size, int)]
        return Snapshot.Derived({"all": sum(sizes)}, Columns({"half": [size // 2 for size in sizes], "stray": sizes}))

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


@pytest.mark.parametrize("wrong", [None, Snapshot.Derived(guests=Columns({"half": [1]}))])
def test_invalid_derived_fields_are_dropped(cycle: OneCycle, wrong: object) -> None:
    def fails(snapshot: Snapshot) -> object:
        raise ValueError("no law")

    report = cycle(wrong=deriving(lambda snapshot: wrong), fails=deriving(fails))
    assert dict(report.snapshot.guests["a"].fields) == {"size": 100}
    assert report.snapshot.host.fields == {"free": 1000}
    sources = [problem.source.name for problem in report.problems]
    assert sources.count("fails") == 1
    assert sources.count("wrong") == 1


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


BOTH, ONLY_B, A_ANEW = [("a", "1"), ("b", "1")], [("b", "1")], [("a", "2"), ("b", "1")]


@pytest.mark.parametrize(
    ("first", "second", "statuses_of"),
    [
        ([], BOTH, {"a": Status.APPLIED, "b": Status.APPLIED}),
        ([], [], {"a": Status.GONE, "b": Status.GONE}),
        (ONLY_B, [], {"a": Status.GONE, "b": Status.APPLIED}),
        (A_ANEW, BOTH, {"a": Status.APPLIED, "b": Status.APPLIED}),
        (ONLY_B, A_ANEW, {"a": Status.GONE, "b": Status.APPLIED}),
    ],
)
def test_a_restore_takes_a_guest_for_gone_only_if_two_lists_lack_it(
    tmp_path: Path,
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    first: list[tuple[str, str]],
    second: list[tuple[str, str]],
    statuses_of: dict[str, Status],
) -> None:
    def listing(guests: list[tuple[str, str]]) -> list[Guest]:
        return [Guest(name, name, incarnation=incarnation) for name, incarnation in guests]

    machine.listing = lambda: listing(BOTH)
    engine = engine_with(tmp_path, machine, evaluator(want(50)))
    engine.cycle()
    answers = [first]
    machine.listing = lambda: listing(answers.pop() if answers else second)
    monkeypatch.setattr(judgement, "WATCH_SECONDS", 0.01)
    assert {outcome.decision.entity.id: outcome.status for outcome in engine.close()} == statuses_of
    assert not Ledger.open(tmp_path / "state", look=True).entries


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
        unheard = {p.message for p in (*first.problems, *second.problems) if "calls" in p.message}
        assert unheard == {"mom calls no hook of this plugin for now: its call of mom_collect_host has not returned"}
        assert calls == ["mom_collect_host"]
        assert {p.name: p.state for p in second.plugins}["bad"] is PluginReport.State.HUNG
        release.set()
        (worker,) = (plugin.worker for plugin in engine.plugins.plugins if plugin.name == "bad")
        wait_until(lambda: not worker.hung_in)
        third = engine.cycle()
        assert {p.name: p.state for p in third.plugins}["bad"] is PluginReport.State.OK


def test_a_stop_does_not_wait_for_a_hung_plugin(tmp_path: Path, machine: Machine) -> None:
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


def test_a_hung_plugin_does_not_prevent_other_restores(tmp_path: Path, machine: Machine) -> None:
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
    assert came == {"weight": (Status.FAILED, "the hangs plugin has hung"), "size": (Status.APPLIED, "")}
    assert machine.sizes["a"] == 100


@pytest.mark.parametrize("hangs", [False, True])
def test_values_of_failed_writes_are_restored(tmp_path: Path, machine: Machine, hangs: bool) -> None:
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


def test_a_plugin_is_not_replaced_while_its_write_hangs(tmp_path: Path, machine: Machine) -> None:
    release = threading.Event()

    class Hangs(control_plugin(machine)):  # type: ignore[misc]  # a class made by a function
        @hookimpl
        def mom_write(self, changes: Sequence[Change]) -> None:
            release.wait(600)
            machine.sizes |= {change.entity.id: change.value for change in changes if isinstance(change.value, int)}

    def config(deadline: str) -> Config:
        plugins = {"machine": machine_plugin(machine), "size": Hangs, "e": evaluator(want(50, "a"))}
        return config_of(tmp_path, plugins, {"size": {"deadline": deadline}})

    with Engine(config("100ms")) as engine:
        assert statuses(engine.cycle()) == {"a": Status.FAILED}
        with pytest.raises(PluginError, match="a call of mom_write has not returned"):
            engine.reload(config("60s"))
        release.set()
        wait_until(lambda: machine.sizes["a"] == 50)
        wait_until(lambda: not any(one.worker.hung_in for one in engine.plugins.plugins))
        engine.reload(config("60s"))
    assert machine.sizes == {"a": 100, "b": 200}


def test_an_engine_starts_stops_and_starts_again(tmp_path: Path, machine: Machine) -> None:
    threads = set(threading.enumerate())
    engine = engine_with(tmp_path, machine, evaluator(want(50)))
    engine.stop()
    for _ in range(2):
        engine.start()
        with pytest.raises(MomError, match="running already"):
            engine.start()
        with pytest.raises(MomError, match=r"process \d+ .* holds"):
            engine_with(tmp_path, machine).open()
        wait_until(lambda: machine.sizes["a"] == 50)
        engine.stop()
        engine.stop(put_back=False)
        assert machine.sizes == {"a": 100, "b": 200}
        assert set(threading.enumerate()) <= threads
    assert statuses(engine.cycle()) == {"a": Status.APPLIED, "b": Status.APPLIED}
    engine.close()
    engine.stop()
    with engine:
        assert statuses(engine.cycle()) == {"a": Status.APPLIED, "b": Status.APPLIED}


def test_a_stop_raises_the_error_that_ended_the_engine(tmp_path: Path, machine: Machine) -> None:
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


def test_an_engine_that_does_not_end_in_time_cannot_start_again(tmp_path: Path, machine: Machine) -> None:
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


def test_a_reload_happens_between_cycles_in_the_thread_that_runs_them(tmp_path: Path, machine: Machine) -> None:
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


def test_a_reload_keeps_the_old_plugins_when_the_new_ones_are_wrong(tmp_path: Path, machine: Machine) -> None:
    with engine_with(tmp_path, machine, evaluator(want(50))) as engine:
        engine.cycle()
        plugins = {"machine": machine_plugin(machine), "bad": plugin_of(mom_setup=lambda self: 1 / 0)}
        with pytest.raises(MomError, match="plugin bad of test-bad 0: mom_setup failed: ZeroDivisionError"):
            engine.reload(config_of(tmp_path, plugins))
        machine.sizes["a"] = 60
        assert statuses(engine.cycle()) == {"a": Status.APPLIED, "b": Status.UNCHANGED}
        assert "size" in engine.plugins.declarations.controls


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


@pytest.mark.parametrize(("mode", "seconds"), [("enforce", 5.0), ("observe", 60.0)])
def test_the_longest_step_includes_restores_in_observe_mode(tmp_path: Path, machine: Machine, mode: str, seconds: float) -> None:
    with engine_with(tmp_path, machine, mode=mode) as engine:
        assert engine.longest_step == seconds


def test_a_reload_with_another_hypervisor_is_refused(tmp_path: Path, machine: Machine) -> None:
    other = Machine({"b": 50})
    other.uri = "test:///other"
    plugins = {"machine": machine_plugin(machine), "size": control_plugin(machine), "e": evaluator(want(50))}
    with Engine(config_of(tmp_path, plugins)) as engine:
        engine.cycle()
        with pytest.raises(MomError, match=r"test:///other while mom is running.*restart mom"):
            engine.reload(config_of(tmp_path, plugins | {"machine": machine_plugin(other)}))
        assert len(engine.cycle().outcomes) == 2
    assert machine.sizes == {"a": 100, "b": 200}


def test_a_hypervisor_is_torn_down_last(tmp_path: Path, machine: Machine) -> None:
    torn: list[str] = []

    def ends(name: str, plugin: Any) -> Any:
        return type(name, (plugin,), {"mom_teardown": hookimpl(lambda self: torn.append(name))})

    plugins = {"machine": ends("machine", machine_plugin(machine)), "size": ends("size", control_plugin(machine))}
    with Engine(config_of(tmp_path, plugins)) as engine:
        engine.cycle()
    assert torn == ["size", "machine"]


def test_an_error_of_a_reload_is_logged_and_ends_neither_engine_nor_stop(
    tmp_path: Path, machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    committed, loads = list[str](), list[int]()
    release, hangs = threading.Event(), threading.Event()

    def ends() -> None:
        raise SystemExit(5)

    def hang() -> None:
        hangs.set()
        release.wait(600)

    def load() -> Config:
        loads.append(1)
        raise ValueError("odd")

    commits = {"ends": ends, "good": lambda: committed.append("good"), "hangs": hang}
    plugins = {name: plugin_of(mom_reload=lambda self, commit=commit: commit) for name, commit in commits.items()}
    config = config_of(tmp_path, {"machine": machine_plugin(machine), **plugins}, {"hangs": {"deadline": "5m"}}, interval=0.05)
    engine = Engine(config)
    engine.start()
    try:
        engine.request_reload(load)
        wait_until(lambda: "mom could not apply the new configuration: ValueError: odd" in caplog.text)
        before = engine.number
        wait_until(lambda: engine.number > before + BROKEN_CYCLES)
        assert len(loads) == 1
        engine.request_reload(lambda: config)
        assert hangs.wait(60)
        began = time.monotonic()
    finally:
        engine.stop()
    assert time.monotonic() - began < 30
    assert committed == ["good"]
    assert "plugin ends of test-ends 0: the function that mom_reload returned failed: SystemExit: 5" in caplog.text
    release.set()


def test_a_reload_that_one_plugin_refuses_changes_nothing_and_may_be_repeated(tmp_path: Path, machine: Machine) -> None:
    committed: list[str] = []
    is_good = False

    def reload(self: object) -> Callable[[], None]:
        if not is_good:
            raise MomError("policy 50_x:3:1 is wrong")
        return lambda: committed.append("second")

    first, second = plugin_of(mom_reload=lambda self: lambda: committed.append("first")), plugin_of(mom_reload=reload)
    silent = plugin_of(mom_reload=lambda self: None)
    config = config_of(tmp_path, {"machine": machine_plugin(machine), "first": first, "silent": silent, "second": second})
    with Engine(config) as engine:
        for _ in range(FAILURES_BEFORE_SET_ASIDE + 1):
            with pytest.raises(MomError, match="policy 50_x:3:1 is wrong"):
                engine.reload(config)
        assert {plugin.state for plugin in engine.cycle().plugins} == {PluginReport.State.OK}
        assert committed == []
        is_good = True
        engine.reload(config)
    assert committed == ["first", "second"]


@pytest.mark.parametrize("serve", [True, False])
def test_a_start_in_observe_mode_restores_earlier_changes(tmp_path: Path, machine: Machine, *, serve: bool) -> None:
    plugins = {"machine": machine_plugin(machine), "size": control_plugin(machine), "e": evaluator(want(50))}
    engine = Engine(config_of(tmp_path, plugins))
    engine.cycle()
    engine.close(put_back=False)
    engine = Engine(config_of(tmp_path, plugins, mode="observe"), serve=serve)
    engine.cycle()
    engine.close(put_back=False)
    assert machine.sizes == ({"a": 100, "b": 200} if serve else {"a": 50, "b": 50}), "a program that only looks changes nothing"


def test_failed_restores_are_retried_in_observe_mode(tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
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
        ({"mom_colect_host": hookimpl(lambda self: {})}, "there is no hook mom_colect_host (see docs/hooks.md)"),
        ({"mom_collect_host": lambda self: {}}, "mom_collect_host is not marked as a hook (put @hookimpl above it)"),
        ({"mom_declare": hookimpl(lambda self: [ControlSpec("c", Unit.KIB, Scope.GUEST, "", "size")])}, "lacks mom_read or mom_write"),
        ({"__init__": lambda self, settings, context: 1 / 0}, "its constructor failed: ZeroDivisionError"),
    ],
)
def test_a_plugin_that_is_built_wrong_is_refused_with_its_name(tmp_path: Path, attributes: Mapping[str, Any], message: str) -> None:
    plugin = type("Wrong", (Base,), dict(attributes))
    with pytest.raises(MomError) as caught, Engine(config_of(tmp_path, {"wrong": plugin})):
        pass
    assert "plugin wrong of test-wrong 0" in str(caught.value)
    assert message in str(caught.value)


def test_tryfirst_precedes_the_yaml_order(tmp_path: Path, machine: Machine) -> None:
    def reviewer_of(size: int, *, first: bool) -> type:
        def mom_review(self: object, decisions: Sequence[Decision]) -> list[Revision]:
            return [Revision(one, replace(one, value=size), "by turn") for one in decisions if one.value != size]

        return type("Reviewer", (Base,), {"mom_review": hookimpl(tryfirst=first)(mom_review)})

    with engine_with(
        tmp_path, machine, evaluator(want(50)), plain=reviewer_of(60, first=False), eager=reviewer_of(70, first=True)
    ) as engine:
        report = engine.cycle()
    assert [revision.reviewer for revision in report.revisions[:1]] == ["eager"]


def test_of_equal_columns_and_metrics_those_of_the_first_plugin_count(tmp_path: Path, machine: Machine) -> None:
    def having(*columns: GuestColumn) -> type:
        return plugin_of(mom_declare=lambda self: columns)

    heat = GuestColumn("heat", ("size",), Unit.KIB, "heat", metric="acme_heat")
    remarks = GuestColumn(GuestColumn.REMARKS, ("size",), Unit.TEXT, "remarks")
    cold = replace(heat, name="cold")
    with engine_with(tmp_path, machine, ours=having(heat, remarks), theirs=having(replace(heat, metric=""), cold, remarks)) as engine:
        assert [*engine.plugins.declarations.guest_columns] == [heat, remarks, replace(cold, metric=""), remarks]


def test_a_column_whose_function_fails_is_unknown() -> None:
    assert GuestColumn("broken", (), Unit.KIB, "broken", made=lambda fields: 1 // 0).value({}) is None


def test_two_plugins_with_one_control_are_refused(tmp_path: Path, machine: Machine) -> None:
    with pytest.raises(MomError, match="the control size is declared by the plugins size and other"):
        engine_with(tmp_path, machine, other=control_plugin(machine)).open()


@pytest.mark.parametrize("hook", ["mom_setup", "mom_report"])
def test_a_hung_plugin_is_torn_down_after_its_call(tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch, hook: str) -> None:
    """Otherwise, its sockets, locks and threads would block its successor as long as mom runs."""
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


@pytest.mark.parametrize("refused", [False, True])
def test_a_late_plugin_does_not_write_its_successors_state_file(tmp_path: Path, *, refused: bool) -> None:
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
    """Service without effect."""

    def __init__(self) -> None:
        self.read = self.write = lambda: None


def texts_plugin(texts: object) -> type:
    return plugin_of(mom_services=lambda self: {} if texts is None else {Notes: texts})


def test_plugins_get_services_of_others_at_setup(tmp_path: Path) -> None:
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


def test_plugins_are_constructed_for_a_look_without_their_setup(tmp_path: Path, machine: Machine) -> None:
    broken = plugin_of(mom_declare=lambda self: 1 / 0, mom_setup=lambda self: 1 / 0)
    errors: list[PluginError] = []
    plugins = {"machine": machine_plugin(machine), "broken": broken, "unset": plugin_of(mom_setup=lambda self: 1 / 0)}
    with constructed(config_of(tmp_path, plugins), errors) as usable:
        assert [plugin.name for plugin in usable] == ["machine", "unset"]
        assert {spec.name for spec in usable[0].declared_as(FieldSpec)} == {"size", "free"}
    assert [error.plugin for error in errors] == ["broken"]
