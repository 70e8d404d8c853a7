"""What is done for each order. Whatever an order says, this looks for itself: what root declared, and who the kernel says is a guest."""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Final, NamedTuple

from mom_helper.before import Before, KernelNumber
from mom_helper.declarations import Declared, WritableFile
from mom_helper.guests import UNIFIED, Guest, Guests, guest_of, hierarchies
from mom_helper.kernel import Allowance, OrderLog, opened
from mom_helper.orders import PROCESS_FILES, Order, OrderNumber

CREDENTIALS: Final = struct.Struct("3i")
"""The kernel's `struct ucred`: process, user, group."""

PRESSURE_FILE: Final = "/proc/pressure/memory"
_WINDOW_US: Final = range(500_000, 10_000_001)
"""The kernel's own bounds of a window."""

_LEAST_STALL_US: Final = 10_000
_TRIGGERS_PER_SECOND: Final = 1 / 30


class Done(NamedTuple):
    """What came of an order: numbers, text, and descriptors for the engine."""

    a: int = 0
    b: int = 0
    text: bytes = b""
    descriptors: Sequence[int] = ()


class Work:
    """The orders of the engine, a process of the user `user`."""

    def __init__(self, declared: Declared, before: Before, log: OrderLog, user: int) -> None:
        self._before, self.log, self.user = before, log, user
        self._files, self._rules = list(declared.files.values()), list(declared.rules.values())
        self._orders, self._triggers = Allowance(declared.orders, seconds=3), Allowance(_TRIGGERS_PER_SECOND, seconds=240)
        self.guests = Guests(self._rules, hierarchies(), Allowance(declared.reclaim_bytes, seconds=2))
        self._ways: Mapping[int, Callable[[Order, int], Done]] = {
            OrderNumber.LIST: self._list,
            OrderNumber.SET_KNOB: self._set_knob,
            OrderNumber.SET_GROUP: self._set_group,
            OrderNumber.OPEN: self._open,
            OrderNumber.HELD_BY_DEVICE: self._held_by_device,
            OrderNumber.PRESSURE: self._watch_pressure,
            OrderNumber.CONNECT: self._connect,
            OrderNumber.TAKER: lambda *_: Done(),  # what follows is the connection's
            OrderNumber.PUT_BACK: lambda *_: Done(*before.put_back(log)),
        }

    def follow(self, order: Order, descriptors: list[int]) -> Done:
        """Do what an order says. Raises `OSError`: what kept it from that."""
        if not self._orders.take():
            raise _refused(errno.EAGAIN)
        wanted = order.number == OrderNumber.CONNECT
        if order.number not in self._ways or len(descriptors) != wanted:
            raise _refused(errno.EINVAL)
        return self._ways[order.number](order, descriptors[0] if wanted else -1)

    def _list(self, order: Order, _: int) -> Done:
        file = self._file(order, errno.ENOENT)
        values = "max" if file.unlimited else " ".join(map(str, file.values))
        return Done(file.least, file.most, f"{file.name}\n{values}".encode(errors="surrogateescape"))

    def _set_knob(self, order: Order, _: int) -> Done:
        file = self._file(order, errno.EPERM)
        return self._write(file, order, file.name)

    def _set_group(self, order: Order, _: int) -> Done:
        file = self._file(order, errno.EPERM)
        with self._guest(order) as guest, guest.group(UNIFIED, self.guests.hierarchies[UNIFIED]) as (folder, path):
            return self._write(file, order, f"{path}/{file.name}", folder)

    def _write(self, file: WritableFile, order: Order, path: str, folder: int | None = None) -> Done:
        if file.name.startswith("/") != (folder is None):
            raise _refused(errno.EPERM)
        with KernelNumber.of(path, folder) as place:
            stood = self._before.write(place, order.b, allowed=file.allows(order.b))
        self.log(f"{path}: {order.b}, was {stood}")
        return Done()

    def _open(self, order: Order, _: int) -> Done:
        if not 0 <= order.a < len(PROCESS_FILES):
            raise _refused(errno.EPERM)
        with self._guest(order) as guest:  # its folder is of no other process: this needs no second look
            return Done(descriptors=[os.open(PROCESS_FILES[order.a], os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=guest.folder)])

    def _held_by_device(self, order: Order, _: int) -> Done:
        with self._guest(order) as guest:
            return Done(int(guest.held_by_device()))

    def _watch_pressure(self, order: Order, _: int) -> Done:
        if order.b not in _WINDOW_US or not _LEAST_STALL_US <= order.a <= order.b:
            raise _refused(errno.ERANGE)
        if not self._triggers.take():
            raise _refused(errno.EAGAIN)
        with opened(PRESSURE_FILE, os.O_RDWR) as file:
            os.write(file, b"some %d %d\0" % (order.a, order.b))
            self.log(f"{PRESSURE_FILE}: a trigger at {order.a} of {order.b} us")
            return Done(descriptors=[os.dup(file)])

    def _connect(self, _: Order, file: int) -> Done:
        """To QEMU's own sockets, and to those that libvirt, as root, makes and gives to QEMU's user."""
        found = os.fstat(file)
        if not stat.S_ISSOCK(found.st_mode) or not any(found.st_uid in rule.users for rule in self._rules):
            raise _refused(errno.EPERM)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as connection:
            connection.connect(f"/proc/self/fd/{file}")
            pid, user, _ = CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size))
            with guest_of(pid, None, self._rules) if user != 0 or found.st_uid == 0 else nullcontext():
                connection.setblocking(True)
                self.log(f"connected to a socket of user {found.st_uid}, process {pid}")
                return Done(descriptors=[connection.detach()])

    def _file(self, order: Order, error: int) -> WritableFile:
        if not 0 <= order.a < len(self._files):
            raise _refused(error)
        return self._files[order.a]

    def _guest(self, order: Order) -> AbstractContextManager[Guest]:
        return guest_of(order.c, order.d, self._rules)


def _refused(number: int) -> OSError:
    return OSError(number, os.strerror(number))
