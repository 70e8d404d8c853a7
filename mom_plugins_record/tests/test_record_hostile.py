"""Recordings that somebody has damaged or forged: what is sound is read, the rest is counted, and nothing of it does harm."""

from __future__ import annotations

import json
import os
import random
import time
import tracemalloc
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import zstandard
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from test_record_recording import SESSION, written

from mom_core import Decision, Guest, Host, MomError, Outcome, Problem, Report, Snapshot, Source, Status
from mom_plugins_record.plot.command import plot
from mom_plugins_record.plot.series import series_of
from mom_plugins_record.recording.command import record
from mom_plugins_record.recording.contents import contents_of
from mom_plugins_record.recording.cycles import NO_KEY, read_record, write_cycle
from mom_plugins_record.recording.frames import HEADER, LARGEST_BODY, MARK, START, FrameKind, checksum, pack
from mom_plugins_record.recording.json_text import Corrupt, checked_json
from mom_plugins_record.recording.past import PastOf
from mom_plugins_record.recording.reader import Recording, session_content
from mom_plugins_record.recording.writer import files_of
from mom_plugins_record.replay.command import replay
from mom_plugins_record.replay.comparison import compare
from mom_plugins_record.report.command import report as report_verb
from mom_plugins_sim.scenario.recorded import scene_of_recording

FOREVER = (float("-inf"), float("inf"))
NASTY: list[Any] = [None, True, -1, 10**400, 1e308, float("nan"), float("inf"), "", "x", "\x1b[2J", [], {}, [[]], {"a": []}, 1 << 62]


def report(number: int) -> Report:
    """A cycle with something of everything."""
    fields = {"balloon_cur": 1000 + number, "balloon_max": 2000, "mem_usable": 10, "rss": 900}
    guests = {name: Guest(name, name, dict(fields), {"name": name}, {}, "1") for name in ("a", "b")}
    host = Host("h", {"mem_available": 10_000, "mem_really_available": 500, "psi_memory_some_avg10": 0.5}, {"name": "h"})
    decision = Decision(guests["a"].entity, "balloon_target", 1500, "why", Source("p", 1, 2))
    done = Outcome(decision, 1000, 1500, Status.APPLIED)
    return Report(number, 5.0 * number, "enforce", Snapshot(host, guests, 5.0 * number, 5.0 * number, number), (decision,), (), (done,),
                  (), (), 0.1)  # fmt: skip


REPORTS = [report(number) for number in range(1, 8)]


def everybody_reads(path: Path) -> None:
    """All that reads recordings gives a result, or says what is wrong."""
    readers: list[Callable[[Recording], object]] = [
        lambda recording: contents_of(recording.path),
        compare,
        lambda recording: series_of(recording, (), 10, *FOREVER),
        lambda recording: scene_of_recording(PastOf(recording.path), *FOREVER),
        why,
    ]
    for read in readers:
        with suppress(MomError):
            read(Recording(path))


def why(recording: Recording) -> None:
    """Why the last cycle's guests got what they got."""
    last = deque(PastOf(recording.path).cycles(*FOREVER), maxlen=1)
    for guest in last[0].report.snapshot.guests if last else ():
        assert all(isinstance(text, str) for text in (last[0].reasons_of(guest) or {}).values())


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    (path,) = files_of(written(tmp_path_factory.mktemp("sound") / "r", REPORTS))
    return path


@settings(deadline=None, max_examples=60)
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


@pytest.mark.parametrize("at", [0, len(START) - 1, len(START) + 1, len(START) + 40])
def test_damage_at_the_beginning_costs_no_cycle(tmp_path: Path, at: int) -> None:
    (path,) = files_of(written(tmp_path / "r", REPORTS))
    content = bytearray(path.read_bytes())
    content[at] ^= 0x10
    path.write_bytes(content)
    recording = Recording(path)
    assert [recorded.report for recorded in recording.cycles()] == REPORTS


def test_a_file_that_holds_nothing_does_not_spoil_its_folder(tmp_path: Path) -> None:
    folder = written(tmp_path / "r", REPORTS)
    (folder / "000000-20260101T000000Z.momrec").write_bytes(b"")
    (folder / "000002-20260101T000000Z.momrec").write_bytes(b"no recording")
    recording = Recording(folder)
    assert [recorded.report for recorded in recording.cycles()] == REPORTS
    assert recording.damage.rubbish == len(b"no recording")


