"""File of a recording: groups of lines. Each line is a checksum and JSON. Each group is a zstd stream.

Damage makes the rest of its group unreadable. Each line reaches the file without delay.
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
"""First bytes of each group: a skippable zstd frame (RFC 8878, 3.1.2)."""

LARGEST_LINE: Final = 16 << 20
"""Maximum length of a line in bytes: enough for 20,000 guests. This limits the reader's memory."""

TOO_LARGE: Final = f"larger than {format_kib(LARGEST_LINE / 1024)}"

SLICE: Final = 1024
"""Packed bytes to unpack at a time, into at most 32 MiB."""

CHUNK: Final = 1 << 20
"""Bytes to read at a time."""

PARAMETERS: Final = zstandard.ZstdCompressionParameters.from_level(1, window_log=22, hash_log=18)
"""zstd with a window of 4 MiB, for several similar cycles of 1,000 guests."""

WINDOW: Final = 1 << 23


class Corrupt(MomError):
    """Error: content that mom's recorder has not written."""


class NoRecording(MomError, ValueError):
    """Error: path without a recording."""


class GroupPacker:
    """Compressor for the lines of one group."""

    def __init__(self) -> None:
        self._stream = zstandard.ZstdCompressor(compression_params=PARAMETERS).compressobj()

    def line(self, text: bytes) -> bytes:
        """Return the bytes to append to the file for a line."""
        line = b"%s %b\n" % (checksum(text).encode(), text)
        return self._stream.compress(line) + self._stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)

    def end(self) -> bytes:
        """Return the last bytes of the group."""
        return self._stream.flush()


def checksum(text: bytes) -> str:
    """Return the CRC-32 in hexadecimal. It detects damage, not forgery."""
    return f"{zlib.crc32(text):08x}"


class RecordingFile:
    """File of a recording, open for reading. Lines that mom appends later are not read.

    Opening raises `OSError`, `NoRecording` for another kind of file, and `MomError` for another format.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._source = _open(path)
        self.groups, self._size = _groups_in(self._source)
        """Offsets of the groups in the file."""
        if not self.groups:
            self._source.seek(0)
            other = re.match(re.escape(_FRAME) + rb"(\d+)\n", self._source.read(len(MARK) + 8))
            self.close()
            if other:
                message = f"{path} has format {int(other[1])}, but this mom reads format {VERSION}"
                raise MomError(message, hint="use the version of mom that wrote it")
            raise NoRecording(f"{path} is not a recording of mom", hint="give the path of a file or folder that the record plugin wrote")

    def close(self) -> None:
        """Close the file."""
        self._source.close()

    def lines(self, group: int) -> Iterator[bytes]:
        """Yield the JSON of a group's lines. Raise `OSError`, or `Corrupt` after the last intact line of a damaged group."""
        begins, ends = [*self.groups, self._size][group : group + 2]
        unpacker = zstandard.ZstdDecompressor(max_window_size=WINDOW).decompressobj()
        text = bytearray()
        for at in range(begins + len(MARK), ends, SLICE):
            self._source.seek(at)
            size, line = len(text), 0
            try:
                text += unpacker.decompress(self._source.read(min(SLICE, ends - at)))
            except zstandard.ZstdError as error:
                raise Corrupt(f"a group cannot be unpacked: {error}") from error
            while (end := text.find(b"\n", max(line, size))) >= 0:  # no newline before `size`
                yield _checked_line(bytes(text[line:end]))
                line = end + 1
            del text[:line]
            if len(text) > LARGEST_LINE:
                raise Corrupt(f"a line is {TOO_LARGE}")
        is_last = group + 1 == len(self.groups)  # a growing file has no end
        if (text or unpacker.unused_data) if unpacker.eof else not is_last:
            raise Corrupt("a group has no proper end")


def _checked_line(line: bytes) -> bytes:
    stated, text = line[:8], line[9:]
    if checksum(text).encode() != stated:
        raise Corrupt("a line's checksum is wrong")
    return text


def _open(path: Path) -> BinaryIO:
    # Raise `NoRecording` for other files, such as pipes.
    number = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # does not wait for a pipe's writer
    if stat.S_ISREG(os.fstat(number).st_mode):
        return os.fdopen(number, "rb")
    os.close(number)
    raise NoRecording(f"{path} is not a regular file", hint=f"give the path of a folder with files *{SUFFIX}, or of one such file")


def _groups_in(source: BinaryIO) -> tuple[list[int], int]:
    places, end, tail = [], 0, b""
    while chunk := source.read(CHUNK):
        text = tail + chunk
        places += [end - len(tail) + match.start() for match in re.finditer(re.escape(MARK), text)]
        end += len(chunk)
        tail = text[-len(MARK) + 1 :]
    return places, end
