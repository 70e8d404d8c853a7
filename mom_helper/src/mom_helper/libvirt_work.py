"""Execution of requests about libvirt's guests. Each connection has its own process, which exits if libvirt does not answer."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, cast

import libvirt  # type: ignore[import-untyped]  # it has no types
import libvirt_qemu  # type: ignore[import-untyped]  # it has no types

from mom_helper.declarations import Declared
from mom_helper.kernel import Allowance
from mom_helper.libvirt_orders import AGENT_COMMANDS, ANY_START, CPU_LIMITS, DISK_LIMITS, MOST_TEXT, NET_LIMITS, NOT_GIVEN, GuestOrder
from mom_helper.libvirt_orders import GuestOrderNumber as Number
from mom_helper.work import PAUSE_SECONDS, Done, attend, numbered

_LIVE: Final = libvirt.VIR_DOMAIN_AFFECT_LIVE
_SECONDS: Final = {Number.SAVE: 86400, Number.MIGRATE: 86400, Number.START: 3600, Number.AGENT: 130}  # time limits of requests
_REACH_SECONDS: Final = 10  # time limit of a connection to another host's libvirt
_DEVICE: Final = re.compile(rb"[A-Za-z0-9_.-]{1,32}")
_KIB: Final = range(1 << 10, 1 << 42)
_CPUS: Final = range(1025)
_CPU: Final = {"vcpu_quota": range(-1, 1 << 44), "vcpu_period": range(1000, 1000001), "cpu_shares": range(2, 262145)}


class GuestWork:
    """Executor of requests from mom's user.

    :param stopped: root's folder with a file for each guest that was shut down on request
    """

    def __init__(self, declared: Declared, uri: str, stopped: str, log: Callable[[str], None], user: int) -> None:
        libvirt.registerErrorHandler(lambda *_: None, None)  # keep libvirt from printing
        os.makedirs(stopped, 0o700, exist_ok=True)
        self._uri, self._stopped, self.log, self.user = uri, stopped, log, user
        self._destinations, self._orders = list(declared.destinations.values()), Allowance(declared.orders, seconds=3)
        self._peer, self._libvirt = -1, cast(Any, None)
        self._ways: dict[int, Callable[[Any, GuestOrder], object]] = {
            Number.BALLOON: lambda domain, order: domain.setMemoryFlags(_value(order, 0, _KIB), _LIVE),
            Number.GIVE: self._give,
            Number.PERIOD: lambda domain, order: domain.setMemoryStatsPeriod(_value(order, 0, range(86401)), _LIVE),
            Number.CPU: lambda domain, order: domain.setSchedulerParametersFlags(_limits(order, CPU_LIMITS), _LIVE),
            Number.DISK: lambda domain, order: domain.setBlockIoTune(_device(order), _limits(order, DISK_LIMITS), _LIVE),
            Number.NET: lambda domain, order: domain.setInterfaceParameters(_device(order), _limits(order, NET_LIMITS), _LIVE),
            Number.PIN: lambda domain, order: domain.pinVcpuFlags(_value(order, 0, _CPUS), _bits(order, _value(order, 1, _CPUS)), _LIVE),
            Number.NODES: lambda domain, order: domain.setNumaParameters({"numa_nodeset": _numbers(order)}, _LIVE),
            Number.PAUSE: lambda domain, _: domain.suspend(),
            Number.RESUME: lambda domain, _: domain.resume(),
            Number.SHUTDOWN: self._shut_down,
            Number.SAVE: lambda domain, _: _defined(domain).managedSave(0),
            Number.START: self._start,
            Number.ABORT: lambda domain, _: domain.abortJob(),
            Number.MIGRATE: self._migrate,
            Number.AGENT: self._ask_agent,
        }

    def attend(self, connection: socket.socket) -> None:
        """Execute a connection's requests."""
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # the default action ends this process, even within a call of libvirt
        fcntl.fcntl(connection, fcntl.F_SETOWN, os.getpid())
        self._peer = connection.fileno()
        attend(connection, self._follow, self.log, GuestOrder.parsed)

    def _follow(self, order: GuestOrder, descriptors: Sequence[int]) -> Done:
        # Raise `OSError` to refuse a request; errors of libvirt are in the answer.
        while not self._orders.take():
            time.sleep(PAUSE_SECONDS)
        if order.number == Number.LIST:
            return Done(text=numbered(self._destinations, order.values[0]).encode())
        if order.number not in self._ways or descriptors:
            raise OSError(errno.EINVAL, "the request is unknown, or has a wrong number of descriptors")
        say = (lambda _: None) if order.number == Number.AGENT else self.log  # do not log: agent commands change nothing
        with self._limited(_SECONDS.get(Number(order.number), 30)):
            try:
                if self._libvirt is None or not self._libvirt.isAlive():
                    self._libvirt = libvirt.open(self._uri)
                domain = self._libvirt.lookupByUUID(order.uuid)
                if order.start not in {ANY_START, domain.ID()}:
                    raise ProcessLookupError(errno.ESRCH, "the guest has ended, or was restarted")
                say(f"{domain.name()}, {order}")
                answer = self._ways[order.number](domain, order)
            except libvirt.libvirtError as error:
                say(f"libvirt refused: {order}: {error}")
                return Done(error.get_error_code() or 0, error.get_int1() or 0, text=str(error).encode()[:300], error=errno.EIO)
        return Done(text=answer.encode()[:MOST_TEXT]) if isinstance(answer, str) else Done()

    @contextmanager
    def _limited(self, seconds: int) -> Iterator[None]:
        # End this process after this time, or when the client disconnects. libvirt then cancels a migration that is running.
        flags = fcntl.fcntl(self._peer, fcntl.F_GETFL)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        fcntl.fcntl(self._peer, fcntl.F_SETFL, flags | os.O_ASYNC)  # SIGIO, on input or disconnection, ends this process
        try:
            if select.select([self._peer], [], [], 0)[0]:
                raise OSError(errno.EPROTO, "the client sent the next request before the answer to this one")
            yield
        finally:
            fcntl.fcntl(self._peer, fcntl.F_SETFL, flags)
            signal.setitimer(signal.ITIMER_REAL, 0)

    @staticmethod
    def _give(domain: Any, order: GuestOrder) -> object:
        command = f'{{"execute": "balloon", "arguments": {{"value": {_value(order, 0, _KIB) << 10}}}}}'
        return libvirt_qemu.qemuMonitorCommand(domain, command, 0)

    def _shut_down(self, domain: Any, order: GuestOrder) -> None:
        _defined(domain).shutdown()
        os.close(os.open(f"{self._stopped}/{order.uuid.hex()}", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))

    def _start(self, domain: Any, order: GuestOrder) -> None:
        note = f"{self._stopped}/{order.uuid.hex()}"
        if not domain.hasManagedSaveImage() and not os.access(note, os.F_OK):
            raise OSError(errno.EPERM, "mom has neither saved nor shut down this guest")
        domain.create()
        with suppress(FileNotFoundError):
            os.unlink(note)

    def _migrate(self, domain: Any, order: GuestOrder) -> None:
        uri, _, way = numbered(self._destinations, order.values[0]).partition(" ")
        signal.setitimer(signal.ITIMER_REAL, _REACH_SECONDS)
        destination = libvirt.open(uri)
        signal.setitimer(signal.ITIMER_REAL, _SECONDS[Number.MIGRATE])
        flags = libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_ABORT_ON_ERROR
        if domain.isPersistent():  # afterwards only the destination defines the guest, so that it cannot start twice
            flags |= libvirt.VIR_MIGRATE_PERSIST_DEST | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
        domain.migrate3(destination, {libvirt.VIR_MIGRATE_PARAM_URI: way} if way else {}, flags)

    @staticmethod
    def _ask_agent(domain: Any, order: GuestOrder) -> object:
        command = numbered(AGENT_COMMANDS, order.values[0]).replace("%d", str(order.values[1]))
        return libvirt_qemu.qemuAgentCommand(domain, command, _value(order, 2, range(1, 61)), 0)


def _value(order: GuestOrder, at: int, bounds: range) -> int:
    if order.values[at] not in bounds:
        raise OSError(errno.ERANGE, f"value {at + 1} is out of range")
    return order.values[at]


def _limits(order: GuestOrder, names: Sequence[str]) -> dict[str, int]:
    return {name: _value(order, at, _CPU.get(name, range(1 << 60))) for at, name in enumerate(names) if order.values[at] != NOT_GIVEN}


def _device(order: GuestOrder) -> str:
    if not _DEVICE.fullmatch(order.what):
        raise OSError(errno.EINVAL, "this is not a valid device name")
    return order.what.decode()


def _bits(order: GuestOrder, count: int) -> Sequence[bool]:
    return tuple(bool(int.from_bytes(order.what, "little") >> number & 1) for number in range(count))


def _numbers(order: GuestOrder) -> str:
    return ",".join(str(number) for number, bit in enumerate(_bits(order, 8 * len(order.what))) if bit)


def _defined(domain: Any) -> Any:
    if not domain.isPersistent():
        raise OSError(errno.EOPNOTSUPP, "the guest is transient: once stopped, libvirt cannot start it again")
    return domain
