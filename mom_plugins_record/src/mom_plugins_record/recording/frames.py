"""Frames in a file: each with a checksum and a number, so that what is damaged is noticed, and what is sound is still read.

All of it is zstd: a body is a frame of zstd's, and the file's beginning and each frame's header are frames that zstd skips. A reader that
meets rubbish looks for the next mark; the frames' numbers tell how many it has lost.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from typing import BinaryIO, Final

import zstandard

from mom_core import MomError

MAGIC: Final = b"\x50\x2a\x4d\x18\x12\x00\x00\x00mom recording\n"
"""A frame that zstd skips (RFC 8878, 3.1.2), of 18 bytes: these and the version."""

VERSION: Final = 2
START: Final = MAGIC + struct.pack("<HH", VERSION, VERSION)
"""The version stands there twice: a flipped bit in one of them is no newer version."""

MARK: Final = b"\x51\x2a\x4d\x18\x1c\x00\x00\x00\xf5mOm"
"""How a header begins: a frame that zstd skips, of 28 bytes; not valid UTF-8, so no text holds it."""

HEADER: Final = struct.Struct("<12sBxxxIIIII")
"""Mark, kind, number of the frame, number of the frame that it builds on, length of the body, length when unpacked, checksum."""

LARGEST_BODY = 16 << 20
"""Bytes that one unpacked frame may have: the key of 20,000 guests. A bomb is refused before it is unpacked."""

OVERHEAD = 4096
"""Bytes by which a body that cannot be compressed may be longer for that."""

SMALL_BODY = 1 << 20
"""Bytes that any frame may unpack to, however short it is."""

LARGEST_RATIO = 256
"""Bytes beyond that for each packed byte. A cycle comes to 10; zstd can do 30,000, which makes a bomb."""

SEARCHED = 64 << 20
SEARCHED_RATIO = 8
"""Bytes, and times the file's size, that may be read in vain in places that look like frames. Damage costs a frame's length each time,
a forged file that length at each of its bytes."""

FALSE_FRAME = 4096
"""Bytes that such a place counts for, beside its length: what it costs to look at it at all."""

UNPACKED = 32 << 20
UNPACKED_RATIO = 24
"""Bytes, and times the file's size, that all frames of a file may unpack to. A recording comes to 5 times its size; a forged one
could unpack a mebibyte from each of its kibibytes."""

CHUNK = 1 << 20
"""Bytes that are searched at a time."""

MOST_PLACES = 20
"""Damaged places that are told one by one: what a person reads."""

LEVEL: Final = 1
"""Level 3 takes three times the time for no fewer bytes: the dictionary does the work."""


class Dictionary:
    """What a body is likely to repeat, which writer and reader must have: a key's record. zstd takes it as it is (`--patch-from`)."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    @cached_property
    def _dictionary(self) -> zstandard.ZstdCompressionDict:
        return zstandard.ZstdCompressionDict(self._content, dict_type=zstandard.DICT_TYPE_RAWCONTENT)

    @cached_property
    def packer(self) -> zstandard.ZstdCompressor:
        """One for all bodies: to index the dictionary takes longer than a body."""
        self._dictionary.precompute_compress(level=LEVEL)
        return zstandard.ZstdCompressor(level=LEVEL, dict_data=self._dictionary)

    @cached_property
    def unpacker(self) -> zstandard.ZstdDecompressor:
        """One for all bodies."""
        return zstandard.ZstdDecompressor(dict_data=self._dictionary, max_window_size=WINDOW)


WINDOW: Final = 2 * LARGEST_BODY
"""Bytes that zstd may look back: a body, and its dictionary before it."""

_PACKER: Final = zstandard.ZstdCompressor(level=LEVEL)
_UNPACKER: Final = zstandard.ZstdDecompressor(max_window_size=WINDOW)


