"""Damaged and forged recordings: valid cycles are read, others are counted, and none does harm."""

import json
import math
import random
import time
import tracemalloc
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from recordings import SESSION, written

from mom_core import (
    ControlSpec,
    Decision,
    FieldSpec,
    Guest,
    Host,
    MomError,
    Outcome,
    Problem,
    Report,
    Revision,
    Scope,
    Severity,
    Snapshot,
    Source,
    Status,
    Unit,
)
from mom_plugins_record.recording.command import contents_of, record
from mom_plugins_record.recording.cycles import cycle_line, read_cycle, session_line
from mom_plugins_record.recording.groups import MARK, GroupPacker, checksum
from mom_plugins_record.recording.reader import Recording
from mom_plugins_record.recording.writer import files_of
from mom_plugins_record.replay.command import replay
from mom_plugins_record.replay.comparison import compare
from mom_plugins_record.report.command import report as report_verb

FOREVER = (float("-inf"), float("inf"))
SOON = 30.0  # seconds: linear work takes one on an idle machine, quadratic work takes minutes
NASTY: list[Any] = [None, True, -1, 10**400, 1e308, float("nan"), float("inf"), "", "x", "\x1b[2J", [], {}, [[]], {"a": []}, 1 << 62]


def report(number: int) -> Report:
    """Return a cycle with all kinds of content."""
    fields = {"balloon_cur": 1000 + number, "balloon_max": 2000, "mem_usable": 10, "rss": 900}
    guests = {name: Guest(name, name, dict(fields), {"name": name}, {}, "1") for name in ("a", "b")}
    host = Host("h", {"mem_available": 10_000, "mem_really_available": 500, "psi_memory_some_avg10": 0.5}, {"name": "h"})
    decision = Decision(guests["a"].entity, "balloon_target", 1500, "why", Source("p", 1, 2))
    less, host_entity = replace(decision, value=1200, reason="less"), host.entity
    done = Outcome(less, 1000, 1200, Status.APPLIED)
    revisions = (Revision(decision, less, "bounds", "core"), Revision(replace(less, entity=host_entity), None, "busy", "core"))
    problems = (Problem(Source("p", 1), "bad", host_entity, Severity.WARNING, "do"),)
    snapshot = Snapshot(host, guests, 5.0 * number, 5.0 * number, number)
    return Report(number, 5.0 * number, "enforce", snapshot, (decision,), revisions, (done,), problems, (), 0.1, considered=(less,))


REPORTS = [report(number) for number in range(1, 8)]


def everybody_reads(path: Path) -> None:
    """Check that all readers of recordings return a result or a clear error."""
    readers: list[Callable[[Recording], object]] = [lambda recording: contents_of(recording.path), compare]
    for read in readers:
        with suppress(MomError):
            read(Recording(path))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    (path,) = files_of(written(tmp_path_factory.mktemp("sound") / "r", REPORTS))
    return path


@given(st.data())
def test_whatever_happens_to_a_file_what_is_read_was_written(sound: Path, data: st.DataObject) -> None:
    content = bytearray(sound.read_bytes())
    places = st.integers(0, len(content) - 1)
    for begin, end, put in data.draw(st.lists(st.tuples(places, places, st.binary(max_size=40)), max_size=3)):
        content[begin : max(begin, min(end, begin + 50))] = put
    damaged = sound.with_name("damaged.momrec")
    damaged.write_bytes(content)
    recording = Recording(damaged)
    try:
        found = [recorded.report for recorded in recording.cycles()]
    except MomError:
        return
    assert all(one in REPORTS for one in found)
    assert [one.number for one in found] == sorted(one.number for one in found)


def test_a_file_that_holds_nothing_does_not_spoil_its_folder(tmp_path: Path) -> None:
    folder = written(tmp_path / "r", REPORTS)
    (folder / "000000-20260101T000000Z.momrec").write_bytes(b"")
    (folder / "000002-20260101T000000Z.momrec").write_bytes(b"no recording")
    recording = Recording(folder)
    assert [recorded.report for recorded in recording.cycles()] == REPORTS
    assert len(recording.damage.places) == 1
    assert [*recording.sessions()] == [SESSION]
    assert [one.report for one in recording.sparse(*FOREVER, 100)] == REPORTS
    assert [one.report for one in recording.sparse(*FOREVER, 1)] == REPORTS[:1]


