"""The orders about libvirt's guests: a UUID, whole numbers, and the name of a device or a set of CPUs. None has a path or XML."""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final, NamedTuple, Self
from uuid import UUID

SOCKET: Final = "/run/mom-libvirt-helper/socket"
"""SOCK_SEQPACKET: a message comes whole or not at all. Answers are those of `mom_helper.orders`; an error of libvirt is in `a` and `b`."""

NOT_GIVEN: Final = -(1 << 63)  # a value that stays as it is
ANY_START: Final = -1  # the guest is meant however often it was started
MOST_TEXT: Final = 128 << 10  # bytes of an answer's text: what a guest's agent says

CPU_LIMITS: Final = ("vcpu_quota", "vcpu_period", "cpu_shares")
DISK_LIMITS: Final = tuple(f"{what}_{unit}_sec" for unit in ("bytes", "iops") for what in ("total", "read", "write"))
NET_LIMITS: Final = tuple(f"{way}.{what}" for way in ("inbound", "outbound") for what in ("average", "peak", "burst", "floor"))
"""libvirt's names of the values of an order, in this order."""

_FILES: Final = tuple(f'"path": "/proc/{name}", "mode": "r"' for name in ("meminfo", "vmstat", "pressure/memory", "loadavg"))
AGENT_COMMANDS: Final = (
    *(f'{{"execute": "guest-{name}"}}' for name in ("info", "get-osinfo", "get-load")),
    *(f'{{"execute": "guest-file-open", "arguments": {{{file}}}}}' for file in _FILES),
    '{"execute": "guest-file-read", "arguments": {"handle": %d, "count": 16384}}',
    '{"execute": "guest-file-close", "arguments": {"handle": %d}}',
)
"""What a guest's agent may be asked; `%d` is a value of the order."""

_FORM: Final = struct.Struct("<II16sq128s8q")


class GuestOrderNumber(IntEnum):
    """What can be ordered, and the order's `values`."""

    LIST = 1  # the answer's text is this destination, of those that root declares. ENOENT: there is none
    BALLOON = 2  # KiB
    GIVE = 3  # KiB, by QEMU's monitor, which does not wait for the end of a move. The answer's text is QEMU's
    PERIOD = 4  # how many seconds apart libvirt reads statistics
    CPU = 5  # CPU_LIMITS
    DISK = 6  # DISK_LIMITS of the disk `what`
    NET = 7  # NET_LIMITS of the network interface `what`
    PIN = 8  # a virtual CPU, and how many CPUs the host has: it runs on the CPUs `what`
    NODES = 9  # new memory comes from the NUMA nodes `what`
    PAUSE = 10
    RESUME = 11
    SHUTDOWN = 12
    SAVE = 13  # in the file that libvirt manages
    START = 14  # a guest that was saved, or was shut down by an order
    ABORT = 15  # of what libvirt does with the guest
    MIGRATE = 16  # the number of a destination
    AGENT = 17  # the number of one of AGENT_COMMANDS, its value, and the seconds to wait. The answer's text is the agent's


class GuestOrder(NamedTuple):
    """An order about the guest `uuid`, which libvirt has given the number `start` when it was started. `what` is the name of a device, or a
    set of numbers: a bit for each, the lowest first."""

    number: int
    id: int = 0
    uuid: bytes = bytes(16)
    start: int = ANY_START
    what: bytes = b""
    values: tuple[int, ...] = ()

    def packed(self) -> bytes:
        """Return the order as it is sent. Raises `struct.error` where a number has more than 64 bits."""
        return _FORM.pack(*self[:5], *self.values, *[NOT_GIVEN] * (8 - len(self.values)))

    @classmethod
    def parsed(cls, message: bytes) -> list[Self]:
        """Return the order in a message. Raises `struct.error` where there is none."""
        number, identity, uuid, start, what, *values = _FORM.unpack(message)
        return [cls(number, identity, uuid, start, what.rstrip(b"\0"), tuple(values))]

    def __str__(self) -> str:
        """Return a line of the journal."""
        named = {int(known): known.name.lower() for known in GuestOrderNumber}
        words = [name] if (name := ascii(self.what)[2:-1]) else []
        words += ("-" if value == NOT_GIVEN else str(value) for value in self.values)
        return f"guest {UUID(bytes=self.uuid)}: {named.get(self.number, self.number)} {' '.join(words)}".rstrip(" -")
