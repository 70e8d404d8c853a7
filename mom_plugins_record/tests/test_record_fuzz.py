"""Whatever a recording holds, `record show`, `replay`, `plot` and `explain` give an answer or say what is wrong, soon and in little memory.

The inputs are sound recordings that were changed: bytes, whole frames with right checksums around wrong bodies, and JSON within these.
`MOM_FUZZ=N` takes N inputs instead of the few that a run of all tests can afford.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import zstandard
from click.testing import CliRunner, Result
from test_record_hostile import everybody_reads, forged
from test_record_recording import LIMITS, SESSION, simulated

from mom_core import MomError
from mom_plugins_record.plot.command import plot
from mom_plugins_record.recording.command import record
from mom_plugins_record.recording.frames import HEADER, MARK, START, Dictionary, FrameKind, Losses, checksum, pack, read_frames
from mom_plugins_record.recording.reader import session_content
from mom_plugins_record.recording.writer import RecordingWriter, files_of
from mom_plugins_record.replay.command import replay

INPUTS = int(os.environ.get("MOM_FUZZ", "24"))

LONGEST_SECONDS = 2.0
"""Of CPU time for one verb, pictures apart."""


@dataclass(frozen=True)
class Piece:
    """A frame of a sound recording, with its body as it is and what it was packed with."""

    kind: FrameKind
    number: int
    key: int
    body: bytes
    dictionary: Dictionary | None

    def packed(self, body: bytes | None = None) -> bytes:
        return pack(self.kind, self.number, self.key, self.body if body is None else body, self.dictionary)


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> Sequence[Piece]:
    """A recording of a host under pressure, of two keys and the cycles between them."""
    reports = simulated(tmp_path_factory.mktemp("simulated"), 34, guests=6)
    folder = tmp_path_factory.mktemp("sound") / "r"
    writer = RecordingWriter(folder, LIMITS)
    writer.open()
    plugins: dict[str, Any] = {"policy": {}, "balloon": {}}
    content: dict[str, Any] = {**session_content(SESSION), "configuration": {"interval": "10s", "plugins": plugins, "guests": {}},
               "policies": {"50_main_": "(with Guests g (if (> g.balloon_cur 1) (g.Control 'balloon_target' (* g.balloon_cur 0.9)) 0))"},
               "fields": [[name, "KiB", "guest", "x", ""] for name in ("balloon_cur", "balloon_max", "mem_usable", "rss")],
               "controls": [["balloon_target", "KiB", "guest", "b", "balloon_cur", 0, None]]}  # fmt: skip
    writer.session(content)
    for report in reports:
        writer.cycle(report, lambda: {"notes": {"a": [1, 2, {"b": "c"}]}})
    writer.close()
    (path,) = files_of(folder)
    found = []
    keys: dict[int, Dictionary] = {}
    with path.open("rb") as source:
        for frame in read_frames(source, str(path), Losses()):
            dictionary = keys.get(frame.key) if frame.kind is FrameKind.CYCLE else None
            body = frame.unpack(dictionary)
            if frame.kind is FrameKind.KEY:
                keys[frame.number] = Dictionary(body)
            found.append(Piece(frame.kind, frame.number, frame.key, body, dictionary))
    return found


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


def changed_bytes(pieces: Sequence[Piece], chosen: random.Random) -> bytes:
    return flipped(START + b"".join(piece.packed() for piece in pieces), chosen)


def changed_body(pieces: Sequence[Piece], chosen: random.Random) -> bytes:
    which = chosen.randrange(len(pieces))
    return START + b"".join(piece.packed(flipped(piece.body, chosen) if i == which else None) for i, piece in enumerate(pieces))


def changed_json(pieces: Sequence[Piece], chosen: random.Random) -> bytes:
    which = chosen.randrange(len(pieces))
    piece = pieces[which]
    return START + b"".join(one.packed(forged(one.body, chosen) if one is piece else None) for one in pieces)


def changed_frames(pieces: Sequence[Piece], chosen: random.Random) -> bytes:
    """Frames that are left out, doubled, in another order, of another kind, or with false headers between them."""
    content = bytearray(START)
    shuffled = list(pieces)
    for _ in range(3):
        i, j = chosen.randrange(len(shuffled)), chosen.randrange(len(shuffled))
        shuffled[i], shuffled[j] = chosen.choice(((shuffled[j], shuffled[i]), (shuffled[i], shuffled[i])))
    for piece in shuffled:
        if chosen.random() < 0.9:
            content += piece.packed()
        if chosen.random() < 0.1:
            kind, number, key, size = (
                chosen.choice(list(FrameKind)),
                chosen.randrange(1 << 32),
                chosen.randrange(60),
                chosen.randrange(1 << 32),
            )
            packed = zstandard.compress(chosen.choice((piece.body, bytes(1 << 21))))
            content += HEADER.pack(MARK, kind, number, key, len(packed), size, checksum(kind, number, key, size, packed)) + packed
    return bytes(content)


CHANGES: Sequence[Callable[[Sequence[Piece], random.Random], bytes]] = (changed_bytes, changed_body, changed_json, changed_frames)


def answers(result: Result) -> bool:
    """Whether a verb has ended as it should: with an answer, or an error that says what is wrong."""
    return result.exception is None or isinstance(result.exception, MomError | SystemExit)


@pytest.mark.long
@pytest.mark.parametrize("turn", range(INPUTS))
def test_every_changed_recording_is_answered(pieces: Sequence[Piece], tmp_path: Path, turn: int) -> None:
    chosen = random.Random(turn)  # noqa: S311  # the same each time
    path = tmp_path / "changed.momrec"
    path.write_bytes(CHANGES[turn % len(CHANGES)](pieces, chosen))
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
