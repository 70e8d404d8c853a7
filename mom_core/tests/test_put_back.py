"""After any sequence of events, mom's changes are restored or reported, and changes of others remain."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast
from unittest.mock import patch

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mom_core import (
    Change,
    ControlSpec,
    Decision,
    Declaration,
    Engine,
    FieldSpec,
    Guest,
    GuestBusy,
    GuestGone,
    HypervisorError,
    Outcome,
    Refused,
    Scope,
    Snapshot,
    StateError,
    StateFile,
    Status,
    Target,
    Unit,
    Value,
    hookimpl,
)
from mom_core.engine.judgement import Controller
from mom_core.ledger import Ledger
from mom_devkit import config_of

GRAIN = 8
"""The kernel rounds values to multiples of this."""

HIGHEST = 800
"""Limit that tells values apart: mom sets lower ones, and others set higher ones."""

SPEED = 100
"""Change of a guest's memory in a tenth of a second."""

SIZE, LIMITS, MEMORY = "size", "limits", "memory"
SPECS = {
    SIZE: ControlSpec(SIZE, Unit.KIB, Scope.GUEST, "a number that the kernel rounds", SIZE, 1, 10_000_000),
    LIMITS: ControlSpec(LIMITS, Unit.LIST, Scope.GUEST, "a list with an item for each disk", LIMITS, key="name"),
    MEMORY: ControlSpec(MEMORY, Unit.KIB, Scope.GUEST, "what the guest follows slowly", MEMORY, 1, 10_000_000, tolerance=60, gradual=50),
}
PARTS = {SIZE: ("",), LIMITS: ("x", "y"), MEMORY: ("",)}
"""Parts that are changed and restored separately: items of a list, or a whole control."""

Part = tuple[str, str, str]
"""Guest, control and item."""


def parts_of(guest: str, control: str, value: Value) -> dict[Part, int]:
    """Return the value of each part."""
    if control != LIMITS:
        assert isinstance(value, int)
        return {(guest, control, ""): value}
    assert isinstance(value, Sequence)
    return {(guest, control, str(item["name"])): item["limit"] for item in cast(Sequence[Mapping[str, int]], value)}


class Crash(BaseException):
    """Raised when mom is killed."""


class Host:
    """Guests with three controls, and results of the next commands; by default, commands succeed."""

    uri = "test:///"

    def __init__(self) -> None:
        self.incarnations = {"a": "1", "b": "1"}
        self.values: dict[Part, int] = {}
        self.asked: dict[str, int] = {}
        """Targets of guests' memory."""
        self.fates: list[str] = []
        self.late: dict[tuple[str, str], Value] = {}
        self.before_mom: dict[Part, int] = {}
        """Values before mom changed them."""
        self.theirs: set[Part] = set()
        """Values that another process has set since mom's last change."""
        self.doubt = False
        """Whether mom was killed. Then it cannot know for each value whether it has set it."""
        for name in self.incarnations:
            self.start(name)

    def start(self, name: str) -> None:
        self.end(name)
        self.values |= {(name, control, part): 1000 for control, parts in PARTS.items() for part in parts}
        self.asked[name] = 1000

    def end(self, name: str) -> None:
        """End a guest. Its values need not be restored."""
        for known in (self.values, self.before_mom):
            for part in [part for part in known if part[0] == name]:
                del known[part]
        self.asked.pop(name, None)
        self.theirs = {part for part in self.theirs if part[0] != name}
        self.late = {about: value for about, value in self.late.items() if about[0] != name}

    def guests(self) -> Sequence[Guest]:
        return [Guest(name, name, incarnation=self.incarnations[name]) for name in self.asked]

    def read(self, name: str, control: str) -> Value:
        if control == LIMITS:
            return [{"name": part, "limit": self.values[name, control, part]} for part in PARTS[control]]
        return self.values[name, control, ""]

    def set(self, name: str, control: str, value: Value) -> None:
        """Set a value as mom requested. An earlier, unfinished command arrives first."""
        fate = self.fates.pop() if self.fates else "done"
        if name not in self.asked:
            raise GuestGone("gone")
        if fate == "refused":
            raise Refused("not now")
        for part in parts_of(name, control, value):
            self.before_mom.setdefault(part, self.values[part])
        if fate == "failed":
            raise HypervisorError("no")
        if fate == "late":
            self.late[name, control] = value
            raise GuestBusy("no answer")
        self.arrive(name, control)
        self.become(name, control, value)
        if fate == "answer lost":
            raise GuestBusy("no answer")

    def arrive(self, name: str, control: str) -> None:
        if (name, control) in self.late:
            self.become(name, control, self.late.pop((name, control)))

    def become(self, name: str, control: str, value: Value) -> None:
        for part, number in parts_of(name, control, value).items():
            self.before_mom.setdefault(part, self.values[part])
            self.theirs.discard(part)
            if control == MEMORY:
                self.asked[name] = number
            else:
                self.values[part] = number // GRAIN * GRAIN if control == SIZE else number

    def become_theirs(self, part: Part, value: int) -> None:
        self.values[part] = value
        self.theirs.add(part)
        if part[1] == MEMORY:
            self.asked[part[0]] = value

    def pass_time(self, seconds: float) -> None:
        for name, asked in self.asked.items():
            now, step = self.values[name, MEMORY, ""], round(10 * seconds * SPEED)
            self.values[name, MEMORY, ""] = min(asked, now + step) if asked > now else max(asked, now - step)


