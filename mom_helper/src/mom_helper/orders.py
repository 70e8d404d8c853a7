"""The orders that the engine may give: a number, whole numbers, and at most one descriptor. There are no paths and no texts in them."""

from __future__ import annotations

import struct
from enum import IntEnum, unique
from typing import Final, NamedTuple

SOCKET: Final = "/run/mom-helper/socket"
"""Where the helper listens: SOCK_SEQPACKET, so that a message comes whole or not at all."""

MOST_TEXT: Final = 4096
"""Bytes of text that an answer has at most: what root declared."""

NO_LIMIT: Final = -1
"""As a value of a file of a control group: `max`."""


@unique
class OrderNumber(IntEnum):
    """What can be ordered, with what `a`, `b` and `c` are, and what is answered.

    A guest is a process id and when the process was started, in clock ticks since the boot: two that had one number differ in it.
    """

    KNOB = 1
    """What knob number `a` is: its least and most, and its path; a line more has the values that are allowed. ENOENT: there is none."""
    GROUP_FILE = 2
    """What file number `a` of guests' control groups is, likewise: its least, whether `max` is allowed (1), and its name."""
    SET_KNOB = 3
    """Write `b` to knob number `a`."""
    SET_GROUP = 4
    """Write `b` to file number `a` of the control group of guest `c`, `d`."""
    OPEN = 5
    """A descriptor to read file number `a` of PROCESS_FILES of guest `c`, `d`."""
    HELD_BY_DEVICE = 6
    """Whether guest `c`, `d` has a device of the host (VFIO): 0 or 1."""
    PRESSURE = 7
    """A descriptor that is ready when tasks waited for memory for `a` of `b` microseconds."""
    CONNECT = 8
    """A connection to the socket of a guest whose file is the descriptor that comes with the order."""
    GIVE_GROUP = 9
    """Have the socket of the engine's own whose file is the descriptor belong to the group `a`."""
    TAKER = 10
    """A descriptor to order reclaim by: `mom_helper.taker`."""
    PUT_BACK = 11
    """Put back all that stood there before: how many values were, and how many could not be."""
    STATUS = 12
    """How many orders were carried out, and how many refused, since the helper was started."""


PROCESS_FILES: Final = ("smaps_rollup", "smaps", "numa_maps", "ksm_stat", "ksm_merging_pages")
"""Files of a guest's folder in /proc that the engine may read: sizes, and addresses of its areas. None has what stands in its memory."""

_ORDER: Final = struct.Struct("<IIqqqq")
_ANSWER: Final = struct.Struct("<IIqq")

ORDER_SIZE: Final = _ORDER.size
ANSWER_SIZE: Final = _ANSWER.size + MOST_TEXT


class Order(NamedTuple):
    """An order: its number, an id that the answer has again, and what the number says."""

    number: int
    id: int = 0
    a: int = 0
    b: int = 0
    c: int = 0
    d: int = 0

    def packed(self) -> bytes:
        """As it is sent. Raises `struct.error` where a number is too large."""
        return _ORDER.pack(*self)

    @classmethod
    def unpacked(cls, message: bytes) -> Order:
        """Raises `struct.error` where the message has another size."""
        return cls(*_ORDER.unpack(message))


class Answer(NamedTuple):
    """An answer: the order's id, the kernel's number of an error (0: it was done), and what the order's number says."""

    id: int
    error: int = 0
    a: int = 0
    b: int = 0
    text: bytes = b""

    def packed(self) -> bytes:
        """As it is sent."""
        return _ANSWER.pack(self.id, self.error, self.a, self.b) + self.text[:MOST_TEXT]

    @classmethod
    def unpacked(cls, message: bytes) -> Answer:
        """Raises `struct.error` where the message is too short."""
        id_, error, a, b = _ANSWER.unpack(message[: _ANSWER.size])
        return cls(id_, error, a, b, message[_ANSWER.size :])
