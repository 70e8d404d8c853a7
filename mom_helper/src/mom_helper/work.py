"""What is done for each order. Whatever an order says, this looks for itself: what root declared, and who the kernel says is a guest."""

from __future__ import annotations

import errno
import os
import signal
import socket
import stat
import struct
from typing import Final, NamedTuple

from mom_helper import taker
from mom_helper.before import Before, KernelNumber
from mom_helper.declarations import Declared, WritableFile
from mom_helper.guests import UNIFIED, Guest, hierarchies
from mom_helper.limits import Allowance, OrderLog
from mom_helper.orders import PROCESS_FILES, Order, OrderNumber
from mom_helper.processes import forked

CREDENTIALS: Final = struct.Struct("3i")
"""The kernel's `struct ucred`: process, user, group."""

PRESSURE_FILE: Final = "/proc/pressure/memory"
_WINDOW_US: Final = range(500_000, 10_000_001)
"""The kernel's own bounds of a window."""

_LEAST_STALL_US: Final = 10_000
_TRIGGERS_PER_SECOND: Final = 1 / 30


class Done(NamedTuple):
    """What came of an order: numbers, text, and a descriptor for the engine."""

    a: int = 0
    b: int = 0
    text: bytes = b""
    descriptor: int | None = None


class Work:
    """The orders of the engine, a process of the user `user`."""

    def __init__(self, declared: Declared, before: Before, log: OrderLog, user: int) -> None:
        self._declared, self._before, self.log, self.user = declared, before, log, user
        self._files, self._kinds = list(declared.files.values()), list(declared.kinds.values())
        self._hierarchies = hierarchies()
        self._orders, self._triggers = Allowance(declared.orders, seconds=3), Allowance(_TRIGGERS_PER_SECOND, seconds=240)
        self._taken = taker.Guests(self._kinds, self._hierarchies, Allowance(declared.reclaim_bytes, seconds=2))
        self._taker = 0

    def follow(self, order: Order, descriptors: list[int]) -> Done:
        """Do what an order says. Raises `OSError`: what kept it from that."""
        if not self._orders.take():
            raise _refused(errno.EAGAIN)
        if len(descriptors) != (order.number in {OrderNumber.CONNECT, OrderNumber.GIVE_GROUP}):
            raise _refused(errno.EINVAL)
        match order.number:
            case OrderNumber.LIST:
                file = self._file(order, errno.ENOENT)
                values = "max" if file.unlimited else " ".join(map(str, file.values))
                return Done(file.least, file.most, f"{file.name}\n{values}".encode(errors="surrogateescape"))
            case OrderNumber.SET_KNOB:
                return self._set_knob(order)
            case OrderNumber.SET_GROUP:
                return self._set_group(order)
            case OrderNumber.OPEN:
                return self._open(order)
            case OrderNumber.HELD_BY_DEVICE:
                with self._guest(order) as guest:
                    return Done(int(guest.held_by_device()))
            case OrderNumber.PRESSURE:
                return self._watch_pressure(order.a, order.b)
            case OrderNumber.CONNECT:
                return self._connect(descriptors[0])
            case OrderNumber.GIVE_GROUP:
                return self._give_group(order.a, descriptors[0])
            case OrderNumber.TAKER:
                return self._start_taker()
            case OrderNumber.PUT_BACK:
                return Done(*self._before.put_back(self.log))
        raise _refused(errno.EINVAL)

    def close(self) -> None:
        """End the taker: there is one for each connection at most."""
        if self._taker:
            os.kill(self._taker, signal.SIGKILL)
            os.waitpid(self._taker, 0)  # when the kernel has ended what it had under way
            self._taker = 0

    def _set_knob(self, order: Order) -> Done:
        file = self._file(order, errno.EPERM)
        if not file.name.startswith("/") or not file.allows(order.b):
            raise _refused(errno.ERANGE)
        stood = self._before.write(KernelNumber(file.name), order.b)
        self.log(f"{file.name}: {order.b}, was {stood}")
        return Done()

    def _set_group(self, order: Order) -> Done:
        file = self._file(order, errno.EPERM)
        if file.name.startswith("/") or not file.allows(order.b):
            raise _refused(errno.ERANGE)
        with self._guest(order) as guest:
            folder, path = guest.group(UNIFIED, self._hierarchies.get(UNIFIED, ""))
        with KernelNumber(f"{path}/{file.name}", folder) as place:
            stood = self._before.write(place, order.b)
        self.log(f"{path}/{file.name}: {order.b}, was {stood} (process {order.c})")
        return Done()

    def _open(self, order: Order) -> Done:
        if not 0 <= order.a < len(PROCESS_FILES):
            raise _refused(errno.EPERM)
        with self._guest(order) as guest:  # its folder is of no other process: this needs no second look
            return Done(descriptor=os.open(PROCESS_FILES[order.a], os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=guest.folder))

    def _watch_pressure(self, stall: int, window: int) -> Done:
        if window not in _WINDOW_US or not _LEAST_STALL_US <= stall <= window:
            raise _refused(errno.ERANGE)
        if not self._triggers.take():
            raise _refused(errno.EAGAIN)
        file = os.open(PRESSURE_FILE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.write(file, b"some %d %d\0" % (stall, window))
        except OSError:
            os.close(file)
            raise
        self.log(f"{PRESSURE_FILE}: a trigger at {stall} of {window} us")
        return Done(descriptor=file)

    def _connect(self, file: int) -> Done:
        """To QEMU's own sockets, and to those that libvirt, as root, makes and gives to QEMU's user."""
        found = os.fstat(file)
        if not stat.S_ISSOCK(found.st_mode) or not any(found.st_uid in kind.users for kind in self._kinds):
            raise _refused(errno.EPERM)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as connection:
            connection.connect(f"/proc/self/fd/{file}")
            pid, user, _ = CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size))
            if user != 0 or found.st_uid == 0:
                with Guest(pid, None, self._kinds):
                    pass
            connection.setblocking(True)
            self.log(f"connected to a socket of user {found.st_uid}, process {pid}")
            return Done(descriptor=connection.detach())

    def _give_group(self, group: int, file: int) -> Done:
        found = os.fstat(file)
        if not stat.S_ISSOCK(found.st_mode) or found.st_uid != self.user or group not in self._declared.gids:
            raise _refused(errno.EPERM)
        os.chown(f"/proc/self/fd/{file}", -1, group)
        self.log(f"a socket of the engine's belongs to group {group}")
        return Done()

    def _start_taker(self) -> Done:
        self.close()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            self._taker = forked(lambda: taker.serve(ours, self._taken), theirs)
        self.log(f"process {self._taker} reclaims memory of guests")
        return Done(descriptor=theirs.detach())

    def _file(self, order: Order, error: int) -> WritableFile:
        if not 0 <= order.a < len(self._files):
            raise _refused(error)
        return self._files[order.a]

    def _guest(self, order: Order) -> Guest:
        return Guest(order.c, order.d, self._kinds)


def _refused(number: int) -> OSError:
    return OSError(number, os.strerror(number))