class FrameKind(IntEnum):
    """What a frame holds."""

    SESSION = 1  #: what does not change with each cycle: fields, plugins, configuration, policies
    KEY = 2  #: a cycle by itself
    CYCLE = 3  #: a cycle as it differs from the last key
    MEMORY = 4  #: what the policies remembered after the cycle before this frame


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: `number` counts all frames of a file from 0, `key` is the number of the frame that it builds on (its own: none).

    `at` is the byte of the file at which it begins.
    """

    kind: FrameKind
    number: int
    key: int
    packed: bytes
    size: int
    at: int = 0

    def unpack(self, dictionary: Dictionary | None = None) -> bytes:
        """The body. Raises `MomError` when it is not what it says, or too large."""
        if not _may_unpack_to(self.size, len(self.packed)):
            raise MomError(f"a frame of {len(self.packed)} bytes cannot unpack to {self.size}")
        try:
            if zstandard.get_frame_parameters(self.packed).content_size != self.size:  # before room is made for it
                raise MomError("a frame is not as long as it says")
            unpacker = _UNPACKER if dictionary is None else dictionary.unpacker
            body: bytes = unpacker.decompress(self.packed, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise MomError(f"a frame cannot be unpacked: {error}") from error
        if len(body) != self.size:
            raise MomError("a frame is not as long as it says")
        return body


def pack(kind: FrameKind, number: int, key: int, body: bytes, dictionary: Dictionary | None = None) -> bytes:
    """A frame as bytes. `dictionary`: what the body is likely to repeat; a reader must have it too."""
    packed: bytes = (_PACKER if dictionary is None else dictionary.packer).compress(body)
    if len(body) <= LARGEST_BODY and not _may_unpack_to(len(body), len(packed)):
        packed = _stored(body)  # a reader would take it for a bomb
    return HEADER.pack(MARK, kind, number, key, len(packed), len(body), checksum(kind, number, key, len(body), packed)) + packed


def _stored(body: bytes) -> bytes:
    """A frame of zstd's that holds the body as it is (RFC 8878, 3.1.1): one segment, of blocks of 128 KiB at most."""
    blocks = [body[at : at + (128 << 10)] for at in range(0, len(body), 128 << 10)] or [b""]
    heads = [(len(block) << 3 | (number == len(blocks))).to_bytes(3, "little") for number, block in enumerate(blocks, 1)]
    said = b"".join(head + block for head, block in zip(heads, blocks, strict=True))
    return struct.pack("<IBI", 0xFD2FB528, 0xA0, len(body)) + said


def _may_unpack_to(size: int, packed: int) -> bool:
    return size <= min(LARGEST_BODY, SMALL_BODY + LARGEST_RATIO * packed)


def checksum(kind: int, number: int, key: int, size: int, packed: bytes) -> int:
    """CRC-32 of all that a frame holds: it is to find damage, not forgery."""
    return zlib.crc32(packed, zlib.crc32(struct.pack("<BIII", kind, number, key, size)))


class NoRecording(MomError):
    """Nothing in a file is a recording's."""


@dataclass(slots=True)
class Losses:
    """What a reader could not use: frames that are missing or damaged, bytes that are no frame, and whether the end was cut off.

    `places` are the first places where something is wrong: the byte of the file, and what.
    """

    frames: int = 0
    rubbish: int = 0
    cut_off: bool = False
    places: list[tuple[int, str]] = field(default_factory=list)

    def note(self, at: int, what: str) -> None:
        """Something is wrong at that byte."""
        if len(self.places) < MOST_PLACES:
            self.places.append((at, what))

    def note_rubbish(self, start: int, end: int, what: str) -> None:
        """The bytes from `start` on and before `end` are of no use."""
        if end > start:
            self.rubbish += end - start
            self.note(start, f"{what}: {end - start} bytes are passed over")


