"""Orders from the engine: a number, whole numbers, and at most one descriptor. They have no paths and no texts."""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final, NamedTuple

SOCKET: Final = "/run/mom-helper/socket"
"""SOCK_SEQPACKET: a message arrives whole or not at all."""

ORDER: Final = struct.Struct("<IIqqqq")
"""Order or answer. Text of root's declarations may follow an answer."""

MOST_AT_ONCE: Final = 16
"""Orders in one message, all of them `SET`, and their answers. The kernel may reclaim for 0.1 s for each."""

MOST_TEXT: Final = 4096 + 256
"""Bytes: a path, and its bounds."""

NO_LIMIT: Final = -1
"""`max` in a file of a control group."""

PROCESS_FILES: Final = ("smaps_rollup", "maps", "numa_maps", "ksm_stat", "ksm_merging_pages")
"""Files of a guest's folder in /proc that the engine may read: sizes, and addresses of areas, but no content of memory."""

MOST_PIECE_KIB: Final = 4 << 10
"""Most memory of one order, if the kernel takes an amount. On compressed memory it needs 10 ms."""


class OrderNumber(IntEnum):
    """Orders, with the meaning of `a`, `b`, `c` and `d`, and their answers.

    A process id and the start time identify a guest, in clock ticks since boot. A process id and the inode of the folder identify its
    control group. These differ even if the kernel uses a process id again.
    """

    LIST = 1
    """Describe writable file number `a`: least, most, and as text the path of a knob, or the name of a control group's file. A second line
    has the only values, or `max` if it is valid. ENOENT: no such file."""
    SET = 2
    """Write `b` to file number `a`, a knob or a file of control group `c`, `d`."""
    OPEN = 3
    """Answer a descriptor for reading file number `a` of PROCESS_FILES of guest `c`, `d`."""
    PRESSURE = 4
    """Answer a descriptor that is ready when tasks waited for memory for `a` of `b` microseconds."""
    CONNECT = 5
    """Answer a connection to a guest's socket. The descriptor of the order is the socket's file."""
    PUT_BACK = 6
    """Restore all original values. Answers the number of restored values, and of failures."""
    STEP_BACK = 7
    """Lower the priority of this connection's process below the guests' threads, and make it the OOM killer's first choice."""
    TAKE_V2 = 8
    """Reclaim `a` KiB from the control group of guest `c`, `d`, in at most `b` microseconds. Answers the reclaimed KiB, whether more is
    left, and the CPU time in microseconds. ENODATA: the group holds too little."""
    TAKE_V1 = 9
    """The same for control groups v1, which take no amount: as much as possible in that time."""
    TAKE_PROCESS = 10
    """Reclaim `a` KiB of guest `c`, `d` from address `b`. The same answer."""
    RECALL = 11
    """Read the swapped part of the same area back."""


class Order(NamedTuple):
    """Order: its number, an id that the answer repeats, and the number's values."""

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
    """Answer: the order's id, an errno (0: success), and the values of the order's number."""

    id: int
    error: int = 0
    a: int = 0
    b: int = 0
    c: int = 0
    d: int = 0
