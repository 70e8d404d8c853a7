"""A file of a recording: groups of lines, each line JSON behind its checksum, each group a stream of zstd's that needs no other.

What of a group is damaged costs its rest; the next group begins with a mark. A line is whole in the file as soon as it is written.
"""

from __future__ import annotations

import os
import re
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

import zstandard

from mom_core import MomError, format_kib

SUFFIX: Final = ".momrec"

VERSION: Final = 3
_FRAME: Final = b"\x51\x2a\x4d\x18\x10\x00\x00\x00mom recording "
MARK: Final = _FRAME + b"%d\n" % VERSION
"""How each group begins: a frame that zstd skips (RFC 8878, 3.1.2). JSON has none of its bytes but the text."""

LARGEST_LINE: Final = 16 << 20
"""Bytes: 20,000 guests. A longer one is not written, and not held when it is read."""

MOST_CELLS: Final = 4 << 20
"""Values that a line may have, 10,000 guests with 400 each, as a field may be a list for each disk or CPU: two bytes can say that there is
one, which then takes 64. A line with more is not written."""

MOST_NAMES: Final = 1 << 19
"""Names of values that a line may have, 20,000 guests with 26 each, counted by colons: of short names, a million would take 300 MiB."""

LARGEST_GROUP: Final = 64 << 20
"""Bytes in a file. 20,000 guests come to 12 MiB."""

UNPACKED: Final = 64 << 20
UNPACKED_RATIO: Final = 512
"""Bytes, and times the file's size, that all groups of a file may unpack to, twice, as the heads of groups are read first. A recording
comes to 20 times its size, and to 300 where nothing but the ages of statistics changes; zstd can do 30,000, which makes a bomb."""

SLICE: Final = 1024
"""Bytes that are unpacked at a time: to 32 MiB at the most."""

CHUNK: Final = 1 << 20
"""Bytes that are searched for marks at a time."""

PARAMETERS: Final = zstandard.ZstdCompressionParameters.from_level(1, window_log=22, hash_log=18)
"""A window of 4 MiB has several cycles of 1,000 guests, which is what a line repeats. A hash of 18 bits saves a tenth of the bytes. Level
3 takes longer for more of them."""

WINDOW: Final = 1 << 23
"""Bytes that zstd may look back, and hold, when it reads."""


class Corrupt(MomError):
    """Bytes that no recorder has written."""


class NoRecording(MomError, ValueError):
    """Nothing in a file, or in a folder, is a recording's: another one was meant."""


class GroupPacker:
    """Packs the lines of one group."""

    def __init__(self) -> None:
        self._stream = zstandard.ZstdCompressor(compression_params=PARAMETERS).compressobj()

    def line(self, text: bytes) -> bytes:
        """Return a line as bytes of the file, to be written at once."""
        line = b"%s %b\n" % (checksum(text).encode(), text)
        return self._stream.compress(line) + self._stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)

    def end(self) -> bytes:
        """Return how the group ends."""
        return self._stream.flush()


def checksum(text: bytes) -> str:
    """CRC-32: it is to find damage, not forgery."""
    return f"{zlib.crc32(text):08x}"


