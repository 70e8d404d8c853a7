"""Whatever a recording holds, `record show`, `replay`, `plot` and `explain` give an answer or say what is wrong, soon and in little memory.

The inputs are sound recordings that were changed: bytes, lines behind right checksums, and JSON within these.
`MOM_FUZZ=N` takes N inputs instead of the few that a run of all tests can afford.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from test_record_hostile import everybody_reads, forged, group
from test_record_recording import LIMITS, SESSION, simulated

from mom_core import ControlSpec, FieldSpec, MomError, Scope, Unit
from mom_plugins_record.plot.command import plot
from mom_plugins_record.recording.command import record
from mom_plugins_record.recording.groups import MARK, RecordingFile
from mom_plugins_record.recording.writer import RecordingWriter, files_of
from mom_plugins_record.replay.command import replay

INPUTS = int(os.environ.get("MOM_FUZZ", "24"))

LONGEST_SECONDS = 2.0
"""Of CPU time for one verb, pictures apart."""


@pytest.fixture(scope="module")
def groups(tmp_path_factory: pytest.TempPathFactory) -> Sequence[Sequence[bytes]]:
    """The lines of a sound recording of a host under pressure, by groups."""
    reports = simulated(tmp_path_factory.mktemp("simulated"), 34, guests=6)
    folder = tmp_path_factory.mktemp("sound") / "r"
    writer = RecordingWriter(folder, LIMITS)
    writer.open()
    fields = tuple(FieldSpec(name, Unit.KIB, Scope.GUEST, "x") for name in ("balloon_cur", "balloon_max", "mem_usable", "rss"))
    configuration: dict[str, Any] = {"interval": "10s", "plugins": {"policy": {}, "balloon": {}}, "guests": {}}
    policy = "(with Guests g (if (> g.balloon_cur 1) (g.Control 'balloon_target' (* g.balloon_cur 0.9)) 0))"
    control = ControlSpec("balloon_target", Unit.KIB, Scope.GUEST, "b", "balloon_cur", 0)
    session = replace(SESSION, configuration=configuration, policies={"50_main_": policy}, fields=fields, controls=(control,))
    writer.session(session)
    for report in reports:
        writer.cycle(report, lambda: {"notes": {"a": [1, 2, {"b": "c"}]}})
    writer.close()
    (path,) = files_of(folder)
    with closing(RecordingFile(path)) as file:
        return [[*file.lines(number)] for number in range(file.groups)]


def flipped(content: bytes, chosen: random.Random) -> bytes:
    """The same with a few bytes changed, taken out or put in."""
    changed = bytearray(content)
    for _ in range(chosen.choice((1, 1, 2, 5, 20))):
        at = chosen.randrange(len(changed) + 1)
        what = chosen.random()
        if what < 0.5 and at < len(changed):
            changed[at] = chosen.choice((0, 1, 0x7F, 0x80, 0xFF, changed[at] ^ 1 << chosen.randrange(8)))
        elif what < 0.75:
            del changed[at : at + chosen.choice((1, 1, 4, 40))]
        else:
            changed[at:at] = chosen.choice((b"\x00", b"\xff" * 5, MARK, bytes(changed[at : at + 30]), b"[" * 40, b'"\\ud800"'))
    return bytes(changed)


Groups = Sequence[Sequence[bytes]]


def changed_bytes(groups: Groups, chosen: random.Random) -> bytes:
    return flipped(b"".join(group(*lines) for lines in groups), chosen)


def changed_line(groups: Groups, chosen: random.Random) -> bytes:
    return _with_one_line(groups, flipped, chosen)


def changed_json(groups: Groups, chosen: random.Random) -> bytes:
    return _with_one_line(groups, forged, chosen)


def _with_one_line(groups: Groups, change: Callable[[bytes, random.Random], bytes], chosen: random.Random) -> bytes:
    which = chosen.choice([text for lines in groups for text in lines])
    return b"".join(group(*(change(text, chosen) if text is which else text for text in lines)) for lines in groups)


def changed_order(groups: Groups, chosen: random.Random) -> bytes:
    """Lines that are left out, doubled, or in another order, and false marks between groups."""
    content = b""
    for lines in groups:
        shuffled = list(lines)
        for _ in range(3):
            i, j = chosen.randrange(len(shuffled)), chosen.randrange(len(shuffled))
            shuffled[i], shuffled[j] = chosen.choice(((shuffled[j], shuffled[i]), (shuffled[i], shuffled[i])))
        content += group(*(text for text in shuffled if chosen.random() < 0.9)) + chosen.choice((b"", MARK, MARK + bytes(1 << 16)))
    return content


CHANGES: Sequence[Callable[[Groups, random.Random], bytes]] = (changed_bytes, changed_line, changed_json, changed_order)


def answers(result: Result) -> bool:
    """Whether a verb has ended as it should: with an answer, or an error that says what is wrong."""
    return result.exception is None or isinstance(result.exception, MomError | SystemExit)


@pytest.mark.long
@pytest.mark.parametrize("turn", range(INPUTS))
def test_every_changed_recording_is_answered(groups: Groups, tmp_path: Path, turn: int) -> None:
    chosen = random.Random(turn)  # noqa: S311  # the same each time
    path = tmp_path / "changed.momrec"
    path.write_bytes(CHANGES[turn % len(CHANGES)](groups, chosen))
    everybody_reads(path)
    export = ["export", str(path), "--to", "csv", "-o", str(tmp_path / "tables")]
    verbs = [(record, ["show", str(path)]), (replay, [str(path), "--json"]), (record, export)]
    for verb, arguments in verbs:
        began = time.process_time()
        result = CliRunner().invoke(verb, arguments)
        assert answers(result), f"{verb.name}: {result.exception!r}"
        assert time.process_time() - began < LONGEST_SECONDS, verb.name
    if turn % 20 < len(CHANGES):
        assert answers(CliRunner().invoke(plot, [str(path), "-o", str(tmp_path / "a.svg")]))
