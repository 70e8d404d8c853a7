"""Format of mom's requests: only whole numbers and at most one descriptor."""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final, NamedTuple

SOCKET: Final = "/run/mom-helper/socket"
"""Path of the socket (SOCK_SEQPACKET): a message arrives as a whole or not at all."""

ORDER: Final = struct.Struct("<IIqqqq")
"""Format of a request or answer. A file's name may follow an answer."""

MOST_AT_ONCE: Final = 16
"""Maximum number of `SET` requests in one message. For each, the kernel may reclaim memory for 0.1 s."""

MOST_TEXT: Final = 4096
"""Maximum bytes of the path or name that may follow an answer."""

NO_LIMIT: Final = -1
"""Value that stands for `max` in a file of a control group."""

PROCESS_FILES: Final = ("smaps", "maps", "numa_maps", "ksm_stat", "ksm_merging_pages")
"""Files of guests' processes that mom may read. They contain sizes and addresses, but no contents of memory."""

MOST_PIECE_KIB: Final = 4 << 10
"""Maximum memory that one request moves. With compression, this takes 10 ms."""


class OrderNumber(IntEnum):
    """Kinds of requests, with the meaning of their values `a`, `b`, `c` and `d`, and their answers.

    Where `c` and `d` identify a guest, they are its PID and start time (in clock ticks since boot). Where they identify the guest's control
    group, they are the PID and the inode of the group's folder. So a reused PID does not match.
    """

    LIST = 1
    """Return the file with number `a` among those that mom may write. The answer's text is the path of a knob, or the name of a file in
    control groups. ENOENT if there is no such number."""
    SET = 2
    """Write `b` to the file with number `a`: a knob, or a file of the control group `c`, `d`."""
    OPEN = 3
    """Open the file with number `a` in PROCESS_FILES of the guest `c`, `d` for reading. The answer contains the descriptor."""
    CONNECT = 5
    """Connect to a guest's socket. The request contains a descriptor of the socket's file; the answer contains the connection."""
    PUT_BACK = 6
    """Restore all original values. The answer contains how many were restored, and how many failed."""
    STEP_BACK = 7
    """Lower this connection's process below the guests' CPU priority, and make it the OOM killer's first choice."""
    TAKE_V2 = 8
    """Reclaim `a` KiB from the control group of the guest `c`, `d`, in at most `b` µs. The answer contains the reclaimed KiB, whether more
    is left, and the CPU time in µs. ENODATA if the control group has too little memory."""
    TAKE_V1 = 9
    """Reclaim like `TAKE_V2`, but from a control group of v1. The kernel ignores the amount, and reclaims as much as possible in the
    time."""
    TAKE_PROCESS = 10
    """Reclaim `a` KiB of the guest `c`, `d`, beginning at the address `b`. The answer is as for `TAKE_V2`."""
    SCORE = 12
    """Set `oom_score_adj` of the guest `c`, `d` to `a`, from 0 to 1000. mom, not the helper, restores the score.
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