def test_a_few_bytes_that_say_there_are_many_values_are_refused() -> None:
    many = b"[" + b"0," * 300_000 + b"0]"
    assert len(checked_json(many, stored=10_000)) == 300_001
    with pytest.raises(Corrupt, match="more values than"):
        checked_json(many, stored=10)
    with pytest.raises(Corrupt, match="more values than"):
        checked_json(b"[" + b"0," * (3 << 20) + b"0]", stored=1 << 30)


SESSION_FRAME = pack(FrameKind.SESSION, 0, 0, json.dumps(session_content(SESSION)).encode())
MIB = 1 << 20


def file_of(path: Path, *frames: bytes) -> Path:
    path.write_bytes(START + SESSION_FRAME + b"".join(frames))
    return path


def read_with(path: Path) -> tuple[list[Report], Recording, float, int]:
    """What is in it, what is damaged, the seconds that it took, and the most bytes that were held meanwhile."""
    recording = Recording(path)
    began = time.process_time()
    found = [recorded.report for recorded in recording.cycles()]
    seconds = time.process_time() - began
    tracemalloc.start()
    try:
        deque(Recording(path).cycles(), maxlen=0)
        return found, recording, seconds, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_damage_is_told_with_file_and_place_and_the_other_cycles_are_read(tmp_path: Path) -> None:
    sound = [pack(FrameKind.KEY, number, 0, write_cycle(one, NO_KEY)[0]) for number, one in enumerate(REPORTS, 1)]
    broken = bytearray(sound[2])
    broken[-1] ^= 1
    nonsense = pack(FrameKind.KEY, 5, 0, b"hello")
    path = file_of(tmp_path / "r.momrec", *sound[:2], bytes(broken), sound[3], nonsense, *sound[5:])
    at = len(START) + len(SESSION_FRAME) + len(sound[0]) + len(sound[1])
    recording = Recording(path)
    assert [recorded.report for recorded in recording.cycles()] == [REPORTS[i] for i in (0, 1, 3, 5, 6)]
    assert recording.damage.cycles == 2
    assert recording.damage.places == [
        f"{path}, byte {at}: a frame's checksum is wrong: {len(broken)} bytes are passed over",
        f"{path}, byte {at + len(broken) + len(sound[3])}: a cycle is lost: it is no JSON: Expecting value: line 1 column 1 (char 0)",
    ]
    result = CliRunner().invoke(record, ["show", str(path)])
    assert result.exit_code == 1
    assert f"{path}, byte {at}: a frame's checksum is wrong" in result.output