def plugin_of(host: Host, wanted: Mapping[tuple[str, str], Value]) -> type:
    class Plugin:
        def __init__(self, settings: object, context: object) -> None: ...

        @hookimpl
        def mom_hypervisor(self) -> Host:
            return host

        @hookimpl
        def mom_declare(self) -> list[Declaration]:
            fields = [FieldSpec(spec.name, spec.unit, Scope.GUEST, spec.description) for spec in SPECS.values()]
            return [*fields, *SPECS.values()]

        @hookimpl
        def mom_collect_guests(self, guests: Sequence[Guest]) -> dict[str, dict[str, Value]]:
            return {guest.id: {control: host.read(guest.id, control) for control in SPECS} for guest in guests}

        @hookimpl
        def mom_evaluate(self, snapshot: Snapshot) -> list[Decision]:
            guests = snapshot.guests
            return [Decision(guests[name].entity, control, value) for (name, control), value in wanted.items() if name in guests]

        @hookimpl
        def mom_read(self, targets: Sequence[Target]) -> dict[Target, Value | HypervisorError]:
            there = [target for target in targets if target.entity.id in host.asked]
            return dict.fromkeys(targets, GuestGone("gone")) | {one: host.read(one.entity.id, one.control) for one in there}

        @hookimpl
        def mom_write(self, changes: Sequence[Change]) -> dict[Target, HypervisorError]:
            errors = {}
            for change in changes:
                try:
                    host.set(change.entity.id, change.control, change.value)
                except HypervisorError as error:
                    errors[change.target] = error
            return errors

    return Plugin


names = st.sampled_from(["a", "b"])
numbers = st.integers(GRAIN, HIGHEST)
limits = st.dictionaries(st.sampled_from(PARTS[LIMITS]), numbers, min_size=1)
lists = limits.map(lambda given: [{"name": name, "limit": limit} for name, limit in given.items()])
controls = st.fixed_dictionaries({}, optional={SIZE: numbers, LIMITS: lists, MEMORY: numbers})
parts = st.tuples(names, st.sampled_from([(control, part) for control, parts in PARTS.items() for part in parts]))


