"""Why policies decided as they did, from a recording: in the words of the mom that ran, recorded at little cost."""

import json
import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner
from recordings import read, rewritten, simulated

from mom_core import Decision, Engine, Guest, Host, Report, Snapshot, Source
from mom_daemon.explain.verb import explain_command
from mom_kvm import PastCycle, PolicyTexts
from mom_plugins_record.recording.command import record
from mom_plugins_record.recording.cycles import Reasons, cycle_line
from mom_plugins_record.recording.reader import Recording
from mom_plugins_record.recording.reasons import LONGEST_SECONDS, SHARE, ReasonsAsked
from mom_plugins_record.recording.writer import GROUP, files_of, sizes_of

CONTROL = "balloon_target"
FOREVER = (float("-inf"), float("inf"))

REMEMBERS = """
(Host.Remember "n" (+ 1 (Host.Recall "n" 0)))
(with Guests g {
    (if (and (> (g.StatAvg "rss") 1) (< 0 (Host.Recall "n"))) (g.Control "balloon_target" (- g.balloon_max (Host.Recall "n"))) 0)
})
"""


class Made(NamedTuple):
    """A recording; and why each guest had its size in each cycle, as the mom said that ran."""

    folder: Path
    words: dict[tuple[int, str], str]


def recorded(folder: Path, cycles: int) -> Made:
    policy = folder / "50_mine.policy"
    policy.write_text(REMEMBERS)
    words: dict[tuple[int, str], str] = {}

    def listen(engine: Engine, report: Report) -> None:
        reasoned = engine.service(PolicyTexts)
        assert reasoned is not None
        words.update({(report.number, guest): reasoned.reason(report.number, guest, CONTROL) for guest in report.snapshot.guests})

    host = {"guests": 6, "load": "5GiB", "load_after": "30s"}
    simulated(folder, cycles, watch=listen, sim=host, policy={"file": str(policy)}, record={"reserve": "0"})
    assert all(words.values())
    return Made(folder / "state" / "recording", words)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    with pytest.MonkeyPatch.context() as patch:
        # All are asked, however slow this machine is at the moment.
        patch.setattr("mom_plugins_record.recording.plugin.ReasonsAsked", lambda: ReasonsAsked(spent=lambda: 0.0))
        return recorded(tmp_path_factory.mktemp("made"), 2 * GROUP)


def cycle_of(folder: Path, number: int) -> PastCycle:
    return next(cycle for cycle in Recording(folder).cycles(*FOREVER) if cycle.report.number == number)


@pytest.mark.parametrize("number", [1, 2, 29, 31, 40])
def test_why_is_told_as_the_running_mom_said_it(made: Made, number: int) -> None:
    cycle = cycle_of(made.folder, number)
    assert {guest: cycle.reasons_of(guest) for guest in cycle.report.snapshot.guests} == {
        guest: {CONTROL: made.words[number, guest]} for guest in cycle.report.snapshot.guests
    }


def test_a_reason_is_shown_in_words_for_a_person(made: Made) -> None:
    guest = next(iter(cycle_of(made.folder, 2 * GROUP).report.snapshot.guests.values()))
    shown = CliRunner().invoke(explain_command, [guest.name, "--recording", str(made.folder)])
    assert shown.exit_code == 0, shown.output
    said = dict(line.split(None, 1) for line in shown.output.splitlines() if line.startswith("Why "))
    assert said == {"Why": f"{made.words[2 * GROUP, guest.id]}."}  # how wide the headings are depends on what else there is to say


def test_where_it_was_not_recorded_the_rest_is_explained(made: Made, tmp_path: Path) -> None:
    rewritten(tmp_path / "r", Recording(made.folder).cycles())
    name = next(iter(cycle_of(tmp_path / "r", 40).report.snapshot.guests.values())).name
    shown = CliRunner().invoke(explain_command, [name, "--recording", str(tmp_path / "r")])
    assert shown.exit_code == 0, shown.output
    assert "Why the policies decided so was not recorded in this cycle." in shown.output
    assert "\nNow " in shown.output
    assert "\nWhy  " not in shown.output


def test_words_of_all_guests_cost_a_seventh_more_at_most(made: Made, tmp_path: Path) -> None:
    cycles = list(Recording(made.folder).cycles())[:40]
    reasons = {one.report.number: one.cycle.reasons for one in cycles}
    bare, worded = (sum(sizes_of(rewritten(tmp_path / name, cycles, said))) for name, said in (("without", None), ("with", reasons)))
    assert worded < 8 / 7 * bare


def test_reasons_that_make_no_sense_cost_their_cycle(made: Made, tmp_path: Path) -> None:
    one = next(Recording(made.folder).cycles())
    forged: list[object] = [{CONTROL: []}, {CONTROL: [5] * 6}, [CONTROL], {CONTROL: 7}, "why"]
    for place, reasons in enumerate(forged):
        folder = tmp_path / str(place)
        rewritten(folder, [one], {1: reasons})  # type: ignore[dict-item]  # as a program writes it that means harm
        recording = Recording(folder)
        assert list(recording.cycles()) == []
        assert recording.damage.cycles == 1


def test_tables_say_why_a_guest_got_what_it_got(made: Made, tmp_path: Path) -> None:
    done = CliRunner().invoke(record, ["export", str(made.folder), "--to", "parquet", "-o", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    import pandas as pd  # a second, in each process that only collects tests

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
        policies: Any = Policies(seconds)
        asked = ReasonsAsked(partial(getattr, policies, "spent"))
        said = [asked.of(report, policies, [CONTROL]) for report in cycles(20, "g7")]
        assert policies.spent <= SHARE * 5000 + LONGEST_SECONDS + 2 * seconds
        assert any(said)
        assert (None in said) == (20 * seconds > SHARE * 5.0)


def test_who_was_decided_about_is_asked_first_and_who_was_not_asked_is_not_said_to_have_no_reason() -> None:
    policies: Any = Policies(LONGEST_SECONDS)
    report = next(cycles(5, "g3"))
    said = ReasonsAsked(lambda: policies.spent).of(report, policies, [CONTROL])
    assert policies.asked == ["g3", "g0"]
    assert said == {CONTROL: ["g0 in 1", None, None, "g3 in 1", None]}


def test_guests_of_which_nothing_is_known_take_no_room() -> None:
    report = next(cycles(100, "g3"))

    class Silent(Policies):
        def reason(self, cycle: int, guest: str, control: str) -> str:
            return ""

    silent: Any = Silent(0.0)
    said: Reasons | None = ReasonsAsked(lambda: 0.0).of(report, silent, [CONTROL])
    assert said == {}
    assert json.loads(cycle_line(report, "", 0, said))["reasons"] == {}


@pytest.mark.parametrize("seed", range(6))
def test_what_was_before_is_left_out_unread_and_nothing_else(made: Made, tmp_path: Path, seed: int) -> None:
    chosen = random.Random(seed)  # noqa: S311  # the same each time
    (path,) = files_of(made.folder)
    content = bytearray(path.read_bytes())
    for _ in range(seed // 2):
        content[chosen.randrange(len(content))] ^= 0x10
    damaged = tmp_path / path.name
    damaged.write_bytes(content)
    every, _ = read(damaged)
    for since in (every[0].time, chosen.choice(every).time, chosen.choice(every).time + 1, every[-1].time + 1):
        found = [one.report for one in Recording(damaged).cycles(since)]
        assert found == [one for one in every if one.time >= since]
