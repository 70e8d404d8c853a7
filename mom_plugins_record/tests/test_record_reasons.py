"""Why policies decided as they did, from a recording: in the words of the mom that ran, and not at all where that cannot be known."""

from __future__ import annotations

import inspect
import json
import random
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner
from test_record_recording import LIMITS, read

from mom_cli.explain import explain_command
from mom_core import Clock, Engine, MomError, Report, Value, hookimpl, load_config
from mom_plugins_record.recording import reader
from mom_plugins_record.recording.cycles import Key
from mom_plugins_record.recording.frames import START, Dictionary, FrameKind, Losses, pack, read_frames
from mom_plugins_record.recording.past import PastOf
from mom_plugins_record.recording.reader import Recording, session_content
from mom_plugins_record.recording.reasons import ReasonsAsked
from mom_plugins_record.recording.writer import KEY_EVERY, RecordingLimits, RecordingWriter, files_of
from mom_toolkit import PastCycle, PolicyTexts, ReasonedCycles, ReasonedPolicies

CONTROL = "balloon_target"
FOREVER = (float("-inf"), float("inf"))

REMEMBERS = """
(Host.Remember "n" (+ 1 (Host.Recall "n" 0)))
(with Guests g {
    (if (and (> (g.StatAvg "rss") 1) (< 0 (Host.Recall "n"))) (g.Control "balloon_target" (- g.balloon_max (Host.Recall "n"))) 0)
})
"""


class Made(NamedTuple):
    """A recording; why each guest had its size in each cycle, as the mom said that ran; and what its policies remembered after each."""

    folder: Path
    words: dict[tuple[int, str], str]
    memories: dict[int, Value]


def recorded(folder: Path, cycles: int, policy: Mapping[str, str] | None = None) -> Made:
    words: dict[tuple[int, str], str] = {}
    memories: dict[int, Value] = {}
    now = 0.0
    plugins = {
        "sim": {"guests": 6, "load": "5GiB", "load_after": "30s"},
        "policy": policy or {},
        "balloon": {},
        "ksm": {},
        "record": {"reserve": "0"},
    }
    document = {"state_directory": str(folder / "state"), "run_directory": str(folder / "run"), "plugins": plugins}
    with Engine(load_config(document), Clock(lambda: now, lambda: 1_700_000_000.0 + now)) as engine:
        reasoned = engine.service(ReasonedPolicies)
        policies = engine.service(PolicyTexts)
        assert reasoned is not None
        assert policies is not None
        reason = reasoned.reason
        for _ in range(cycles):
            now += 10.0
            report = engine.cycle()
            for guest in report.snapshot.guests:
                words[report.number, guest] = reason(report.number, guest, CONTROL)
            memories[report.number] = json.loads(json.dumps(policies.memory()))
    assert any(words.values())
    return Made(folder / "state" / "recording", words, memories)


def mine(folder: Path) -> dict[str, str]:
    """Settings of the plugin `policy` with a policy that remembers and looks back."""
    policy = folder / "50_mine.policy"
    policy.write_text(REMEMBERS)
    return {"file": str(policy)}


def cycle_of(past: PastOf, number: int) -> PastCycle:
    return next(cycle for cycle in past.cycles(*FOREVER) if cycle.report.number == number)


def told(past: PastOf, number: int) -> dict[tuple[int, str], str]:
    """What is said of each guest in one cycle."""
    cycle = cycle_of(past, number)
    return {(number, guest): past.reasons(cycle, guest, [CONTROL])[CONTROL] for guest in cycle.report.snapshot.guests}


def rewritten(
    folder: Path,
    made: Made,
    *,
    policies: Mapping[str, str] | None = None,
    memory: bool = True,
    first: int = 1,
    limits: RecordingLimits = LIMITS,
) -> Path:
    """The same recording from a cycle on: with other policies, in more files, or without what they remembered, as old ones are."""
    now = 0.0
    writer = RecordingWriter(folder, limits, wall=lambda: now)
    writer.open()
    for one in Recording(made.folder).cycles():
        if one.report.number >= first:
            now = one.report.time
            session = one.session if policies is None else replace(one.session, policies=policies)
            writer.session(session_content(session))
            writer.cycle(one.report, partial(made.memories.get, one.report.number) if memory else None)
    writer.close()
    return folder


