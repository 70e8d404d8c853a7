"""The orders that the engine may give: a number, whole numbers, and at most one descriptor. There are no paths and no texts in them."""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final, NamedTuple

SOCKET: Final = "/run/mom-helper/socket"
"""Where the helper listens: SOCK_SEQPACKET, so that a message comes whole or not at all."""

ORDER: Final = struct.Struct("<IIqqqq")
"""An order, and an answer, which text may follow: what root declared."""

MOST_AT_ONCE: Final = 16
"""Orders in one message, all of them `SET`; the kernel may take 0.1 s for each, where it reclaims for it. Answers come likewise."""

MOST_TEXT: Final = 4096 + 256
"""Bytes: a path, and its bounds."""

NO_LIMIT: Final = -1
"""As a value of a file of a control group: `max`."""

PROCESS_FILES: Final = ("smaps_rollup", "maps", "numa_maps", "ksm_stat", "ksm_merging_pages")
"""Files of a guest's folder in /proc that the engine may read: sizes, and addresses of its areas. None has what stands in its memory."""

MOST_PIECE_KIB: Final = 4 << 10
"""The most that is taken by one order, where that can be said. The kernel takes 10 ms for it on compressed memory."""


class OrderNumber(IntEnum):
    """What can be ordered, with what `a`, `b`, `c` and `d` are, and what is answered.

    A guest is a process id and when the process was started, in clock ticks since the boot; its control group is a process id and the
    inode of the group's folder. Two that had one number differ in these.
    """

    LIST = 1
    """What file number `a` of those that may be written is: its least and most, and as text its path (a knob) or name (of a guest's control
    group); in a second line the only values, or `max` where that is one. ENOENT: there is none."""
    SET = 2
    """Write `b` to file number `a`: a knob, or of control group `c`, `d`."""
    OPEN = 3
    """A descriptor to read file number `a` of PROCESS_FILES of guest `c`, `d`."""
    PRESSURE = 4
    """A descriptor that is ready when tasks waited for memory for `a` of `b` microseconds."""
    CONNECT = 5
    """A connection to the socket of a guest whose file is the descriptor that comes with the order."""
    PUT_BACK = 6
    """Put back all that stood there before: how many values were, and how many could not be."""
    STEP_BACK = 7
    """From now on, what follows this connection lets the guests' own threads go first, and is ended before them where memory runs out."""
    TAKE_V2 = 8
    """Take a piece of `a` KiB from the control group of guest `c`, `d`, in at most `b` microseconds. What went (KiB), whether there is
    more, and the CPU time that it took, in microseconds. ENODATA: the group holds too little."""
    TAKE_V1 = 9
    """The same of control groups v1, which cannot be told how much: as much as goes in that time."""
    TAKE_PROCESS = 10
    """Take `a` KiB of guest `c`, `d` that begin at address `b`. The same is answered."""
    RECALL = 11
    """Call back what is in swap of the same."""


class Order(NamedTuple):
    """An order: its number, an id that the answer has again, and what the number says."""

    number: int
    id: int = 0
    a: int = 0
    b: int = 0
    c: int = 0
    d: int = 0

    def __str__(self) -> str:
        """Return a line of the log."""
        return f"order {' '.join(map(str, self))}"


class Answer(NamedTuple):
    """An answer: the order's id, the kernel's number of an error (0: it was done), and what the order's number says."""

    id: int
    error: int = 0
    a: int = 0
    b: int = 0
    c: int = 0
    d: int = 0
