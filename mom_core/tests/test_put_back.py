"""Whatever happens, in whatever order: what mom changed is put back or reported, and what others changed stays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mom_core import (
    Change,
    ControlSpec,
    Decision,
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
from mom_core.ledger import Ledger
from mom_core.state_files import GROWS_FROM
from mom_devkit import config_of

GRAIN = 8
"""The kernel keeps multiples of this."""

HIGHEST = 800
"""What mom sets is lower, and what others set is higher: so it is known whose a value is."""


class Crash(BaseException):
    """mom is killed."""


class Host:
    """Guests with one knob, and what becomes of the next commands: by default, they are carried out."""

    uri = "test:///"

    def __init__(self) -> None:
        self.sizes = {"a": 1000, "b": 1008}
        self.incarnations = {"a": "1", "b": "1"}
        self.fates: list[str] = []
        self.late: dict[str, int] = {}
        self.before_mom: dict[str, int] = {}
        """What stood there before mom changed it; of guests that mom has changed."""
        self.theirs: set[str] = set()
        """Guests that another process has set since mom last did."""
        self.doubt = False
        """Whether mom cannot know of a value that it is its own: it was killed, or a late command was rounded, which none has read back."""

    def guests(self) -> Sequence[Guest]:
        return [Guest(name, name, incarnation=self.incarnations[name]) for name in self.sizes]

    def set(self, name: str, value: int) -> None:
        """As mom has asked. An earlier command that is still on its way arrives first."""
        fate = self.fates.pop() if self.fates else "done"
        if name not in self.sizes:
            raise GuestGone("gone")
        if fate == "refused":
            raise Refused("not now")
        self.before_mom.setdefault(name, self.sizes[name])
        if fate == "failed":
            raise HypervisorError("no")
        if fate == "late":
            self.late[name] = value
            self.doubt = self.doubt or value % GRAIN > 0
            raise GuestBusy("no answer")
        self.arrive(name)
        self.become(name, value)
        if fate == "answer lost":
            raise GuestBusy("no answer")

    def arrive(self, name: str) -> None:
        if name in self.late:
            self.become(name, self.late.pop(name))

    def become(self, name: str, value: int) -> None:
        self.before_mom.setdefault(name, self.sizes[name])
        self.sizes[name] = value // GRAIN * GRAIN
        self.theirs.discard(name)


def plugin_of(host: Host, wanted: Mapping[str, int]) -> type:
    class Plugin:
        def __init__(self, settings: object, context: object) -> None: ...

        @hookimpl
        def mom_hypervisor(self) -> Host:
            return host

        @hookimpl
        def mom_fields(self) -> list[FieldSpec]:
            return [FieldSpec("size", Unit.KIB, Scope.GUEST, "size")]

        @hookimpl
        def mom_controls(self) -> list[ControlSpec]:
            return [ControlSpec("size", Unit.KIB, Scope.GUEST, "size", "size", 1, 10_000_000)]

        @hookimpl
        def mom_collect_guests(self, guests: Sequence[Guest]) -> dict[str, dict[str, Value]]:
            return {guest.id: {"size": host.sizes[guest.id]} for guest in guests}

        @hookimpl
        def mom_evaluate(self, snapshot: Snapshot) -> list[Decision]:
            return [Decision(guest.entity, "size", wanted[guest.id]) for guest in snapshot.guests.values() if guest.id in wanted]

        @hookimpl
        def mom_read(self, targets: Sequence[Target]) -> dict[Target, Value | HypervisorError]:
            gone = GuestGone("gone")
            return {target: host.sizes.get(target.entity.id, gone) for target in targets}

        @hookimpl
        def mom_write(self, changes: Sequence[Change]) -> dict[Target, HypervisorError]:
            errors = {}
            for change in changes:
                assert isinstance(change.value, int)
                try:
                    host.set(change.entity.id, change.value)
                except HypervisorError as error:
                    errors[change.target] = error
            return errors

    return Plugin


names = st.sampled_from(["a", "b"])


class PutBackMachine(RuleBasedStateMachine):
    """mom, the guests, other processes, a disk that is full at times, and crashes, in any order."""

    @initialize(grows_from=st.sampled_from([1, GROWS_FROM]))
    def begin(self, grows_from: int) -> None:
        self.size = patch("mom_core.state_files.GROWS_FROM", grows_from)
        self.size.start()
        self.folder = TemporaryDirectory()
        self.path = Path(self.folder.name)
        self.host = Host()
        self.wanted: dict[str, int] = {}
        self.theirs = 2000
        self.full = False
        self.crash_in: int | None = None
        self.patched = patch.object(StateFile, "write_change", self.written(StateFile.write_change))
        self.patched.start()
        self.open()

    def written(self, write: Callable[[StateFile, Any, Any], None]) -> Callable[[StateFile, Any, Any], None]:
        def wrapped(file: StateFile, change: Any, whole: Any) -> None:
            if self.full:
                raise StateError("no space left on device")
            count, self.crash_in = self.crash_in, None if self.crash_in is None else self.crash_in - 1
            if count == 0:
                raise Crash
            write(file, change, whole)
            if count == 1:
                raise Crash

        return wrapped

    def open(self) -> None:
        for (name, _), entry in Ledger.open(self.path / "state", look=True).entries.items():
            if self.host.incarnations[name] == entry.incarnation and name in self.host.sizes:  # mom may have changed it
                self.host.before_mom.setdefault(name, int(str(entry.before)))
        self.engine = Engine(config_of(self.path, {"one": plugin_of(self.host, self.wanted)}, stop_timeout=60.0))
        self.engine.open()

    def killed(self, what: Callable[[], object]) -> bool:
        """Whether mom was killed during this; then nothing is put back, and the ledger is all that is known."""
        try:
            what()
        except Crash:
            self.crash_in, self.host.doubt = None, True
            self.engine.close(put_back=False)
            return True
        return False

    @rule(decisions=st.dictionaries(names, st.integers(GRAIN, HIGHEST)))
    def cycle(self, decisions: dict[str, int]) -> None:
        self.wanted.clear()
        self.wanted.update(decisions)
        if self.killed(self.engine.cycle):
            self.open()

    @rule(fates=st.lists(st.sampled_from(["done", "refused", "failed", "answer lost", "late"]), max_size=3))
    def next_commands(self, fates: list[str]) -> None:
        self.host.fates = fates

    @rule(name=names)
    def a_late_command_takes_effect(self, name: str) -> None:
        if name in self.host.sizes:
            self.host.arrive(name)

    @rule(name=names)
    def another_process_sets_it(self, name: str) -> None:
        if name in self.host.sizes:
            self.theirs += 1000
            self.host.sizes[name] = self.theirs
            self.host.theirs.add(name)

    @rule(name=names)
    def a_guest_ends(self, name: str) -> None:
        self.host.sizes.pop(name, None)
        self.forget(name)

    @rule(name=names)
    def a_guest_is_started_anew(self, name: str) -> None:
        self.forget(name)
        self.host.incarnations[name] += "1"
        self.host.sizes[name] = 1000

    def forget(self, name: str) -> None:
        self.host.late.pop(name, None)
        self.host.before_mom.pop(name, None)
        self.host.theirs.discard(name)

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
        """A clean end, which may itself be cut off: then it is tried again, as `mom restore` does."""
        self.full, self.host.fates = False, []
        outcomes: list[Outcome] = []
        foreign = {name: self.host.sizes[name] for name in self.host.theirs}
        while self.killed(lambda: outcomes.extend(self.engine.close())):
            self.open()
        said = {outcome.decision.entity.id: outcome for outcome in outcomes}
        assert foreign == {name: self.host.sizes[name] for name in foreign}, "another process's change was undone"
        for name, before in list(self.host.before_mom.items()):
            if name in foreign:
                continue
            self.host.arrive(name)
            now, outcome = self.host.sizes[name], said.get(name)
            if now != before:
                assert outcome is not None, f"{name} was {before} before mom, is {now}, and nothing was said of it"
                assert outcome.status is Status.FAILED or (outcome.status is Status.LEFT_ALONE and self.host.doubt), outcome
                self.host.sizes[name] = before  # by hand, as it was told
        self.host.late.clear()
        self.host.before_mom.clear()
        self.host.theirs.clear()
        self.host.doubt = False
        assert not Ledger.open(self.path / "state", look=True).entries

    @invariant()
    def what_mom_never_touched_is_as_it_was(self) -> None:
        for name, size in self.host.sizes.items():
            assert name in self.host.before_mom or size >= 1000

    def teardown(self) -> None:
        if hasattr(self, "engine"):
            self.end()
            self.patched.stop()
            self.size.stop()
            self.folder.cleanup()


TestPutBack = PutBackMachine.TestCase
TestPutBack.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