@pytest.fixture(autouse=True)
def not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The recorder has asked no policy why, as in cycles in which that would take too long: here they are evaluated again."""
    monkeypatch.setattr(ReasonsAsked, "of", lambda *_: None)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ReasonsAsked, "of", lambda *_: None)
        return recorded(folder, 3 * KEY_EVERY, mine(folder))


CYCLES = (1, 2, 5, 29, 30, 31, 32, 45, 60, 61, 62, 75, 90)


@pytest.mark.long
@pytest.mark.parametrize("number", CYCLES)
def test_it_is_what_the_running_mom_said_with_what_policies_remember_and_look_back_at(made: Made, number: int) -> None:
    folder, words, _ = made
    past = PastOf(folder)
    assert isinstance(past, ReasonedCycles)
    found = told(past, number)
    assert found == {key: words[key] for key in found}
    assert all(text.endswith(f'0 is less than (Host.Recall "n") ({number})') for text in found.values())
    assert all(text.startswith('(g.StatAvg "rss") (') for text in found.values())


@pytest.mark.long
def test_it_is_what_the_running_mom_said_of_the_default_policies(tmp_path: Path) -> None:
    folder, words, _ = recorded(tmp_path, KEY_EVERY + 20)
    past = PastOf(folder)
    for number in (6, 15, 29, 33):  # cycles in which the default policies ask for sizes
        found = told(past, number)
        assert found == {key: words[key] for key in found}
        assert any(found.values())


def test_after_a_restart_it_is_known_from_the_second_cycle_on(tmp_path: Path) -> None:
    recorded(tmp_path, 5, mine(tmp_path))
    folder, words, _ = recorded(tmp_path, 5, mine(tmp_path))  # remembers what the first run of mom did
    second = Recording(folder).files[1]
    with pytest.raises(MomError, match="from an earlier run of mom is not in the recording"):
        told(PastOf(second), 1)
    assert told(PastOf(second), 2) == {key: text for key, text in words.items() if key[0] == 2}
    assert all(text.endswith("(7)") for text in told(PastOf(second), 2).values())


@pytest.mark.long
def test_where_the_recording_begins_later_it_is_known_as_soon_as_all_is_there_that_is_looked_back_at(made: Made, tmp_path: Path) -> None:
    words = made.words
    past = PastOf(rewritten(tmp_path / "r", made, first=25))
    for number in (25, 40, 55):  # what was remembered after cycle 25 is of no use without what was looked back at after it
        with pytest.raises(MomError, match="so shortly before that what the policies remembered is not in it"):
            told(past, number)
    found = told(past, 56)
    assert found == {key: words[key] for key in found}


@pytest.mark.long
def test_it_is_known_across_the_files_of_a_recording(made: Made, tmp_path: Path) -> None:
    (whole,) = files_of(made.folder)
    folder = rewritten(tmp_path / "r", made, limits=RecordingLimits(1e10, 4 * whole.stat().st_size))  # an eighth of that in each file
    assert len(files_of(folder)) >= 3
    past = PastOf(folder)
    begins = [next(Recording(path).cycles()).report.number for path in files_of(folder)]
    for number in (*begins, *(number + 1 for number in begins)):
        assert told(past, number) == {key: made.words[key] for key in made.words if key[0] == number}


def test_a_recording_without_what_policies_remembered_still_explains_the_rest(made: Made, tmp_path: Path) -> None:
    folder = rewritten(tmp_path / "r", made, memory=False)
    name = next(iter(cycle_of(PastOf(folder), 40).report.snapshot.guests.values())).name
    shown = CliRunner().invoke(explain_command, [name, "--recording", str(folder)])
    assert shown.exit_code == 0, shown.output
    assert "Why the policies decided so is not known: the recording begins, or lacks cycles, so shortly before" in shown.output
    assert "\nNow " in shown.output
    assert "\nWhy  " not in shown.output


def test_a_reason_is_shown_in_words_for_a_person(made: Made) -> None:
    folder, words, _ = made
    guest = next(iter(cycle_of(PastOf(folder), 90).report.snapshot.guests.values()))
    shown = CliRunner().invoke(explain_command, [guest.name, "--recording", str(folder)])
    assert shown.exit_code == 0, shown.output
    said = dict(line.split(None, 1) for line in shown.output.splitlines() if line.startswith("Why "))
    assert said == {"Why": f"{words[90, guest.id]}."}  # how wide the headings are depends on what else there is to say


def test_nothing_is_said_of_decisions_that_do_not_come_out_again(made: Made, tmp_path: Path) -> None:
    other = {"50_main_": REMEMBERS.replace("(- g.balloon_max (Host", "(- g.balloon_max 1 (Host")}
    past = PastOf(rewritten(tmp_path / "r", made, policies=other))
    cycle = cycle_of(past, 50)
    decided = {one.entity.id for one in cycle.report.decisions if one.control == CONTROL}
    assert decided
    for guest in decided:
        with pytest.raises(MomError, match="the policies decide something else for it"):
            past.reasons(cycle, guest, [CONTROL])


def test_no_plugin_is_set_up_but_the_one_that_takes_policies(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    set_up: list[str] = []

    def noted(name: str, real: Callable[..., None]) -> Callable[..., None]:
        def set_up_anew(*given: object, **named: object) -> None:
            set_up.append(name)
            real(*given, **named)

        set_up_anew.__signature__ = inspect.signature(real)  # type: ignore[attr-defined]  # where inspect looks for one
        return hookimpl(set_up_anew)

    for name, plugin in load_config({"plugins": {"policy": {}, "balloon": {}, "ksm": {}}}).plugins.items():
        kind = plugin.loaded.plugin_class
        monkeypatch.setattr(kind, "mom_setup", noted(name, vars(kind).get("mom_setup", lambda self: None)), raising=False)
    assert told(PastOf(made.folder), 3)
    assert set(set_up) == {"policy"}, "others may open sockets, and concern the host on which this runs"


def test_policies_that_cannot_be_used_here_are_said_to_be(made: Made, tmp_path: Path) -> None:
    past = PastOf(rewritten(tmp_path / "r", made, policies={"50_main_": "(with Guests"}))
    with pytest.raises(MomError, match="cannot be replayed"):
        told(past, 50)


@pytest.mark.long
def test_a_gap_before_it_makes_it_unknown_until_all_is_known_again(made: Made, tmp_path: Path) -> None:
    words = made.words
    folder = tmp_path / "r"
    folder.mkdir()
    (path,) = files_of(made.folder)
    with path.open("rb") as file:
        frames = list(read_frames(file, str(path), Losses()))
    number, kept = 0, [START]
    for frame in frames:
        number += frame.kind in (FrameKind.KEY, FrameKind.CYCLE)
        if not (frame.kind is FrameKind.CYCLE and number == 20):
            kept.append(pack(frame.kind, frame.number, frame.key, *unpacked(frame, frames)))
    (folder / path.name).write_bytes(b"".join(kept))
    past = PastOf(folder)
    assert [cycle.report.number for cycle in past.cycles(*FOREVER)] == [n for n in range(1, 91) if n != 20]
    assert told(past, 19)[19, next(iter(words))[1]].endswith("(19)")
    with pytest.raises(MomError, match="lacks cycles"):
        told(past, 21)
    assert all(text.endswith("(40)") for text in told(past, 40).values())


def unpacked(frame: Any, frames: list[Any]) -> tuple[Any, ...]:
    """A frame's body, and the dictionary with which it is packed."""
    if frame.kind is not FrameKind.CYCLE:
        return (frame.unpack(),)
    key = next(one for one in frames if one.number == frame.key)
    dictionary = Dictionary(key.unpack())
    return frame.unpack(dictionary), dictionary


