"""Reasons that are in a recording: the words of the mom that ran, told without its policies, and recorded at little cost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from test_record_reasons import CONTROL, FOREVER, Made, mine, recorded, told

from mom_cli.explain import explain_command
from mom_core import Decision, Guest, Host, MomError, Report, Snapshot, Source
from mom_plugins_record.recording.command import record
from mom_plugins_record.recording.cycles import NO_KEY, Reasons, write_cycle
from mom_plugins_record.recording.past import PastOf
from mom_plugins_record.recording.reader import Recording, session_content
from mom_plugins_record.recording.reasons import LONGEST_SECONDS, SHARE, ReasonsAsked
from mom_plugins_record.recording.writer import RecordingLimits, RecordingWriter


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("made")
    return recorded(folder, 40, mine(folder))


@pytest.fixture
def no_policies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is evaluated again."""

    def evaluated(*_: object) -> None:
        raise AssertionError("policies are evaluated")

    monkeypatch.setattr("mom_plugins_record.replay.reasons.reasons_of", evaluated)


@pytest.mark.usefixtures("no_policies")
@pytest.mark.parametrize("number", [1, 2, 29, 31, 40])
def test_why_is_told_as_the_running_mom_said_it_without_evaluating_its_policies(made: Made, number: int) -> None:
    found = told(PastOf(made.folder), number)
    assert found == {key: made.words[key] for key in found}
    assert all(found.values())


@pytest.mark.usefixtures("no_policies")
def test_explain_says_why_where_what_policies_remembered_is_not_in_the_recording(made: Made, tmp_path: Path) -> None:
    writer = RecordingWriter(tmp_path / "r", RecordingLimits(1e10, 1 << 30))
    writer.open()
    every = list(Recording(made.folder).records())
    one = list(Recording(made.folder).cycles())[25]
    writer.session(session_content(one.session))
    writer.cycle(one.report, reasons=every[25][0].content["reasons"])
    writer.close()
    guest = next(iter(one.report.snapshot.guests.values()))
    shown = CliRunner().invoke(explain_command, [guest.name, "--recording", str(tmp_path / "r")])
    assert shown.exit_code == 0, shown.output
    assert f"{made.words[26, guest.id]}." in shown.output
    assert "is not known" not in shown.output


def test_words_of_all_guests_cost_a_seventh_more_at_most(made: Made, tmp_path: Path) -> None:
    sizes = []
    for name, with_words in (("with", True), ("without", False)):
        writer = RecordingWriter(tmp_path / name, RecordingLimits(1e10, 1 << 30))
        writer.open()
        for one, (line, session) in zip(Recording(made.folder).cycles(), Recording(made.folder).records(), strict=True):
            writer.session(session_content(session))
            writer.cycle(one.report, reasons=line.content["reasons"] if with_words else None)
        writer.close()
        sizes.append(writer.written)
    assert sizes[0] < 8 / 7 * sizes[1]


def test_a_recording_of_a_guests_reasons_that_makes_no_sense_costs_the_reason(made: Made, tmp_path: Path) -> None:
    one = next(Recording(made.folder).cycles())
    guest = next(iter(one.report.snapshot.guests))
    forged: list[object] = [{CONTROL: []}, {CONTROL: [5] * 6}, [CONTROL], {CONTROL: 7}, "why"]
    for place, reasons in enumerate(forged):
        writer = RecordingWriter(tmp_path / str(place), RecordingLimits(1e10, 1 << 30))
        writer.open()
        writer.session(session_content(one.session))
        writer.cycle(one.report, reasons=reasons)  # type: ignore[arg-type]  # as a program writes it that means harm
        writer.close()
        past = PastOf(tmp_path / str(place))
        (cycle,) = past.cycles(*FOREVER)
        with pytest.raises(MomError, match=r"does not make sense|where str belongs"):
            past.reasons(cycle, guest, [CONTROL])


def test_tables_say_why_a_guest_got_what_it_got(made: Made, tmp_path: Path) -> None:
    done = CliRunner().invoke(record, ["export", str(made.folder), "--to", "parquet", "-o", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    table = pd.read_parquet(tmp_path / "out" / "decisions.parquet")
    mine = table[(table["control"] == CONTROL) & (table["stage"] == "evaluation") & (table["source_line"] > 0)]
    assert len(mine) > 10
    assert list(mine["why"]) == [made.words[cycle, guest] for cycle, guest in zip(mine["cycle"], mine["guest_id"], strict=True)]


class Policies:
    """Says why, and takes its time."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.spent = 0.0
        self.asked: list[str] = []

    def reason(self, cycle: int, guest: str, control: str) -> str:
        self.spent += self.seconds
        self.asked.append(guest)
        return f"{guest} in {cycle}"


def cycles(guests: int, decided: str) -> Iterator[Report]:
    names = [f"g{number}" for number in range(guests)]
    for number in range(1, 1000):
        snapshot = Snapshot(Host("h"), {name: Guest(name, name) for name in names}, 5.0 * number, 5.0 * number, number)
        wanted = (Decision(Guest(decided, decided).entity, CONTROL, 1, "", Source("p", 1)),)
        yield Report(number, snapshot.time, "enforce", snapshot, wanted, (), (), (), (), 0.01)


def test_asking_takes_a_hundredth_of_the_time_however_long_one_answer_takes() -> None:
    for seconds in (1e-5, 1e-3, 0.05, 3.0):
        policies = Policies(seconds)
        asked = ReasonsAsked(partial(getattr, policies, "spent"))
        said = [asked.of(report, policies, [CONTROL]) for report in cycles(20, "g7")]
        assert policies.spent <= SHARE * 5000 + LONGEST_SECONDS + 2 * seconds
        assert any(said)
        assert (None in said) == (20 * seconds > SHARE * 5.0)


def test_who_was_decided_about_is_asked_first_and_who_was_not_asked_is_not_said_to_have_no_reason() -> None:
    policies = Policies(LONGEST_SECONDS)
    report = next(cycles(5, "g3"))
    said = ReasonsAsked(lambda: policies.spent).of(report, policies, [CONTROL])
    assert policies.asked == ["g3", "g0"]
    assert said == {CONTROL: ["g0 in 1", None, None, "g3 in 1", None]}


def test_guests_of_which_nothing_is_known_take_no_room() -> None:
    report = next(cycles(100, "g3"))

    class Silent(Policies):
        def reason(self, cycle: int, guest: str, control: str) -> str:
            return ""

    said: Reasons | None = ReasonsAsked(lambda: 0.0).of(report, Silent(0.0), [CONTROL])
    assert said == {}
    assert json.loads(write_cycle(report, NO_KEY, said)[0])["reasons"] == {}
