"""Frames: whatever the pieces in which they arrive, and whatever is wrong with them."""

from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mom_plugins_vdsm.jsonrpc import LARGEST_HEAD, MOST_HEADERS, FrameError, FrameReader, StompFrame

WELCOME = b"CONNECTED\nversion:1.2\nheart-beat:24000,0\n\n\0"
ANSWER = b"MESSAGE\ndestination:q\ncontent-type:application/json\nsubscription:s\ncontent-length:2\n\n{}\0"

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
frames = st.builds(
    StompFrame,
    st.sampled_from(["CONNECTED", "MESSAGE", "RECEIPT", "ERROR"]),
    st.dictionaries(texts.filter(lambda name: name != "content-length"), texts, max_size=4),
    st.binary(max_size=60),
)


def read(data: bytes, largest: int = 1000) -> list[StompFrame]:
    return list(FrameReader(largest).feed(data))


def with_length(frame: StompFrame) -> StompFrame:
    return StompFrame(frame.command, {**frame.headers, "content-length": str(len(frame.body))}, frame.body)


@given(st.lists(frames.map(with_length), max_size=5), st.lists(st.integers(0, 400), max_size=30))
def test_any_frames_split_at_any_bytes_arrive_whole(sent: list[StompFrame], cuts: list[int]) -> None:
    data = b"".join(frame.encode() + b"\n" for frame in sent)
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    reader = FrameReader(1000)
    got = [frame for start, end in pairwise(places) for frame in reader.feed(data[start:end])]
    assert got == sent


@given(st.integers(0, len(ANSWER) - 1), st.integers(0, 255))
def test_a_wrong_byte_anywhere_gives_at_most_one_frame_or_the_one_error(place: int, byte: int) -> None:
    damaged = ANSWER[:place] + bytes([byte]) + ANSWER[place + 1 :]
    with suppress(FrameError):
        assert len(read(damaged)) <= 1


def test_endless_signs_of_life_without_a_frame_end_the_connection() -> None:
    reader = FrameReader(1000)
    for _ in range(3):
        assert list(reader.feed(b"\n" * (LARGEST_HEAD // 2) + ANSWER))
    for _ in range(2):
        assert list(reader.feed(b"\n" * (LARGEST_HEAD // 2))) == []
    with pytest.raises(FrameError):
        list(reader.feed(b"\n"))


@pytest.mark.parametrize(
    ("data", "frames"),
    [
        (b"\n\n" + WELCOME + b"\n\r\n" + ANSWER + b"\n", [("CONNECTED", b""), ("MESSAGE", b"{}")]),  # signs of life
        (b"CONNECTED\r\nversion:1.2\r\nversion:1.0\r\n\r\n\0", [("CONNECTED", b"")]),
        (b"ERROR\n\nVersion unsupported\0", [("ERROR", b"Version unsupported")]),
        (b"MESSAGE\ncontent-length:3\n\na\0b\0", [("MESSAGE", b"a\0b")]),
    ],
)
def test_frames_are_as_the_specification_has_them(data: bytes, frames: list[tuple[str, bytes]]) -> None:
    found = read(data)
    assert [(frame.command, frame.body) for frame in found] == frames
    assert found[0].headers.get("version", "1.2") == "1.2", "the first of repeated headers counts"


def test_a_body_without_a_length_may_come_in_pieces() -> None:
    reader = FrameReader(1000)
    assert list(reader.feed(b"ERROR\n\nVersion ")) == []
    assert [frame.body for frame in reader.feed(b"unsupported\0")] == [b"Version unsupported"]


@pytest.mark.parametrize(
    "data",
    [
        b"GARBAGE\n\n\0",
        b"CONNECTED\nno colon\n\n\0",
        b"CONNECTED\na:b:c\n\n\0",
        b"CONNECTED\na:\\t\n\n\0",
        b"MESSAGE\ncontent-length:-1\n\n\0",
        b"MESSAGE\ncontent-length:1\n\nab\0",
        b"MESSAGE\ncontent-length:" + b"9" * 5000 + b"\n\n\0",
        b"CONNECTED\n" + b"a:b\n" * (MOST_HEADERS + 1) + b"\n\0",
    ],
)
def test_what_is_no_frame_is_an_error(data: bytes) -> None:
    with pytest.raises(FrameError):
        read(data)


@pytest.mark.parametrize("data", [b"MESSAGE\ncontent-length:1001\n\n", b"ERROR\n\n" + b"x" * 1001, b"MESSAGE\na:" + b"x" * LARGEST_HEAD])
def test_what_is_too_large_is_refused_before_it_is_there(data: bytes) -> None:
    reader = FrameReader(1000)
    with pytest.raises(FrameError, match=r"bytes"):
        list(reader.feed(data + b"x"))