@pytest.mark.parametrize("interval", [10**400, float("inf"), float("nan"), -1, "5s", None])
def test_an_interval_that_is_none_does_no_harm(made: Made, interval: Value) -> None:
    past = PastOf(made.folder)
    cycle = cycle_of(past, 50)
    host = replace(cycle.report.snapshot.host, properties={"interval": interval})
    forged = replace(cycle, report=replace(cycle.report, snapshot=replace(cycle.report.snapshot, host=host)))
    guest = next(iter(cycle.report.snapshot.guests))
    with suppress(MomError):  # with too short a one, not enough is looked at
        assert past.reasons(forged, guest, [CONTROL])[CONTROL] == made.words[50, guest]


@pytest.mark.parametrize("seed", range(6))
def test_what_was_before_is_left_out_unread_and_nothing_else(made: Made, tmp_path: Path, seed: int) -> None:
    chosen = random.Random(seed)  # noqa: S311  # the same each time
    (path,) = files_of(made.folder)
    content = bytearray(path.read_bytes())
    for _ in range(seed // 2):
        content[chosen.randrange(len(START), len(content))] ^= 0x10
    damaged = tmp_path / path.name
    damaged.write_bytes(content)
    every, _ = read(damaged)
    for since in (every[0].time, chosen.choice(every).time, chosen.choice(every).time + 1, every[-1].time + 1):
        found = [one.report for one in Recording(damaged).cycles(since)]
        assert found == [one for one in every if one.time >= since]


def test_cycles_that_nobody_wants_are_not_read(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = made.folder
    every, _ = read(folder)
    done: deque[int] = deque()
    real = reader.read_cycle

    def counted(body: bytes, key: Key, stored: int) -> tuple[Report, Key]:
        done.append(1)
        return real(body, key)

    monkeypatch.setattr(reader, "read_cycle", counted)
    assert len(list(Recording(folder).cycles(every[-3].time))) == 3
    assert len(done) < KEY_EVERY + 8


def test_an_evaluation_that_takes_too_long_or_breaks_costs_only_the_reason(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = made.folder
    name = next(iter(cycle_of(PastOf(folder), 90).report.snapshot.guests.values())).name

    def breaks(*_: object) -> Mapping[str, str]:
        raise RuntimeError("it\x1b[2J broke")

    monkeypatch.setattr(PastOf, "reasons", breaks)
    shown = CliRunner().invoke(explain_command, [name, "--recording", str(folder)])
    assert shown.exit_code == 0, shown.output
    assert "Why the policies decided so is not known: RuntimeError: it\\x1b[2J broke." in shown.output
    assert "\nNow " in shown.output
    held = threading.Event()
    monkeypatch.setattr("mom_cli.explain.REASON_SECONDS", 0.05)
    monkeypatch.setattr(PastOf, "reasons", lambda *_: held.wait(120))
    shown = CliRunner().invoke(explain_command, [name, "--recording", str(folder)])
    held.set()
    assert "is not known: evaluating its policies again did not end within 0.05 s" in shown.output
    assert "\nNow " in shown.output