class PutBackMachine(RuleBasedStateMachine):
    """mom, guests, other processes, a sometimes full disk, and crashes in any order."""

    @initialize()
    def begin(self) -> None:
        self.folder = TemporaryDirectory()
        self.path = Path(self.folder.name)
        self.host = Host()
        self.wanted: dict[tuple[str, str], Value] = {}
        self.theirs = 2000
        self.full = False
        self.crash_in: int | None = None
        self.patched = patch.object(StateFile, "write", self.written(StateFile.write))
        self.patched.start()
        patient = lambda *plugin: replace(Controller(*plugin), sleep=self.host.pass_time)  # noqa: E731  # in the place of a class
        self.clock = patch("mom_core.engine.restore.Controller", patient)
        self.clock.start()
        self.open()

    def written(self, write: Callable[..., None]) -> Callable[..., None]:
        def wrapped(file: StateFile, *what: Any, **how: Any) -> None:
            if self.full:
                raise StateError("no space left on device")
            count, self.crash_in = self.crash_in, None if self.crash_in is None else self.crash_in - 1
            if count == 0:
                raise Crash
            write(file, *what, **how)
            if count == 1:
                raise Crash

        return wrapped

    def open(self) -> None:
        for (name, control), entry in Ledger.open(self.path / "state", look=True).entries.items():
            if self.host.incarnations[name] == entry.incarnation and name in self.host.asked:  # mom may have changed it
                for part, value in parts_of(name, control, entry.before).items():
                    if part in parts_of(name, control, entry.applied):
                        self.host.before_mom.setdefault(part, value)
        self.engine = Engine(config_of(self.path, {"one": plugin_of(self.host, self.wanted)}, stop_timeout=60.0))
        self.engine.open()

    def killed(self, what: Callable[[], object]) -> bool:
        """Return whether mom was killed. Then nothing is restored yet, and only the ledger remains."""
        try:
            what()
        except Crash:
            self.crash_in, self.host.doubt = None, True
            self.engine.close(put_back=False)
            return True
        return False

    @rule(decisions=st.dictionaries(names, controls))
    def cycle(self, decisions: dict[str, dict[str, Value]]) -> None:
        self.wanted.clear()
        self.wanted.update({(name, control): value for name, one in decisions.items() for control, value in one.items()})
        if self.killed(self.engine.cycle):
            self.open()

    @rule(fates=st.lists(st.sampled_from(["done", "refused", "failed", "answer lost", "late"]), max_size=3))
    def next_commands(self, fates: list[str]) -> None:
        self.host.fates = fates

    @rule(name=names, control=st.sampled_from(sorted(SPECS)))
    def a_late_command_takes_effect(self, name: str, control: str) -> None:
        self.host.arrive(name, control)

    @rule(seconds=st.floats(0, 2))
    def guests_follow(self, seconds: float) -> None:
        self.host.pass_time(seconds)

    @rule(part=parts)
    def another_process_sets_it(self, part: tuple[str, tuple[str, str]]) -> None:
        name, one = part
        if name in self.host.asked:
            self.theirs += 1000
            self.host.become_theirs((name, *one), self.theirs)

    @rule(name=names)
    def a_guest_ends(self, name: str) -> None:
        self.host.end(name)

    @rule(name=names)
    def a_guest_is_started_anew(self, name: str) -> None:
        self.host.start(name)
        self.host.incarnations[name] += "1"

    @rule(full=st.booleans())
    def disk(self, full: bool) -> None:
        self.full = full

    @precondition(lambda self: self.crash_in is None)
    @rule(writes=st.integers(0, 3))
    def crash_soon(self, writes: int) -> None:
        self.crash_in = writes

    @rule()
    def crash(self) -> None:
        self.host.doubt = True
        self.engine.close(put_back=False)
        self.open()

    @rule()
    def end_and_begin_again(self) -> None:
        self.end()
        self.open()

    def end(self) -> None:
        """End mom cleanly. If the end is interrupted, try again like `mom restore`."""
        self.full, self.host.fates = False, []
        outcomes: list[Outcome] = []
        foreign = {part: self.host.values[part] for part in self.host.theirs}
        while self.killed(lambda: outcomes.extend(self.engine.close())):
            self.open()
        said = {(outcome.decision.entity.id, outcome.decision.control): outcome for outcome in outcomes}
        for name, control in list(self.host.late):
            self.host.arrive(name, control)
        self.host.pass_time(60)
        assert foreign == {part: self.host.values[part] for part in foreign}, "another process's change was undone"
        for part, before in self.host.before_mom.items():
            if part in foreign:
                continue
            now, outcome = self.host.values[part], said.get(part[:2])
            if now != before:
                assert outcome is not None, f"{part} was {before} before mom, is {now}, and nothing was said of it"
                in_doubt = outcome.status is Status.LEFT_ALONE and self.host.doubt
                assert outcome.status is Status.FAILED or in_doubt, (part, before, now, outcome)
                self.host.become_theirs(part, before)  # by hand, as mom advised
        self.host.before_mom.clear()
        self.host.theirs.clear()
        self.host.doubt = False
        assert not Ledger.open(self.path / "state", look=True).entries

    @invariant()
    def what_mom_never_touched_is_as_it_was(self) -> None:
        for part, value in self.host.values.items():
            assert part in self.host.before_mom or value >= 1000

    def teardown(self) -> None:
        if hasattr(self, "engine"):
            self.end()
            self.patched.stop()
            self.clock.stop()
            self.folder.cleanup()


