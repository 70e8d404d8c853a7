"""Format of requests about libvirt's guests. They contain neither paths nor XML."""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final, NamedTuple, Self
from uuid import UUID

SOCKET: Final = "/run/mom-libvirt-helper/socket"
"""Path of the socket (SOCK_SEQPACKET). Answers are as in `mom_helper.orders`; `a` and `b` contain the codes of libvirt's error."""

NOT_GIVEN: Final = -(1 << 63)  # this value stays unchanged
ANY_START: Final = -1  # any start of the guest
MOST_TEXT: Final = 128 << 10  # bytes of an answer's text, which comes from a guest's agent

CPU_LIMITS: Final = ("vcpu_quota", "vcpu_period", "cpu_shares")
DISK_LIMITS: Final = tuple(f"{part}_{unit}_sec" for unit in ("bytes", "iops") for part in ("total", "read", "write"))
NET_LIMITS: Final = tuple(
    f"{direction}.{limit}" for direction in ("inbound", "outbound") for limit in ("average", "peak", "burst", "floor")
)

_FILES: Final = tuple(f'"path": "/proc/{name}", "mode": "r"' for name in ("meminfo", "vmstat", "pressure/memory", "loadavg"))
AGENT_COMMANDS: Final = (
    *(f'{{"execute": "guest-{name}"}}' for name in ("info", "get-osinfo", "get-load")),
    *(f'{{"execute": "guest-file-open", "arguments": {{{file}}}}}' for file in _FILES),
    '{"execute": "guest-file-read", "arguments": {"handle": %d, "count": 16384}}',
    '{"execute": "guest-file-close", "arguments": {"handle": %d}}',
)
"""Commands that may be sent to a guest's agent. `%d` stands for a value in the request."""

_FORM: Final = struct.Struct("<II16sq128s8q")


class GuestOrderNumber(IntEnum):
    """Kinds of requests. The comments say what their `values` are."""

    LIST = 1  # number of a declared destination. The answer's text is the destination. ENOENT if there is no such number
    BALLOON = 2  # KiB
    GIVE = 3  # KiB, through QEMU's monitor, also during a migration. The answer's text is QEMU's answer
    PERIOD = 4  # s between libvirt's reads of balloon statistics
    CPU = 5  # CPU_LIMITS
    DISK = 6  # DISK_LIMITS of the disk `what`
    NET = 7  # NET_LIMITS of the network interface `what`
    PIN = 8  # vCPU and number of host CPUs: pin the vCPU to the CPUs `what`
    NODES = 9  # allocate new memory on the NUMA nodes `what`
    PAUSE = 10
    RESUME = 11
    SHUTDOWN = 12
    SAVE = 13  # to the file that libvirt manages
    START = 14  # a saved guest, or a guest that a request has shut down
    ABORT = 15  # libvirt's present job of the guest
    MIGRATE = 16  # number of a destination
    AGENT = 17  # number in AGENT_COMMANDS, its value, and the time limit in s. The answer's text is the agent's answer


class GuestOrder(NamedTuple):
    """Request about the guest `uuid`. `start` is libvirt's domain ID, which is new at each start of the guest.

    `what` is a device's name, or a bit set of CPUs or NUMA nodes.
    """

    number: int
    id: int = 0
    uuid: bytes = bytes(16)
    start: int = ANY_START
    what: bytes = b""
    values: tuple[int, ...] = ()

    def packed(self) -> bytes:
        """Return the message. Raise `struct.error` for a value above 64 bits."""
        return _FORM.pack(*self[:5], *self.values, *[NOT_GIVEN] * (8 - len(self.values)))

    @classmethod
    def parsed(cls, message: bytes) -> list[Self]:
        """Return a list with the message's only request. Raise `struct.error` if the message is malformed."""
        number, identity, uuid, start, what, *values = _FORM.unpack(message)
        return [cls(number, identity, uuid, start, what.rstrip(b"\0"), tuple(values))]

    def __str__(self) -> str:
        names = {int(number): number.name.lower() for number in GuestOrderNumber}
        words = [name] if (name := ascii(self.what)[2:-1]) else []
        words += ("-" if value == NOT_GIVEN else str(value) for value in self.values)
        return f"guest {UUID(bytes=self.uuid)}: {names.get(self.number, self.number)} {' '.join(words)}".rstrip(" -")
