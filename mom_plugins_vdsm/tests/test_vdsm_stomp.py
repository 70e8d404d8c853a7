"""Frames in any pieces, and invalid frames."""

import asyncio
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mom_plugins_vdsm.jsonrpc import LONGEST_LINE, MOST_HEADERS, MessageError, StompFrame, read_frame

ANSWER = b"MESSAGE\ndestination:q\ncontent-type:application/json\nsubscription:s\ncontent-length:2\n\n{}\0"

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=":\n\r"), max_size=20)
frames = st.builds(
    StompFrame,
    st.sampled_from(["CONNECTED", "MESSAGE", "RECEIPT", "ERROR"]),
    st.dictionaries(texts.filter(lambda name: name != "content-length"), texts, max_size=4),
    st.binary(max_size=60),
)


def read(*pieces: bytes, largest: int = 1000) -> list[StompFrame]:
    async def all_frames() -> list[StompFrame]:
        reader = asyncio.StreamReader(limit=LONGEST_LINE)
        found: list[StompFrame] = []

        async def take() -> None:
            with suppress(EOFError):
                while True:
                    found.append(await read_frame(reader, largest, 60.0))

        async with asyncio.TaskGroup() as group:
            group.create_task(take())
            for piece in pieces:
                reader.feed_data(piece)
                await asyncio.sleep(0)
            reader.feed_eof()
        return found

    try:
        return asyncio.run(all_frames())
    except ExceptionGroup as group:
        raise group.exceptions[0] from None


def with_length(frame: StompFrame) -> StompFrame:
    return StompFrame(frame.command, {**frame.headers, "content-length": str(len(frame.body))}, frame.body)


@given(st.lists(frames.map(with_length), max_size=5), st.lists(st.integers(0, 400), max_size=30))
def test_any_frames_split_at_any_bytes_arrive_whole(sent: list[StompFrame], cuts: list[int]) -> None:
    data = b"".join(frame.encode() + b"\n" for frame in sent)
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    assert read(*(data[start:end] for start, end in pairwise(places))) == sent


@pytest.mark.parametrize(
    ("data", "frames"),
    [
        (b"\n\nCONNECTED\nversion:1.2\n\n\0\n\r\n" + ANSWER + b"\n", [("CONNECTED", b""), ("MESSAGE", b"{}")]),  # heart-beats
        (b"CONNECTED\r\nversion:1.2\r\nversion:1.0\r\n\r\n\0", [("CONNECTED", b"")]),
        (b"ERROR\n\nVersion unsupported\0", [("ERROR", b"Version unsupported")]),
        (b"MESSAGE\ncontent-length:3\n\na\0b\0", [("MESSAGE", b"a\0b")]),
    ],
)
def test_frames_are_as_the_specification_has_them(data: bytes, frames: list[tuple[str, bytes]]) -> None:
    found = read(data)
    assert [(frame.command, frame.body) for frame in found] == frames
    assert found[0].headers.get("version", "1.2") == "1.2", "the first of repeated headers counts"


@pytest.mark.parametrize(
    "data",
    [
        b"GARBAGE\n\n\0",
        b"CONNECTED\nno colon\n\n\0",
        b"CONNECTED\na:b:c\n\n\0",
        b"CONNECTED\na:\xff\n\n\0",
        b"MESSAGE\ncontent-length:-1\n\n\0",
        b"MESSAGE\ncontent-length:1\n\nab\0",
        b"MESSAGE\ncontent-length:" + b"9" * 5000 + b"\n\n\0",
        b"CONNECTED\n" + b"a:b\n" * (MOST_HEADERS + 1) + b"\n\0",
        b"MESSAGE\ncontent-length:1001\n\n",
        b"ERROR\n\n" + b"x" * (LONGEST_LINE + 1),
        b"MESSAGE\na:" + b"x" * (LONGEST_LINE + 1),
    ],
)
def test_what_is_no_frame_or_too_large_is_an_error(data: bytes) -> None:
    with pytest.raises(MessageError):
        read(data)