MIB = 1 << 20
IN_FORCE = session_line(SESSION)


def line(number: int, report: Report | None = None) -> bytes:
    """Return the line of a cycle of `REPORTS`, counted from 0, or of another report."""
    return cycle_line(REPORTS[number] if report is None else report, checksum(IN_FORCE), number)


def group(*lines: bytes) -> bytes:
    packer = GroupPacker()
    return MARK + b"".join(map(packer.line, lines)) + packer.end()


def read_with(path: Path) -> tuple[list[Report], Recording, float, int]:
    """Read a recording. Return its reports, the recording, the seconds used, and the peak memory in bytes."""
    recording = Recording(path)
    began = time.process_time()
    found = []
    with suppress(MomError):
        found = [recorded.report for recorded in recording.cycles()]
    seconds = time.process_time() - began
    tracemalloc.start()
    try:
        with suppress(MomError):
            deque(Recording(path).cycles(), maxlen=0)
        return found, recording, seconds, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_damage_is_located_and_costs_the_rest_of_its_group(tmp_path: Path) -> None:
    groups = [group(IN_FORCE, line(0), line(1)), group(IN_FORCE, line(2), line(3)), group(line(4), b"hello", line(5)), group(line(6))]
    groups[1] = groups[1][:-30] + bytes([groups[1][-30] ^ 1]) + groups[1][-29:]
    path = tmp_path / "r.momrec"
    path.write_bytes(b"rubbish" + b"".join(groups))
    recording = Recording(path)
    found = [recorded.report for recorded in recording.cycles()]
    assert [one for one in found if one not in REPORTS[2:4]] == [REPORTS[i] for i in (0, 1, 4, 6)]
    assert recording.damage.cycles == len(REPORTS) - len(found)
    second = len(b"rubbish") + len(groups[0])
    assert [place.partition(": ")[0] for place in recording.damage.places] == [
        f"{path}, byte {at}" for at in (second, second + len(groups[1]))
    ]
    result = CliRunner().invoke(record, ["show", str(path)])
    assert result.exit_code == 1
    assert f"{path}, byte {second}: cycles are lost" in " ".join(result.output.split())


LINES = {
    "marks only": [],
    "newlines": [b"\n" * (32 * MIB)],
    "a long line": [b"x" * (64 * MIB)],
    "deep": [b"[" * 50_000],
    "brackets": [b"[" + b"[]," * 300_000 + b"0]"],
    "no cycle": [b"[]"],
    "guests that are not named": [line(0).replace(b'"id":["a","b"]', b'"id":["a","b","c"]')],
    "guests of one id": [line(0).replace(b'"id":["a","b"]', b'"id":["a","a"]')],
    "values of no guests": [line(0).replace(b'"rss":[900,900]', b'"rss":[' + b"0," * 100_000 + b"0]")],
    "a decision that is not there": [line(0).replace(b'"outcomes":[{"decision":1', b'"outcomes":[{"decision":9')],
}