class RecordingFile:
    """File of a recording, open to be read, up to its present end. Raises `OSError`; `NoRecording`, and `MomError` for another version.

    `cut_off` says that the last group was read, and is not ended: it is being written, or its writer was killed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cut_off = False
        self._source = _opened(path)
        self._places, size = _groups_in(self._source)
        if not self._places and not self._only_begun(size):
            self.close()
            raise NoRecording(f"{path} is no recording of mom", hint="name a file or folder that `record` has written")
        self.rubbish = self._places[0] if self._places else 0
        """Bytes before the first group."""
        self._places.append(size)
        self._left = UNPACKED + UNPACKED_RATIO * size

    @property
    def groups(self) -> int:
        """How many there are."""
        return len(self._places) - 1

    def at(self, group: int) -> int:
        """Return the byte at which a group begins."""
        return self._places[group]

    def close(self) -> None:
        """Let the file go."""
        self._source.close()

    def lines(self, group: int) -> Iterator[bytes]:
        """Yield the JSON of a group's lines. Raises `Corrupt` after the last sound one where the rest is damaged, and `OSError`."""
        begins, ends = self._places[group : group + 2]
        if ends - begins > LARGEST_GROUP:
            raise Corrupt("a group is too large")
        self._source.seek(begins + len(MARK))
        packed = self._source.read(ends - begins - len(MARK))
        unpacker = zstandard.ZstdDecompressor(max_window_size=WINDOW).decompressobj()
        text = bytearray()
        for at in range(0, len(packed), SLICE):
            size, line = len(text), 0
            try:
                text += unpacker.decompress(packed[at : at + SLICE])
            except zstandard.ZstdError as error:
                raise Corrupt(f"a group cannot be unpacked: {error}") from error
            self._left -= len(text) - size
            while (end := text.find(b"\n", max(line, size))) >= 0:  # before `size`, there is none
                yield _sound(bytes(text[line:end]))
                line = end + 1
            del text[:line]
            if self._left < 0 or len(text) > LARGEST_LINE:
                raise Corrupt("a group unpacks to more than one of a recording")
            if unpacker.eof and (text or unpacker.unused_data or at + SLICE < len(packed)):
                raise Corrupt("a group goes on behind its end")
        if not unpacker.eof:
            if group + 1 < self.groups:
                raise Corrupt("a group is cut off")
            self.cut_off = True

    def _only_begun(self, size: int) -> bool:
        """Return True if a writer left it so that could not write more; a file of another version is an error."""
        self._source.seek(0)
        start = self._source.read(len(MARK) + 8)
        other = re.match(re.escape(_FRAME) + rb"(\d+)\n", start)
        if other:
            self.close()
            raise MomError(f"{self.path} is of version {int(other[1])}; this mom reads {VERSION}", hint="use the mom that has written it")
        self.cut_off = 0 < size < len(MARK) and MARK.startswith(start)
        return self.cut_off


def _sound(line: bytes) -> bytes:
    stated, text = line[:8], line[9:]
    if checksum(text).encode() != stated:
        raise Corrupt("a line's checksum is wrong")
    if why := why_too_large(text):
        raise Corrupt(f"a line {why}")
    return text


def why_too_large(text: bytes) -> str:
    """Return why a line like this is neither written nor read; empty: it is. One with more values than it can have is counted by what
    begins or parts them, in texts, too.
    """
    if len(text) > LARGEST_LINE:
        return f"takes more than {format_kib(LARGEST_LINE / 1024)}"
    # A shorter line cannot have so many: each value takes a byte.
    if len(text) > MOST_CELLS and sum(map(text.count, (b",", b"[", b"{"))) > MOST_CELLS:
        return f"has more than {MOST_CELLS} values"
    if len(text) > MOST_NAMES and text.count(b":") > MOST_NAMES:
        return f"has more than {MOST_NAMES} names"
    return ""


def _opened(path: Path) -> BinaryIO:
    """Return the file, open. Raises `OSError`, and `NoRecording` when it is something else, such as a pipe, which may have no end."""
    number = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe would wait for a writer
    if stat.S_ISREG(os.fstat(number).st_mode):
        return os.fdopen(number, "rb")
    os.close(number)
    raise NoRecording(f"{path} is no file", hint=f"name a folder with files *{SUFFIX}, or one such file")


def _groups_in(source: BinaryIO) -> tuple[list[int], int]:
    """Return where marks are, and where the file ends."""
    places, end, tail = [], 0, b""
    while chunk := source.read(CHUNK):
        text = tail + chunk
        places += [end - len(tail) + match.start() for match in re.finditer(re.escape(MARK), text)]
        end += len(chunk)
        tail = text[-len(MARK) + 1 :]
    return places, end