@pytest.mark.parametrize(
    "rubbish",
    [
        MARK * (MIB // 4),
        HEADER.pack(MARK, FrameKind.KEY, 0, 0, 1 << 24, 10, 5) * (MIB // HEADER.size),
        HEADER.pack(MARK, FrameKind.KEY, 0, 0, 4096, 10, 5) * (MIB // HEADER.size),
        (MARK + bytes([FrameKind.KEY, 0, 0, 0, 1, 0, 0, 0])) * (MIB // 20),
    ],
    ids=["bare marks", "headers of large frames", "headers of small frames", "headers within headers"],
)
def test_what_only_looks_like_frames_is_passed_over_soon(tmp_path: Path, rubbish: bytes) -> None:
    path = tmp_path / "r.momrec"
    path.write_bytes(START + rubbish)
    found, recording, seconds, held = read_with(path)
    assert (found, recording.damage.rubbish) == ([], len(rubbish))
    assert seconds < 2
    assert held < 32 * MIB


def renumbered(frame: bytes, number: int) -> bytes:
    """The same frame at another place of a file."""
    _, kind, _, _, length, size, _ = HEADER.unpack(frame[: HEADER.size])
    key, packed = number if kind == FrameKind.SESSION else 0, frame[HEADER.size :]
    return HEADER.pack(MARK, kind, number, key, length, size, checksum(kind, number, key, size, packed)) + packed


LONG: Any = "a" * 1_000_000
BOMBS = {
    "cycles": pack(FrameKind.KEY, 1, 0, write_cycle(replace(REPORTS[0], snapshot=Snapshot(Host("h", {"x": LONG}), {}, 5.0, 5.0, 1),
                                                            decisions=(), outcomes=()), NO_KEY)[0]),
    "sessions": pack(FrameKind.SESSION, 1, 1, json.dumps({**session_content(SESSION), "configuration": {"x": LONG}}).encode()),
    "memories": pack(FrameKind.MEMORY, 1, 0, json.dumps({"x": LONG}).encode()),
}  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("kind", BOMBS)
def test_small_frames_that_all_unpack_to_much_are_read_no_further_than_a_recording_goes(tmp_path: Path, kind: str) -> None:
    bomb = BOMBS[kind]
    cycle = pack(FrameKind.KEY, 1, 0, write_cycle(REPORTS[0], NO_KEY)[0])
    path = file_of(tmp_path / "r.momrec", cycle, *(renumbered(bomb, number) for number in range(2, 4 * MIB // len(bomb))))
    found, recording, seconds, held = read_with(path)
    assert found[0] == REPORTS[0]
    assert "its frames unpack to more than those of a recording: the rest is not read" in recording.damage.places[-1]
    assert seconds < 2
    assert held < 16 * MIB


@pytest.mark.long
@pytest.mark.parametrize(("guests", "fields"), [(30_000, 60), (60_000, 1)])
def test_many_cycles_that_say_nothing_but_as_it_was_are_read_no_further_than_a_recording_goes(
    tmp_path: Path, guests: int, fields: int
) -> None:
    known: dict[str, Any] = {f"f{number}": 0 for number in range(fields)}
    table = {f"{number}": Guest(f"{number}", "", known) for number in range(guests)}
    one = replace(REPORTS[0], snapshot=Snapshot(Host("h"), table, 5.0, 5.0, 1), decisions=(), outcomes=())
    body, key = write_cycle(one, NO_KEY)
    again = pack(FrameKind.CYCLE, 2, 1, write_cycle(replace(one, number=2), key)[0], key.dictionary)
    assert len(again) < 400
    _, kind, _, base, length, size, _ = HEADER.unpack(again[: HEADER.size])
    packed = again[HEADER.size :]
    frames = (
        HEADER.pack(MARK, kind, number, base, length, size, checksum(kind, number, base, size, packed)) + packed for number in range(2, 602)
    )
    path = file_of(tmp_path / "r.momrec", pack(FrameKind.KEY, 1, 0, body), *frames)
    recording = Recording(path)
    began = time.process_time()
    read = sum(1 for _ in recording.cycles())
    assert time.process_time() - began < 15
    assert 5 < read < 600
    assert "its cycles hold more than those of a recording: the rest is not read" in recording.damage.places[-1]
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number:06d}-20260101T000000Z.momrec").write_bytes(path.read_bytes())
    assert sum(1 for _ in Recording(folder).records()) < 2 * read, "many files are allowed no more than one"


def test_a_few_false_headers_hide_nothing_that_is_sound(tmp_path: Path) -> None:
    false = HEADER.pack(MARK, FrameKind.KEY, 7, 0, 1 << 20, 10, 5)
    frames = [false + pack(FrameKind.KEY, number, 0, write_cycle(one, NO_KEY)[0]) for number, one in enumerate(REPORTS, 1)]
    found, recording, _, _ = read_with(file_of(tmp_path / "r.momrec", *frames))
    assert found == REPORTS
    assert recording.damage.rubbish == len(frames) * len(false)


def claimed(guests: int) -> bytes:
    """A cycle that has a field of so many guests, and names none."""
    record = json.loads(write_cycle(replace(REPORTS[0], decisions=(), outcomes=()), NO_KEY)[0])
    nobody: dict[str, list[Any]] = {name: [] for name in record["guests"]}
    return json.dumps({**record, "guests": nobody, "fields": {"rss": [0] * guests}, "absent": {}}).encode()


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (claimed(100_000), "another number of values than there are guests"),
        (claimed(0)[:-2], "it is no JSON"),
        (b"[[[", "it is no JSON"),
        (b"[]", "something else where dict belongs"),
        (bytes(LARGEST_BODY), "cannot unpack to 16777216"),
    ],
)
def test_a_frame_that_says_more_than_it_holds_is_refused(tmp_path: Path, body: bytes, why: str) -> None:
    packed = zstandard.compress(body)
    frame = HEADER.pack(MARK, FrameKind.KEY, 1, 0, len(packed), len(body), checksum(FrameKind.KEY, 1, 0, len(body), packed)) + packed
    found, recording, seconds, held = read_with(file_of(tmp_path / "r.momrec", frame))
    assert (found, recording.damage.cycles) == ([], 1)
    assert why in recording.damage.places[0]
    assert seconds < 1
    assert held < 16 * MIB


def test_new_guests_that_are_not_named_are_damage(tmp_path: Path) -> None:
    body, key = write_cycle(REPORTS[0], NO_KEY)
    other = json.loads(write_cycle(REPORTS[1], key)[0])
    other["guests"] = {**json.loads(body)["guests"], "id": ["a", "b", "c"]}
    frames = pack(FrameKind.KEY, 1, 0, body), pack(FrameKind.CYCLE, 2, 1, json.dumps(other).encode(), key.dictionary)
    found, recording, _, _ = read_with(file_of(tmp_path / "r.momrec", *frames))
    assert found == REPORTS[:1]
    assert "a cycle does not make sense: zip()" in recording.damage.places[0]


@pytest.mark.parametrize("kind", [FrameKind.SESSION, FrameKind.MEMORY])
@pytest.mark.parametrize("content", [b"[" * 50_000, b"[" + b"[]," * 300_000 + b"0]", b'{"format":1,"x":' + b"[" * 200 + b"]" * 200 + b"}"])
def test_json_that_is_deep_or_all_brackets_is_refused(tmp_path: Path, kind: FrameKind, content: bytes) -> None:
    cycle = pack(FrameKind.KEY, 1, 0, write_cycle(REPORTS[0], NO_KEY)[0])
    found, recording, seconds, held = read_with(file_of(tmp_path / "r.momrec", cycle, pack(kind, 2, 2, content)))
    assert found == REPORTS[:1]
    assert recording.damage.places
    assert seconds < 1
    assert held < 16 * MIB


def test_half_a_surrogate_pair_comes_back_as_its_number(tmp_path: Path) -> None:
    odd = "\ud800"
    guest = Guest("a", f"vm{odd}", {"balloon_cur": 1.0, "os": odd}, {"name": odd})
    one = Report(1, 5.0, "enforce", Snapshot(Host(f"h{odd}", {"mem_available": 10}), {"a": guest}, 5.0, 5.0, 1), (), (), (), (), (), 0.1)
    path = file_of(tmp_path / "r.momrec", pack(FrameKind.KEY, 1, 0, write_cycle(one, NO_KEY)[0]))
    (recorded,) = Recording(path).cycles()
    (back,) = recorded.report.snapshot.guests.values()
    assert (back.name, back.fields["os"], back.properties["name"]) == (r"vm\ud800", r"\ud800", r"\ud800")
    everybody_reads(path)


def test_a_calm_host_with_many_like_guests_is_no_bomb(tmp_path: Path) -> None:
    fields = {f"field{number}": 1.0 for number in range(120)}
    guests = {f"{number}": Guest(f"{number}", "", {**fields, "disks": ["disk" * 500]}) for number in range(1500)}
    decisions = tuple(Decision(guest.entity, "c", 1, "", Source("p")) for guest in guests.values())
    snapshot = Snapshot(Host("h"), guests, 5.0, 5.0, 1)
    reports = [Report(number, 5.0, "enforce", snapshot, decisions, (), (), (), (), 0.1) for number in (1, 2)]
    back, recording, _, _ = read_with(written(tmp_path / "r", reports))
    assert not recording.damage
    assert back == reports


def test_a_pipe_or_a_device_is_no_recording(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(MomError, match="is no file"):
            next(Recording(path).cycles())


def test_a_recording_cannot_ask_for_more_history_than_fits_into_memory(tmp_path: Path) -> None:
    guests = {f"{number}": Guest(f"{number}", "", {f"f{i}": 1.0 for i in range(20)}) for number in range(1000)}
    one = Report(1, 5.0, "enforce", Snapshot(Host("h"), guests, 5.0, 5.0, 1), (), (), (), (), (), 0.1)
    session = {**session_content(SESSION), "configuration": {"history": 1000, "plugins": {"policy": {}}}}
    path = tmp_path / "r.momrec"
    path.write_bytes(
        START + pack(FrameKind.SESSION, 0, 0, json.dumps(session).encode()) + pack(FrameKind.KEY, 1, 0, write_cycle(one, NO_KEY)[0])
    )
    with pytest.raises(MomError, match="do not fit into memory"):
        compare(Recording(path))


def forged(text: bytes, chosen: random.Random) -> bytes:
    """A record of JSON, with one value in it replaced."""
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
    session = json.dumps({**session_content(SESSION), "configuration": {"interval": "5s", "plugins": {"policy": {}}, "guests": {}},
                          "fields": [["rss", "KiB", "guest", "r", ""]],
                          "controls": [["balloon_target", "KiB", "guest", "b", "balloon_cur", 0, None]]}).encode()  # fmt: skip
    bodies = [write_cycle(one, NO_KEY)[0] for one in REPORTS]
    which = chosen.randrange(len(bodies) + 1)
    content = START + pack(FrameKind.SESSION, 0, 0, forged(session, chosen) if which == len(bodies) else session)
    for number, body in enumerate(bodies):
        content += pack(FrameKind.KEY, number + 1, 0, forged(body, chosen) if which == number else body)
    path = tmp_path / "forged.momrec"
    path.write_bytes(content)
    everybody_reads(path)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
FIELDS = st.dictionaries(st.sampled_from(["a", "b", "c"]), VALUES, max_size=3)


@st.composite
def cycles(draw: st.DrawFn) -> Report:
    """Any cycle."""
    names = draw(st.lists(st.text(min_size=1, max_size=4), max_size=4, unique=True))
    guests = {
        name: Guest(name, draw(st.text(max_size=4)), draw(FIELDS), draw(FIELDS), {}, draw(st.sampled_from(["", "1"]))) for name in names
    }
    snapshot = Snapshot(Host(draw(st.text(max_size=3)), draw(FIELDS), draw(FIELDS)), guests, 5.0, 6.0, draw(st.integers(0, 9)))
    entities = [snapshot.host.entity, *(guest.entity for guest in guests.values()), Guest("other", "gone").entity]
    decisions = tuple(
        Decision(entity, draw(st.sampled_from("cd")), draw(VALUES), draw(st.text(max_size=3)), Source("p", draw(st.integers(0, 3)), 1))
        for entity in draw(st.lists(st.sampled_from(entities), max_size=4))
    )
    outcomes = tuple(
        Outcome(d, draw(VALUES), draw(VALUES), draw(st.sampled_from(Status)), draw(st.text(max_size=3))) for d in decisions[:2]
    )
    return Report(1, 5.0, "observe", snapshot, decisions, (), outcomes, (), (), 0.5, woken_by=draw(st.text(max_size=3)))


@settings(deadline=None, max_examples=30)
@given(cycles(), cycles())
def test_any_cycle_comes_back_alone_and_as_the_difference_from_another(one: Report, other: Report) -> None:
    body, key = write_cycle(one, NO_KEY)
    back, key_back = read_record(body, NO_KEY)
    assert back.report == one
    body, _ = write_cycle(other, key)
    assert read_record(body, key_back)[0].report == other


HOSTILE_NAMES = [
    r"$\bad{$",
    "$x$", "</text><script>alert(1)</script>", "\u202e\u2066evil", "\x1b[2J\x07", "=cmd|'/c calc'!A1", "a\nb\r\tc", "\ufffe\uffff",
    "%s{0}", "語",
]  # fmt: skip
BIDI = "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
STEERS = {*map(chr, range(32)), *map(chr, range(127, 160)), *BIDI} - {"\n"}


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:Glyph")  # the tests' fonts have none for all of these
@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_whatever_a_guest_is_called_every_verb_takes_it_for_a_text(tmp_path: Path, name: str) -> None:
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
    for arguments in (["record", "show"], ["replay"], ["plot", "-o", "p.svg"], ["plot", "-o", "p.png"],
                      ["report"], ["report", "--by", "guest"], ["report", "--html", "r.html"]):  # fmt: skip
        verb, *rest = arguments
        rest = [str(tmp_path / one) if "." in one else one for one in rest]
        command = {"record": record, "replay": replay, "plot": plot, "report": report_verb}[verb]
        place = rest.index("show") + 1 if "show" in rest else 0
        done = CliRunner().invoke(command, [*rest[:place], str(folder), *rest[place:]])
        assert done.exception is None or isinstance(done.exception, (MomError, SystemExit)), (arguments, done.exception)
        assert not STEERS & set(done.output), arguments
    ElementTree.parse(tmp_path / "p.svg")  # noqa: S314  # it is ours
    assert "<script" not in (tmp_path / "p.svg").read_text()
    page = tmp_path / "r.html"
    assert not page.exists() or "<script" not in page.read_text()
