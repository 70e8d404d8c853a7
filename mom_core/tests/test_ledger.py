"""The ledger: entries survive, a damaged file is set aside and reported, and a failed write changes nothing."""

import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mom_core import Decision, Entity, LedgerEntry, Outcome, Scope, StateError, StateFile, Status, Value
from mom_core.ledger import Ledger, can_be_kept


def entry(
    name: str = "vm", control: str = "balloon_target", before: Value = 100, applied: Value = 50, incarnation: str = ""
) -> LedgerEntry:
    return LedgerEntry(Entity(Scope.GUEST, f"id-{name}", name), control, before, applied, "balloon", 12.5, incarnation)


def in_doubt(name: str = "vm", before: Value = 100, applied: Value = 50, incarnation: str = "") -> LedgerEntry:
    """Return an entry for a change that may not be done yet."""
    return entry(name, before=before, applied=applied, incarnation=incarnation)._replace(in_doubt=True)


def outcome(name: str, status: Status, value: int, after: Value = None) -> Outcome:
    return Outcome(Decision(entry(name).entity, "balloon_target", value), None, after, status)


A = ("id-a", "balloon_target")
"""Key of `entry("a")`."""


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.open(tmp_path)


def fill_the_disk(patch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    patch.setattr("mom_core.state_files.replace_file", full)


STANDING = st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-5, 5) | st.just(1 << 70) | st.text("aé\ud800", max_size=2)


@given(st.lists(st.tuples(STANDING, STANDING, st.sampled_from(["incarnation", *Status])), min_size=1, max_size=6))
def test_any_sequence_of_entries_is_read_back(steps: list[tuple[Value, Value, str]]) -> None:
    """Steps do not affect each other."""
    with TemporaryDirectory() as folder:
        ledger = Ledger.open(Path(folder))
        for number, (before, applied, what) in enumerate(steps):
            ledger.record([entry("a", before=before, applied=applied, incarnation=str(number) if what == "incarnation" else "")])
            if what != "incarnation":
                ledger.settle([replace(outcome("a", Status(what), 0), decision=Decision(entry("a").entity, "balloon_target", applied))])
            ledger.record([entry("b", before=number)])
            there = Ledger.open(Path(folder)).entries
            assert repr(sorted(there.items())) == repr(sorted(ledger.entries.items())).replace("\\ud800", "\ufffd")


@pytest.mark.parametrize(
    ("status", "value", "still"),
    [
        (Status.UNCHANGED, 50, False),  # the last mom has set it, but could not confirm it
        (Status.UNCHANGED, 40, True),
        (Status.APPLIED, 50, False),
        (Status.APPLIED, 40, True),
        (Status.FAILED, 50, True),
        (Status.REFUSED, 50, True),
        (Status.OBSERVED, 50, True),
    ],
)
def test_a_doubt_ends_only_with_the_value_in_place(ledger: Ledger, tmp_path: Path, status: Status, value: int, still: bool) -> None:
    ledger.record([entry("a", applied=50)])
    ledger = Ledger.open(tmp_path)
    ledger.settle([outcome("a", status, value)])
    assert ledger.entries[A] == (in_doubt("a") if still else entry("a", applied=50))