def read_frames(source: BinaryIO, name: str, losses: Losses) -> Iterator[Frame]:
    """The sound frames of an open file, one at a time, to its present end.

    :param losses: counts what was not sound
    Raises `NoRecording`, and `MomError` when it is of a newer version.
    """
    start = source.read(len(START))
    begins_well = bool(start) and start[: len(MAGIC)] == MAGIC[: len(start)]
    if begins_well and len(start) < len(START):
        losses.cut_off = True
        return
    if begins_well:
        version, again = struct.unpack("<HH", start[len(MAGIC) :])
        if version == again > VERSION:
            raise MomError(f"{name} is of version {version}; this mom reads up to {VERSION}", hint="upgrade mom-plugins-record")
    at = len(START) if begins_well else 0  # the beginning may be all that is damaged
    search = _Search(source)
    expected = 0
    while True:
        frame = _next(search, at, losses)
        if frame is None:
            if not begins_well and not expected:
                raise NoRecording(f"{name} is no recording of mom", hint="name a file or folder that `record` has written")
            return
        if frame.number > expected:
            losses.frames += frame.number - expected
            if frame.at == at:
                losses.note(at, f"{frame.number - expected} frames are missing before it")
        search.unpacked += frame.size if _may_unpack_to(frame.size, len(frame.packed)) else 0
        if search.unpacked > UNPACKED + UNPACKED_RATIO * search.size:
            losses.note_rubbish(frame.at, search.size, "its frames unpack to more than those of a recording: the rest is not read")
            return
        expected = frame.number + 1
        at = frame.at + HEADER.size + len(frame.packed)
        yield frame


@dataclass(frozen=True, slots=True)
class _NoFrame:
    """Why there is no frame at a place, and how many bytes it has cost to see that. `cut_off`: because the file ends."""

    why: str
    cost: int = FALSE_FRAME
    cut_off: bool = False


class _Search:
    """An open file, which is searched for frames from front to back."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._chunk = b""
        self._begins = 0  # where the chunk does
        self.size = os.fstat(source.fileno()).st_size
        self.left = SEARCHED + SEARCHED_RATIO * self.size
        """Bytes that may still be read in vain."""
        self.unpacked = 0
        """Bytes that the frames so far say they unpack to."""

    def frame(self, at: int) -> Frame | _NoFrame | None:
        """The frame at that byte; None: the file ends there."""
        self._source.seek(at)
        header = self._source.read(HEADER.size)
        if not header:
            return None
        if header[: len(MARK)] != MARK[: len(header)]:
            return _NoFrame("no frame begins here")
        if len(header) < HEADER.size:
            return _NoFrame("it is cut off", cut_off=True)
        _, kind, number, key, length, size, stated = HEADER.unpack(header)
        if kind not in _KINDS or length > LARGEST_BODY + OVERHEAD:
            return _NoFrame("a frame's header is damaged")
        packed = self._source.read(length)
        if len(packed) < length:
            return _NoFrame("a frame's length is damaged", FALSE_FRAME + len(packed), cut_off=True)
        if checksum(kind, number, key, size, packed) != stated:
            return _NoFrame("a frame's checksum is wrong", FALSE_FRAME + length)
        return Frame(FrameKind(kind), number, key, packed, size, at)

    def next_mark(self, at: int) -> int | None:
        """Where the first mark from there on begins, if there is one. `at` is never less than the last time: each byte is read once."""
        if at > self._begins + len(self._chunk):
            self._begins, self._chunk = at, b""
        while True:
            found = self._chunk.find(MARK, max(0, at - self._begins))
            if found >= 0:
                return self._begins + found
            self._source.seek(self._begins + len(self._chunk))
            more = self._source.read(CHUNK)
            if not more:
                return None
            kept = self._chunk[-(len(MARK) - 1) :]
            self._begins += len(self._chunk) - len(kept)
            self._chunk = kept + more


_KINDS = frozenset(int(kind) for kind in FrameKind)


def _next(search: _Search, start: int, losses: Losses) -> Frame | None:
    """The first frame from that byte on, if there is one; what had to be passed over is noted."""
    at = start
    why = ""
    while True:
        found = search.frame(at)
        if not isinstance(found, _NoFrame):
            losses.note_rubbish(start, at, why)
            return found
        why = why or found.why
        search.left -= found.cost
        if search.left < 0:
            losses.note_rubbish(start, max(search.size, at), "too much looks like a frame and is none: the rest is not searched")
            return None
        following = search.next_mark(at + 1)
        if following is None:
            losses.cut_off = found.cut_off
            losses.note_rubbish(start, at if found.cut_off else max(search.size, at), why)
            return None
        at = following
