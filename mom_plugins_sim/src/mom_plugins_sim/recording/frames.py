"""Frames in a file: each with a checksum and a number, so that what is damaged is noticed, and what is sound is still read.

A file begins with `MAGIC` and the format's version. Each frame is a header (`HEADER`) and a body, which is compressed. A reader that meets
rubbish looks for the next mark; the frames' numbers tell how many it has lost.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import BinaryIO

from mom_core import MomError

MAGIC = b"mom recording\n"
VERSION = 1
START = MAGIC + struct.pack("<HH", VERSION, VERSION)
"""The version stands there twice: a flipped bit in one of them is no newer version."""

MARK = b"\xf5mOm"
"""How a frame begins; not valid UTF-8, so no text holds it."""

HEADER = struct.Struct("<4sBxxxIIIII")
"""Mark, kind, number of the frame, number of the frame that it builds on, length of the body, length when unpacked, checksum."""

LARGEST_BODY = 16 << 20
"""Bytes that one unpacked frame may have: a cycle of 100,000 guests has 15 MiB. A bomb is refused before it is unpacked."""

LEVEL = 6
"""zlib's own default: level 1 takes half the time and a tenth more bytes, level 9 three times the time for a hundredth less."""


class Kind(IntEnum):
    """What a frame holds."""

    SESSION = 1  #: what does not change with each cycle: fields, plugins, configuration, policies
    KEY = 2  #: a cycle by itself
    CYCLE = 3  #: a cycle as it differs from the last key
    MEMORY = 4  #: what the policies remembered after the cycle before this frame


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: `number` counts all frames of a file from 0, `key` is the number of the frame that it builds on (its own: none)."""

    kind: Kind
    number: int
    key: int
    packed: bytes
    size: int

    def unpack(self, dictionary: bytes = b"") -> bytes:
        """The body. Raises `MomError` when it is not what it says, or too large."""
        if self.size > LARGEST_BODY:
            raise MomError(f"a frame of {self.size} bytes is no frame of a recording")
        unpacker = zlib.decompressobj(zdict=dictionary) if dictionary else zlib.decompressobj()
        try:
            body = unpacker.decompress(self.packed, self.size + 1)
        except zlib.error as error:
            raise MomError(f"a frame cannot be unpacked: {error}") from error
        if len(body) != self.size or not unpacker.eof:
            raise MomError("a frame is not as long as it says")
        return body


def pack(kind: Kind, number: int, key: int, body: bytes, dictionary: bytes = b"") -> bytes:
    """A frame as bytes. `dictionary`: what the body is likely to repeat; a reader must have it too."""
    packer = zlib.compressobj(LEVEL, zdict=dictionary) if dictionary else zlib.compressobj(LEVEL)
    packed = packer.compress(body) + packer.flush()
    return HEADER.pack(MARK, kind, number, key, len(packed), len(body), checksum(kind, number, key, len(body), packed)) + packed


def checksum(kind: int, number: int, key: int, size: int, packed: bytes) -> int:
    """CRC-32 of all that a frame holds: it is to find damage, not forgery."""
    return zlib.crc32(packed, zlib.crc32(struct.pack("<BIII", kind, number, key, size)))


class NoRecording(MomError):
    """Nothing in a file is a recording's."""


@dataclass(slots=True)
class Losses:
    """What a reader could not use: frames that are missing or damaged, bytes that are no frame, and whether the end was cut off."""

    frames: int = 0
    rubbish: int = 0
    cut_off: bool = False


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
            raise MomError(f"{name} is of version {version}; this mom reads up to {VERSION}", hint="pip install --upgrade mom-plugins-sim")
    else:
        source.seek(0)  # the beginning may be all that is damaged
    expected = 0
    while True:
        frame = _next(source, losses)
        if frame is None:
            if not begins_well and not expected:
                raise NoRecording(f"{name} is no recording of mom", hint="name a file or folder that `record` has written")
            return
        if frame.number > expected:
            losses.frames += frame.number - expected
        expected = frame.number + 1
        yield frame


def _next(source: BinaryIO, losses: Losses) -> Frame | None:
    while True:
        at = source.tell()
        header = source.read(HEADER.size)
        if not header:
            return None
        if header[: len(MARK)] == MARK[: len(header)] and len(header) < HEADER.size:
            losses.cut_off = True
            return None
        frame = _frame(header, source) if header[: len(MARK)] == MARK and len(header) == HEADER.size else None
        if isinstance(frame, Frame):
            return frame
        if not _find_mark(source, at + 1, losses):
            if frame == _CUT_OFF:
                losses.cut_off = True
            return None


_CUT_OFF = "cut off"


def _frame(header: bytes, source: BinaryIO) -> Frame | str | None:
    """The frame, or why there is none."""
    _, kind, number, key, length, size, stated = HEADER.unpack(header)
    if length > LARGEST_BODY or kind not in set(Kind):
        return None
    packed = source.read(length)
    if len(packed) < length:
        return _CUT_OFF
    if checksum(kind, number, key, size, packed) != stated:
        return None
    return Frame(Kind(kind), number, key, packed, size)


def _find_mark(source: BinaryIO, start: int, losses: Losses) -> bool:
    """Go to the next mark from there on."""
    source.seek(start)
    kept = b""
    at = start
    while chunk := source.read(1 << 20):
        found = (kept + chunk).find(MARK)
        if found >= 0:
            position = at - len(kept) + found
            losses.rubbish += position - start + 1
            source.seek(position)
            return True
        at += len(chunk)
        kept = (kept + chunk)[-(len(MARK) - 1) :]
    losses.rubbish += at - start + 1
    return False
