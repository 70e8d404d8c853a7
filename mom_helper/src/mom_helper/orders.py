"""Requests from the engine: whole numbers, and at most one descriptor. No paths, no texts."""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final, NamedTuple

SOCKET: Final = "/run/mom-helper/socket"
"""SOCK_SEQPACKET: a message arrives whole or not at all."""

ORDER: Final = struct.Struct("<IIqqqq")
"""An answer may be followed by text: one of root's declarations."""

MOST_AT_ONCE: Final = 16
"""`SET` requests in one message: the kernel may reclaim for 0.1 s for each."""

MOST_TEXT: Final = 4096 + 256
"""Maximum size of this text in bytes: a path, and its bounds."""

NO_LIMIT: Final = -1
"""`max` in a file of a control group."""

PROCESS_FILES: Final = ("smaps", "maps", "numa_maps", "ksm_stat", "ksm_merging_pages")
"""Readable by the engine: sizes and addresses, but no content of memory."""

MOST_PIECE_KIB: Final = 4 << 10
"""Maximum per request. With compression, this takes 10 ms."""


class OrderNumber(IntEnum):
    """Requests, with the meaning of `a`, `b`, `c` and `d`, and their answers.

    Process id and start time (in clock ticks since boot) identify a guest; process id and the folder's inode identify its control group. A
    reused process id does not match.
    """

    LIST = 1
    """Describe writable file number `a`: minimum, maximum, and as text a knob's path or a control group file's name. A second line has the
    permitted values, or `max` if it is permitted. ENOENT if there is no such file.
    """
    SET = 2
    """Write `b` to file number `a`, a knob or a file of control group `c`, `d`."""
    OPEN = 3
    """Return a descriptor for reading file number `a` of PROCESS_FILES of guest `c`, `d`."""
    PRESSURE = 4
    """Return a descriptor that is ready when tasks waited for memory for `a` of `b` µs."""
    CONNECT = 5
    """Return a connection to a guest's socket, whose file is the request's descriptor."""
    PUT_BACK = 6
    """Restore all original values. Return the numbers of restored values and failures."""
    STEP_BACK = 7
    """Lower this connection's process below the guests' CPU priority, and make it the OOM killer's first choice."""
    TAKE_V2 = 8
    """Reclaim `a` KiB from the control group of guest `c`, `d`, in at most `b` µs. Return the reclaimed KiB, whether more is left, and the
    CPU time in µs. ENODATA: the group has too little memory."""
    TAKE_V1 = 9
    """Like `TAKE_V2`, for control groups v1: as much as possible in this time, without an amount."""
    TAKE_PROCESS = 10
    """Reclaim `a` KiB of guest `c`, `d` from address `b`. The answer is that of `TAKE_V2`."""
    RECALL = 11
    """Read the swapped part of this area back."""
    SCORE = 12
    """Set `oom_score_adj` of guest `c`, `d` to `a`, 0 to 1000: the kernel kills guests with a higher score first. mom itself restores the
    score.
    """


class Order(NamedTuple):
    """Request: its number, an id that the answer repeats, and values."""

    number: int
    id: int = 0
    a: int = 0
    b: int = 0
    c: int = 0
    d: int = 0

    def __str__(self) -> str:
        return f"request {' '.join(map(str, self))}"


class Answer(NamedTuple):
    """Answer: the request's id, an errno (0 for success), and values."""

    id: int
    error: int = 0
    a: int = 0
    b: int = 0
    c: int = 0
    d: int = 0