def test_a_full_disk_after_a_rounded_change_leaves_it_in_doubt(ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger.record([entry("a", applied=50)])
    with monkeypatch.context() as patch:
        fill_the_disk(patch)
        ledger.settle([outcome("a", Status.APPLIED, 50, after=48)])
    assert "No space left on device" in ledger.file.write_error
    for one in (ledger, Ledger.open(tmp_path)):
        assert one.entries[A].explains(48)
    ledger.record([])
    assert Ledger.open(tmp_path).entries == ledger.entries
    assert ledger.file.write_error == ""


@pytest.mark.parametrize(
    ("before", "earlier", "applied", "ours", "not_ours"),
    [
        (64, None, 50, (64, 50, 56, 48, 37), (36, 65, None, "50")),
        (64, 32, 50, (64, 32, 50, 56, 48), (31, 68)),
        (0, None, 1, (0, 1), (2, -1)),
        ("a", None, "b", ("a",), ("c", 3)),
    ],
)
def test_a_change_in_doubt_explains_what_a_kernel_may_have_made_of_it(
    before: Value, earlier: Value, applied: Value, ours: tuple[Value, ...], not_ours: tuple[Value, ...]
) -> None:
    doubtful = in_doubt(before=before, applied=applied)._replace(earlier=earlier)
    assert [value for value in (*ours, *not_ours) if doubtful.explains(value)] == [*ours]
    certain = doubtful.succeeded(applied)
    assert [value for value in (*ours, *not_ours) if certain.explains(value)] == [v for v in ours if v in (before, earlier, applied)]


def test_a_doubt_ends_with_what_stands_when_mom_looks_again(tmp_path: Path) -> None:
    Ledger.open(tmp_path).record([entry(name, before=64, applied=50) for name in ("rounded", "another's", "unknown")])
    ledger = Ledger.open(tmp_path)
    ledger.resolve(lambda one: {"rounded": 48, "another's": 20}.get(one.entity.name))
    ledger.record([])
    found = {one.entity.name: (one.found, one.in_doubt) for one in Ledger.open(tmp_path).entries.values()}
    assert found == {"rounded": (48, False), "another's": (None, False), "unknown": (None, True)}


def test_a_ledger_of_a_later_version_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "ledger.json"
    StateFile(path, "a later ledger", list, version=2).write([])
    text = path.read_text()
    with pytest.raises(StateError, match="newer mom"):
        Ledger.open(tmp_path)
    assert path.read_text() == text


def test_who_only_looks_at_a_damaged_ledger_says_so_and_leaves_it(tmp_path: Path) -> None:
    (tmp_path / "ledger.json").write_text("{")
    assert "is damaged" in Ledger.open(tmp_path, look=True).file.damage
    StateFile(tmp_path / "ledger.json", "the ledger", dict).write({})
    assert "its content is invalid" in Ledger.open(tmp_path, look=True).file.damage
    assert [path.name for path in tmp_path.iterdir()] == ["ledger.json"]


@pytest.mark.parametrize(
    ("field", "value"), [("id", 5), ("scope", "x"), ("time", True), ("attempted", {}), ("in_doubt", 0), ("plugin", None)]
)
def test_an_entry_of_other_types_is_damage(tmp_path: Path, field: str, value: Value) -> None:
    Ledger.open(tmp_path).record([entry()])
    path = tmp_path / "ledger.json"
    content = json.loads(path.read_text())["content"]
    content[0][field] = value
    StateFile(path, "the ledger", list).write(content)
    assert Ledger.open(tmp_path, look=True).file.damage


@pytest.mark.parametrize(
    "value", [float("nan"), 10**5000, object(), "x" * 10**5, ["x" * 10**5]], ids=["nan", "huge", "any", "long", "large"]
)
@pytest.mark.parametrize("status", [Status.APPLIED, Status.FAILED])
def test_an_answer_that_no_file_can_hold_does_no_harm(ledger: Ledger, tmp_path: Path, value: Value, status: Status) -> None:
    assert not can_be_kept(value)
    ledger.record([entry("a", applied=50)])
    ledger.settle([outcome("a", status, 50, after=value)])
    assert ledger.entries[A].found is None
    ledger.record([entry("b")])
    assert {one.entity.name for one in Ledger.open(tmp_path).entries.values()} == {"a", "b"}


def test_a_reboot_ends_changes_of_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    boot = tmp_path / "boot_id"
    monkeypatch.setattr("mom_core.ledger.BOOT_ID", boot)
    of_host = entry("host", "ksm_run", 0, 1)._replace(entity=Entity(Scope.HOST, "host", "host"))
    ledger = Ledger.open(tmp_path)  # the boot ID is unknown
    ledger.record([of_host, entry("a")])
    boot.write_text("one\n")
    ledger = Ledger.open(tmp_path)
    assert {one.control: one.incarnation for one in ledger.entries.values()} == {"ksm_run": "one", "balloon_target": ""}
    ledger.record([entry("b")])
    assert len(Ledger.open(tmp_path).entries) == 3
    boot.write_text("two\n")
    assert {one.entity.name for one in Ledger.open(tmp_path, look=True).entries.values()} == {"a", "b"}
