"""Orders about libvirt's guests: a UUID, whole numbers, and the name of a device or a set of CPUs. They have no paths and no XML."""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final, NamedTuple, Self
from uuid import UUID

SOCKET: Final = "/run/mom-libvirt-helper/socket"
"""SOCK_SEQPACKET. Answers are those of `mom_helper.orders`, with an error of libvirt in `a` and `b`."""

NOT_GIVEN: Final = -(1 << 63)  # this value stays unchanged
ANY_START: Final = -1  # any start of the guest
MOST_TEXT: Final = 128 << 10  # bytes of an answer's text, which comes from a guest's agent

CPU_LIMITS: Final = ("vcpu_quota", "vcpu_period", "cpu_shares")
DISK_LIMITS: Final = tuple(f"{part}_{unit}_sec" for unit in ("bytes", "iops") for part in ("total", "read", "write"))
NET_LIMITS: Final = tuple(
    f"{direction}.{limit}" for direction in ("inbound", "outbound") for limit in ("average", "peak", "burst", "floor")
)
"""libvirt's names of the values of an order, in sequence."""

_FILES: Final = tuple(f'"path": "/proc/{name}", "mode": "r"' for name in ("meminfo", "vmstat", "pressure/memory", "loadavg"))
AGENT_COMMANDS: Final = (
    *(f'{{"execute": "guest-{name}"}}' for name in ("info", "get-osinfo", "get-load")),
    *(f'{{"execute": "guest-file-open", "arguments": {{{file}}}}}' for file in _FILES),
    '{"execute": "guest-file-read", "arguments": {"handle": %d, "count": 16384}}',
    '{"execute": "guest-file-close", "arguments": {"handle": %d}}',
)
"""Commands for a guest's agent; `%d` is a value of the order."""

_FORM: Final = struct.Struct("<II16sq128s8q")


class GuestOrderNumber(IntEnum):
    """Orders, and the meaning of their `values`."""

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
    """Order about the guest `uuid`, with libvirt's number `start` of this run. `what` is the name of a device, or a bit set of numbers."""

    number: int
    id: int = 0
    uuid: bytes = bytes(16)
    start: int = ANY_START
    what: bytes = b""
    values: tuple[int, ...] = ()

    def packed(self) -> bytes:
        """Return the message. Raises `struct.error` if a number has more than 64 bits."""
        return _FORM.pack(*self[:5], *self.values, *[NOT_GIVEN] * (8 - len(self.values)))

    @classmethod
    def parsed(cls, message: bytes) -> list[Self]:
        """Return the order in a message. Raises `struct.error` for other messages."""
        number, identity, uuid, start, what, *values = _FORM.unpack(message)
        return [cls(number, identity, uuid, start, what.rstrip(b"\0"), tuple(values))]

    def __str__(self) -> str:
        """Return a line of the journal."""
        names = {int(number): number.name.lower() for number in GuestOrderNumber}
        words = [name] if (name := ascii(self.what)[2:-1]) else []
        words += ("-" if value == NOT_GIVEN else str(value) for value in self.values)
        return f"guest {UUID(bytes=self.uuid)}: {names.get(self.number, self.number)} {' '.join(words)}".rstrip(" -")