TestPutBack = pytest.mark.long(PutBackMachine.TestCase)
TestPutBack.settings = settings(stateful_step_count=20)


def cut_off(engine: Engine) -> None:
    """Kill mom in a cycle after it has written the ledger and before the change."""
    write = StateFile.write

    def killed(file: StateFile, *what: Any, **how: Any) -> None:
        write(file, *what, **how)
        raise Crash

    with patch.object(StateFile, "write", killed), pytest.raises(Crash):
        engine.cycle()
    engine.close(put_back=False)


@pytest.mark.parametrize("fate", ["", "failed"])
def test_a_value_set_by_another_process_after_a_restore_is_the_new_original(tmp_path: Path, fate: str) -> None:
    def both(size: int) -> dict[tuple[str, str], Value]:
        return {("a", SIZE): size, ("a", LIMITS): [{"name": "x", "limit": size}]}

    host, wanted = Host(), both(200)
    with Engine(config_of(tmp_path, {"one": plugin_of(host, wanted)})) as engine:
        engine.cycle()
        wanted.update(both(1000))
        engine.cycle()
        host.become_theirs(("a", SIZE, ""), 1600)
        host.become_theirs(("a", LIMITS, "x"), 1600)
        wanted.clear()
        engine.cycle()
        assert (host.read("a", SIZE), host.values["a", LIMITS, "x"]) == (1600, 1600)
        wanted.update(both(304))
        host.fates += [fate] * 2 if fate else []
        engine.cycle()
        assert (host.read("a", SIZE), host.values["a", LIMITS, "x"]) == ((1600, 1600) if fate else (304, 304))
    assert (host.read("a", SIZE), host.values["a", LIMITS, "x"]) == (1600, 1600)


def test_a_value_that_returned_to_an_earlier_one_is_moms(tmp_path: Path) -> None:
    """A guest returns to its size after a sweep, for example."""

    class Quick(Host):
        def become(self, name: str, control: str, value: Value) -> None:
            super().become(name, control, value)
            self.pass_time(1.0)

    host, wanted = Quick(), dict[tuple[str, str], Value]()
    config = config_of(tmp_path, {"one": plugin_of(host, wanted)})
    engine = Engine(config)
    for size in (500, 200):
        wanted["a", MEMORY] = size
        engine.cycle()
        assert host.read("a", MEMORY) == size
    host.become("a", MEMORY, 500)
    wanted["a", MEMORY] = 300
    cut_off(engine)
    with Engine(config):
        pass
    assert host.read("a", MEMORY) == 1000


def test_a_value_that_is_in_force_already_is_neither_set_nor_recorded(tmp_path: Path) -> None:
    host, wanted = Host(), dict[tuple[str, str], Value]({("a", control): 1000 for control in (SIZE, MEMORY)})
    with Engine(config_of(tmp_path, {"one": plugin_of(host, wanted)})) as engine:
        assert {outcome.status for outcome in engine.cycle().outcomes} == {Status.UNCHANGED}
        assert host.before_mom == {}
        assert not engine.state().changes


def test_a_stop_during_the_write_of_the_ledger_prevents_the_change(tmp_path: Path) -> None:
    host, wanted = Host(), dict[tuple[str, str], Value]({("a", SIZE): 200})
    with Engine(config_of(tmp_path, {"one": plugin_of(host, wanted)})) as engine:
        write = StateFile.write

        def stopped(file: StateFile, *what: Any, **how: Any) -> None:
            write(file, *what, **how)
            engine.stop()

        with patch.object(StateFile, "write", stopped):
            engine.cycle()
    assert host.before_mom == {}


def test_a_lost_control_does_not_prevent_other_restores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host, wanted = Host(), dict[tuple[str, str], Value]()
    wanted |= {("a", SIZE): 200, ("a", LIMITS): [{"name": "x", "limit": 200}]}
    engine = Engine(config_of(tmp_path, {"one": plugin_of(host, wanted)}))
    engine.cycle()
    engine.close(put_back=False)
    monkeypatch.delitem(SPECS, LIMITS)
    engine = Engine(config_of(tmp_path, {"one": plugin_of(host, wanted)}))
    engine.open()
    outcomes = {one.decision.control: (one.status, one.error) for one in engine.close()}
    assert outcomes == {SIZE: (Status.APPLIED, ""), LIMITS: (Status.FAILED, "the one plugin no longer has the control limits")}
    assert host.read("a", SIZE) == 1000
