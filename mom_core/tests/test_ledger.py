"""The ledger: what was written is what is read, a damaged file is set aside and said, and a failed write changes nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mom_core import Decision, Entity, LedgerEntry, LedgerError, Outcome, Scope, Status, Value
from mom_core.ledger import Ledger
from mom_core.model import ATTEMPTS_KEPT


def entry(
    name: str = "vm", control: str = "balloon_target", before: Value = 100, applied: Value = 50, incarnation: str = ""
) -> LedgerEntry:
    return LedgerEntry(Entity(Scope.GUEST, f"id-{name}", name), control, before, applied, "balloon", 12.5, incarnation)


def test_what_was_recorded_is_there_after_a_crash(tmp_path: Path) -> None:
    Ledger.open(tmp_path).record([entry('a "b"\n../é'), entry("c", before=1.5)])
    again = Ledger.open(tmp_path)
    assert list(again.entries.values()) == [entry('a "b"\n../é'), entry("c", before=1.5)]
    assert again.damage == ""


def test_only_what_is_applied_is_brought_up_to_date(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path)
    ledger.record([entry(before=100, applied=50)])
    ledger.record([entry(before=50, applied=40)])
    (there,) = Ledger.open(tmp_path).entries.values()
    assert (there.before, there.applied, there.earlier) == (100, 40, 50)
    assert [there.explains(value) for value in (100, 50, 40, 45, None, "40")] == [True, True, True, False, False, False]
    assert there.explains(44, tolerance=4)


def outcome(name: str, status: Status, value: int, after: int | None = None) -> Outcome:
    return Outcome(Decision(entry(name).entity, "balloon_target", value), None, after, status)


def test_what_was_refused_never_counts_as_set_by_mom(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path)
    ledger.record([entry("a", applied=50), entry("b", applied=50), entry("c", applied=50)])
    ledger.settle([outcome("a", Status.APPLIED, 50), outcome("b", Status.REFUSED, 50), outcome("c", Status.FAILED, 50)])
    assert {e.entity.name: e.applied for e in ledger.entries.values()} == {"a": 50, "c": 50}
    ledger.record([entry("a", applied=40)])
    ledger.settle([outcome("a", Status.REFUSED, 40)])
    assert ledger.entries["id-a", "balloon_target"] == entry("a", applied=50)
    ledger.record([entry("a", applied=40)])
    ledger.settle([outcome("a", Status.FAILED, 40, after=45)])
    assert ledger.entries["id-a", "balloon_target"].applied == 45


@given(
    st.lists(
        st.tuples(st.integers(0, 20), st.sampled_from(["applied", "lost", "lost and had", "late", "refused", "crash"]), st.booleans()),
        max_size=ATTEMPTS_KEPT,
    )
)
def test_whatever_was_asked_and_may_stand_can_be_put_back(asked: list[tuple[int, str, bool]]) -> None:
    """A command whose answer is lost takes effect, or takes it later, or does not; what is read back then may be from before it."""
    with TemporaryDirectory() as folder:
        ledger = Ledger.open(Path(folder))
        stands = 100
        late: list[int] = []
        for value, what, told in asked:
            before = stands
            ledger.record([entry("a", before=stands, applied=value)])
            if what == "crash":
                ledger = Ledger.open(Path(folder))
                continue
            if what in {"applied", "lost and had"}:
                stands = value
            if what == "late":
                late.append(value)
            status = {"applied": Status.APPLIED, "refused": Status.REFUSED}.get(what, Status.FAILED)
            ledger.settle([outcome("a", status, value, after=stands if status is Status.APPLIED else before if told else None)])
        for ours in (stands, *late):
            assert not ledger.entries or ledger.entries["id-a", "balloon_target"].explains(ours)
        assert ledger.entries or (stands == 100 and not late)
        ledger.record([entry("a", applied=1)])
        assert Ledger.open(Path(folder)).entries == ledger.entries


def test_what_failed_again_and_again_keeps_what_stands() -> None:
    one = entry(before=100, applied=50).next(40)
    for value in range(300, 340):
        one = one.failed(None).next(value)
    assert one.earlier == 50
    assert len(one.attempted) == ATTEMPTS_KEPT
    assert [one.explains(value) for value in (100, 50, 339, 338, 300)] == [True, True, True, True, False]


def test_a_change_that_fails_is_not_written_in_every_cycle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[str] = []
    monkeypatch.setattr("mom_core.ledger.replace_file", lambda path, text, durable: writes.append(text))
    ledger = Ledger.open(tmp_path)
    for _ in range(5):
        ledger.record([entry("a")])
        ledger.settle([outcome("a", Status.FAILED, 50)])
    assert len(writes) == 2, "that it failed is written, too"
    assert ledger.entries["id-a", "balloon_target"].attempted == (50,)
    ledger.settle([outcome("a", Status.APPLIED, 50)])
    assert ledger.entries["id-a", "balloon_target"] == entry("a")


def test_what_stands_already_stays_set_by_mom(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path)
    for status in (Status.APPLIED, Status.UNCHANGED, Status.UNCHANGED):
        ledger.record([entry("a", applied=50)])
        ledger.settle([outcome("a", status, 50)])
    assert ledger.entries["id-a", "balloon_target"] == entry("a", applied=50)


def test_a_decision_that_is_refused_every_cycle_is_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[str] = []
    monkeypatch.setattr("mom_core.ledger.replace_file", lambda path, text, durable: writes.append(text))
    ledger = Ledger.open(tmp_path)
    for time in range(5):
        ledger.record([replace(entry("a"), time=float(time))])
        ledger.settle([outcome("a", Status.REFUSED, 50)])
    assert len(writes) == 1


def test_another_incarnation_is_another_entry(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path)
    ledger.record([entry(before=100, applied=50, incarnation="1")])
    ledger.record([entry(before=300, applied=40, incarnation="2")])
    assert list(ledger.entries.values()) == [entry(before=300, applied=40, incarnation="2")]


def test_forgotten_entries_are_gone_from_the_disk(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path)
    ledger.record([entry("a"), entry("b")])
    ledger.forget([("id-a", "balloon_target"), ("nobody", "balloon_target")])
    assert list(Ledger.open(tmp_path).entries.values()) == [entry("b")]


def cut(text: str) -> str:
    return text[: len(text) // 2]


@pytest.mark.parametrize(
    "damage",
    [
        cut,
        lambda text: "",
        lambda text: text.replace("100", "900"),
        lambda text: "[]",
        lambda text: '{"version": 1}',
        lambda text: "[" * 9999,
    ],
    ids=["cut", "empty", "changed", "other", "incomplete", "deep"],
)
def test_a_damaged_ledger_is_set_aside_and_said(tmp_path: Path, damage: object) -> None:
    Ledger.open(tmp_path).record([entry()])
    path = tmp_path / "ledger.json"
    assert callable(damage)
    path.write_text(damaged := damage(path.read_text()))
    ledger = Ledger.open(tmp_path)
    assert ledger.entries == {}
    (aside,) = tmp_path.glob("ledger.damaged-*.json")
    assert aside.read_text() == damaged
    assert str(aside) in ledger.damage
    ledger.record([entry("b")])
    assert list(Ledger.open(tmp_path).entries.values()) == [entry("b")]


def test_a_ledger_of_a_later_version_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "ledger.json"
    path.write_text(text := json.dumps({"version": 2, "crc32": 0, "entries": []}))
    with pytest.raises(LedgerError, match="later mom"):
        Ledger.open(tmp_path)
    assert path.read_text() == text


def test_a_write_that_fails_changes_neither_the_file_nor_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger.open(tmp_path)
    ledger.record([entry("a")])

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(LedgerError, match="No space left on device"):
        ledger.record([entry("b")])
    assert list(ledger.entries.values()) == [entry("a")]
    assert ledger.write_error
    monkeypatch.undo()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ledger.json"]
    assert list(Ledger.open(tmp_path).entries.values()) == [entry("a")]
    ledger.record([entry("a")])
    assert ledger.write_error == ""


def test_the_file_is_not_for_everybody(tmp_path: Path) -> None:
    Ledger.open(tmp_path).record([entry()])
    assert (tmp_path / "ledger.json").stat().st_mode & 0o007 == 0


NAMES = st.sampled_from(["a", "b", "c"])


class LedgerMachine(RuleBasedStateMachine):
    """Against a dictionary, over any order of records, forgets, crashes and full disks."""

    @initialize()
    def start(self) -> None:
        import tempfile

        self.directory = Path(tempfile.mkdtemp(prefix="mom-ledger-"))
        self.ledger = Ledger.open(self.directory)
        self.model: dict[str, tuple[int, int]] = {}

    @rule(name=NAMES, before=st.integers(0, 9), applied=st.integers(0, 9))
    def record(self, name: str, before: int, applied: int) -> None:
        self.ledger.record([entry(name, before=before, applied=applied)])
        self.model[name] = (self.model.get(name, (before, 0))[0], applied)

    @rule(name=NAMES)
    def forget(self, name: str) -> None:
        self.ledger.forget([(f"id-{name}", "balloon_target")])
        self.model.pop(name, None)

    @rule()
    def crash(self) -> None:
        self.ledger = Ledger.open(self.directory)

    @rule(name=NAMES)
    def disk_full(self, name: str) -> None:
        with pytest.MonkeyPatch.context() as patch:

            def full(*args: object, **kwargs: object) -> None:
                raise OSError(28, "No space left on device")

            patch.setattr("mom_core.ledger.replace_file", full)
            with pytest.raises(LedgerError):
                self.ledger.record([entry(name + "-new")])

    @invariant()
    def memory_and_disk_agree_with_the_model(self) -> None:
        for ledger in (self.ledger, Ledger.open(self.directory)):
            assert {e.entity.name: (e.before, e.applied) for e in ledger.entries.values()} == self.model

    def teardown(self) -> None:
        import shutil

        shutil.rmtree(self.directory, ignore_errors=True)


TestLedgerMachine = LedgerMachine.TestCase
# Every step writes durably and reads back; these find a lost or wrong entry within the first few.
TestLedgerMachine.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