@pytest.mark.long
@pytest.mark.parametrize("what", LINES)
def test_hostile_lines_are_refused_quickly_in_little_memory(tmp_path: Path, what: str) -> None:
    path = tmp_path / "r.momrec"
    path.write_bytes(group(IN_FORCE, line(0)) + (group(*LINES[what]) if LINES[what] else MARK * (MIB // 16 // len(MARK))))
    found, recording, seconds, held = read_with(path)
    assert found[:1] == REPORTS[:1]
    assert recording.damage.places
    assert seconds < SOON
    assert held < 96 * MIB


def forged(text: bytes, chosen: random.Random) -> bytes:
    """Return a JSON record with one value replaced."""
    value = json.loads(text)
    places: list[tuple[Any, Any]] = []

    def walk(item: Any) -> None:
        for key in list(item) if isinstance(item, dict) else range(len(item)) if isinstance(item, list) else ():
            places.append((item, key))
            walk(item[key])

    walk(value)
    if not places:
        return json.dumps(chosen.choice(NASTY)).encode()
    holder, key = chosen.choice(places)
    holder[key] = chosen.choice(NASTY)
    return json.dumps(value).encode()


@pytest.mark.parametrize("seed", range(12))
def test_forged_recordings_are_read_or_refused(tmp_path: Path, seed: int) -> None:
    chosen = random.Random(seed)  # noqa: S311  # the same each time
    field = FieldSpec("rss", Unit.KIB, Scope.GUEST, "r")
    control = ControlSpec("balloon_target", Unit.KIB, Scope.GUEST, "b", "balloon_cur", 0)
    configuration: dict[str, Any] = {"interval": "5s", "plugins": {"policy": {}}, "guests": {}}
    session = session_line(replace(SESSION, configuration=configuration, fields=(field,), controls=(control,)))
    which = chosen.randrange(len(REPORTS) + 1)
    in_force = forged(session, chosen) if which == len(REPORTS) else session
    lines = [cycle_line(one, checksum(in_force), number) for number, one in enumerate(REPORTS)]
    path = tmp_path / "forged.momrec"
    path.write_bytes(group(in_force, *(forged(text, chosen) if number == which else text for number, text in enumerate(lines))))
    everybody_reads(path)
    for verb, arguments in ((record, ["export", str(path), "-o", str(tmp_path / "out")]), (replay, [str(path), "--json"])):
        done = CliRunner().invoke(verb, arguments)
        assert done.exception is None or isinstance(done.exception, (MomError, SystemExit)), done.exception


def test_values_keep_type_and_absence() -> None:
    values: list[Any] = [1, 1.0, True, 0.0, -0.0, 1e-300, math.inf, math.nan, 1 << 70, "x", [1], {"a": [None]}, None]
    guests = {f"{place}": Guest(f"{place}", "", {"x": value}) for place, value in enumerate(values)} | {"z": Guest("z", "", {})}
    one = Report(1, 5.0, "enforce", Snapshot(Host("h"), guests, 5.0, 5.0, 1), (), (), (), (), (), 0.1)
    back = read_cycle(cycle_line(one, "", 0)).report.snapshot.guests
    assert repr([guest.fields.get("x", "absent") for guest in back.values()]) == repr([*values, "absent"])


HOSTILE_NAMES = [
    r"$\bad{$ %s{0}", "$x$</text><script>alert(1)</script>", "\x1b[2J\x07a\nb\r\tc\u202e\u2066evil", "=cmd|'/c calc'!A1", "\ufffe\uffff語",
]  # fmt: skip
BIDI = "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
STEERS = {*map(chr, range(32)), *map(chr, range(127, 160)), *BIDI} - {"\n"}


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:Glyph")  # the tests' fonts lack some of these
@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_hostile_names_are_printed_as_text(tmp_path: Path, name: str) -> None:
    def cycle(number: int) -> Report:
        fields: dict[str, Any] = {"balloon_cur": 1000 * MIB - number, "balloon_max": 2000 * MIB, "mem_usable": 1, "rss": 900, "os": name}
        guest = Guest(name, name, fields, {"name": name}, {}, "1")
        host = Host(name, {"mem_available": 10 * MIB, "mem_really_available": MIB, "psi_memory_some_avg10": 0.5}, {"name": name})
        decision = Decision(guest.entity, "balloon_target", number % 2 * MIB, name, Source(name, 1, 2))
        outcome = Outcome(decision, 2000 * MIB, 1000 * MIB, Status.APPLIED, name)
        snapshot = Snapshot(host, {name: guest}, 5.0 * number, 5.0 * number, number)
        return Report(number, 5.0 * number, "enforce", snapshot, (decision,), (), (outcome,), (Problem(Source(name), name),), (), 0.1,
                      woken_by=name)  # fmt: skip

    folder = written(tmp_path / "r", [cycle(number) for number in range(1, 30)])
    page = tmp_path / "r.html"
    for command, *arguments in (
        (record, "show"), (replay,), (report_verb,), (report_verb, "--by", "guest"), (report_verb, "--html", page)
    ):  # fmt: skip
        done = CliRunner().invoke(command, [*map(str, arguments), str(folder)])
        assert done.exception is None or isinstance(done.exception, (MomError, SystemExit)), (arguments, done.exception)
        assert not STEERS & set(done.output), arguments
    assert not page.exists() or "<script" not in page.read_text()
