"""Changes of guests, through mom-libvirt-helper or, if libvirt permits, by mom itself."""

# ruff: noqa: D102, N802  # libvirt's names

from __future__ import annotations

import errno
import os
import re
import select
import socket
import struct
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit
from uuid import UUID

from mom_core import PermissionDenied
from mom_helper import libvirt_orders as orders
from mom_helper.libvirt_orders import GuestOrder
from mom_helper.libvirt_orders import GuestOrderNumber as Number
from mom_helper.orders import ORDER, Answer
from mom_kvm import Destination
from mom_plugins_libvirt.api import (
    ARGUMENT_UNSUPPORTED,
    NO_CONNECT,
    NO_DOMAIN,
    OPERATION_DENIED,
    OPERATION_TIMEOUT,
    Domain,
    error_numbers,
    is_local,
    kind_of,
)

HELPER_SOCKET_VARIABLE: Final = "MOM_LIBVIRT_HELPER_SOCKET"
"""Environment variable that overrides the path of the helper's socket."""

HELPER_CURE: Final = "find out why the helper is not running: systemctl status mom-libvirt-helper.socket mom-libvirt-helper"

_START_HELPER: Final = "start the helper (systemctl enable --now mom-libvirt-helper.socket) and restart mom, or run mom as root"

_READ_ONLY: Final = "the connection to libvirt is read-only"
_NO_HELPER: Final = "libvirt gives mom read access only, and mom-libvirt-helper is not running"

_CODES: Final = {
    errno.ESRCH: NO_DOMAIN,
    errno.EPERM: OPERATION_DENIED,
    errno.ENOTCONN: NO_CONNECT,
    errno.ETIMEDOUT: OPERATION_TIMEOUT,
    **dict.fromkeys((errno.EINVAL, errno.ERANGE, errno.EOPNOTSUPP, errno.ENOENT), ARGUMENT_UNSUPPORTED),
}
"""libvirt's error codes, keyed by `errno`."""


class OpenedLibvirt(NamedTuple):
    """Connection to libvirt. `helper` changes guests; None if mom itself changes them. `why_not` says why neither can; empty if one can."""

    connection: Any
    helper: GuestOrders | None = None
    why_not: str = ""
    cure: str = ""


def opened(module: Any, uri: str, *, readonly: bool, found: bool) -> OpenedLibvirt:
    """Connect to libvirt. Raise libvirt's error on failure.

    :param found: whether mom found the URI itself, for example a pod's; the helper does not serve such URIs
    """
    if readonly:
        return OpenedLibvirt(module.openReadOnly(uri), None, _READ_ONLY, "")
    if not found and (helper := GuestOrders.reached(uri)):
        return OpenedLibvirt(module.openReadOnly(uri), helper)
    try:
        return OpenedLibvirt(module.open(uri))
    except module.libvirtError as error:
        if found or not is_local(uri) or kind_of(*error_numbers(error)) is not PermissionDenied:
            raise
        return OpenedLibvirt(module.openReadOnly(uri), None, _NO_HELPER, _START_HELPER)


class OrderRefused(Exception):
    """Request that the helper refused. Has the methods of libvirt's exception."""

    def __init__(self, message: str, code: int, number: int = 0) -> None:
        super().__init__(message)
        self._code, self._number = code, number

    def get_error_code(self) -> int:
        """Return libvirt's error code."""
        return self._code

    def get_int1(self) -> int:
        """Return the `errno`, or 0."""
        return self._number


class GuestOrders:
    """Connection to mom-libvirt-helper, for one request at a time. Requests raise `OrderRefused`."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._connection: socket.socket | None = None
        self._ended = select.poll()

    @classmethod
    def reached(cls, uri: str) -> GuestOrders | None:
        """Return the helper for this URI. Return None if mom needs no helper, or has no access to its socket."""
        path = os.environ.get(HELPER_SOCKET_VARIABLE, orders.SOCKET)
        is_systems = is_local(uri) and urlsplit(uri).path == "/system"
        return cls(path) if is_systems and os.geteuid() != 0 and os.access(path, os.W_OK) else None

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def give(self, order: GuestOrder) -> str:
        """Send a request; return the answer."""
        try:
            message = order.packed()
        except struct.error as error:
            raise OrderRefused("a number is out of range for mom-libvirt-helper", ARGUMENT_UNSUPPORTED) from error
        if self._connection is not None and self._ended.poll(0):  # between two requests, a readable socket means a closed connection
            self.close()
        try:
            if self._connection is None:
                self._ended = select.poll()
                self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
                self._connection.connect(self._path)
                self._ended.register(self._connection, select.POLLIN)
            self._connection.send(message)
            reply = self._connection.recv(ORDER.size + orders.MOST_TEXT)
        except OSError as error:
            self.close()
            raise OrderRefused(f"mom-libvirt-helper cannot be reached at {self._path}: {error.strerror}", NO_CONNECT) from error
        if len(reply) < ORDER.size:
            self.close()
            raise OrderRefused("mom-libvirt-helper has exited, or libvirt has not answered it in time", OPERATION_TIMEOUT)
        answer, text = Answer(*ORDER.unpack(reply[: ORDER.size])), reply[ORDER.size :].decode(errors="replace")
        if answer.error and answer.a:
            raise OrderRefused(text, answer.a, answer.b)
        if answer.error:
            raise OrderRefused(f"mom-libvirt-helper: {os.strerror(answer.error)}", _CODES.get(answer.error, 0), answer.error)
        return text

    def destinations(self) -> Sequence[str]:
        """Return the migration destinations that root has declared."""
        declared: list[str] = []
        while True:
            try:
                declared.append(self.give(GuestOrder(Number.LIST, values=(len(declared),))))
            except OrderRefused as error:
                if error.get_int1() != errno.ENOENT:
                    raise
                return declared  # after the last destination


class OrderedDomain:
    """libvirt's handle of a guest whose changes go through the helper. Methods that only read call libvirt.

    :param start: libvirt's domain ID, which is new at each start; None for any start
    """

    def __init__(self, domain: Domain, helper: GuestOrders, start: int | None) -> None:
        self._domain, self._helper = domain, helper
        self._start = orders.ANY_START if start is None else start

    def __getattr__(self, name: str) -> Any:
        return getattr(self._domain, name)

    def _order(self, number: Number, *values: int, what: bytes = b"") -> str:
        uuid = UUID(self._domain.UUIDString()).bytes
        return self._helper.give(GuestOrder(number, uuid=uuid, start=self._start, what=what, values=values))

    def _change(self, number: Number, *values: int, what: bytes = b"") -> int:
        self._order(number, *values, what=what)
        return 0

    def _limit(self, number: Number, names: Sequence[str], given: Mapping[str, int], device: str = "") -> int:
        if unknown := given.keys() - set(names):
            raise OrderRefused(f"mom-libvirt-helper cannot set {', '.join(sorted(unknown))}", ARGUMENT_UNSUPPORTED)
        return self._change(number, *(given.get(name, orders.NOT_GIVEN) for name in names), what=device.encode())

    # --- libvirt's own names; the helper chooses the flags -------------------------------------------------------------------------

    def setMemoryFlags(self, memory: int, flags: int = 0) -> int:
        return self._change(Number.BALLOON, memory)

    def setMemoryStatsPeriod(self, period: int, flags: int = 0) -> int:
        return self._change(Number.PERIOD, period)

    def setSchedulerParametersFlags(self, params: Mapping[str, int], flags: int = 0) -> int:
        return self._limit(Number.CPU, orders.CPU_LIMITS, params)

    def setBlockIoTune(self, disk: str, params: Mapping[str, int], flags: int = 0) -> int:
        return self._limit(Number.DISK, orders.DISK_LIMITS, params, disk)

    def setInterfaceParameters(self, device: str, params: Mapping[str, int], flags: int = 0) -> int:
        return self._limit(Number.NET, orders.NET_LIMITS, params, device)

    def pinVcpuFlags(self, vcpu: int, cpumap: Sequence[bool], flags: int = 0) -> int:
        return self._change(Number.PIN, vcpu, len(cpumap), what=_bits(cpu for cpu, allowed in enumerate(cpumap) if allowed))

    def setNumaParameters(self, params: Mapping[str, str], flags: int = 0) -> int:
        return self._change(Number.NODES, what=_bits(map(int, params["numa_nodeset"].split(","))))

    def suspend(self) -> int:
        return self._change(Number.PAUSE)

    def resume(self) -> int:
        return self._change(Number.RESUME)

    def shutdown(self) -> int:
        return self._change(Number.SHUTDOWN)

    def managedSave(self, flags: int = 0) -> int:
        return self._change(Number.SAVE)

    def create(self) -> int:
        return self._change(Number.START)

    def abortJob(self) -> int:
        return self._change(Number.ABORT)

    # --- further calls -----------------------------------------------------------------------------------------------------------

    def give(self, kib: int) -> str:
        """Set the balloon through QEMU's monitor, and return QEMU's answer."""
        return self._order(Number.GIVE, kib)

    def migrate(self, destination: Destination) -> int:
        """Migrate the guest. Raise `PermissionDenied` for an undeclared destination."""
        for number, declared in enumerate(self._helper.destinations()):
            if _destination(declared) == destination:
                return self._change(Number.MIGRATE, number)
        lines = f"[destination NAME], uri = {destination.uri}" + (f", way = {destination.way}" if destination.way else "")
        hint = f"write these lines to a file /etc/mom/helper.d/NAME.conf, and restart mom-libvirt-helper: {lines}"
        raise PermissionDenied(f"root has not declared the destination {destination}", hint=hint)

    def ask_agent(self, command: str, seconds: int) -> str:
        """Send a command to the agent; return its answer. Raise `PermissionDenied` for an undeclared command."""
        handle = re.search(r'"handle": (\d+)', command)
        form = command if handle is None else command.replace(handle[1], "%d", 1)
        if form not in orders.AGENT_COMMANDS:
            raise PermissionDenied(f"mom-libvirt-helper does not allow the agent command {command!r:.80}")
        return self._order(Number.AGENT, orders.AGENT_COMMANDS.index(form), int(handle[1]) if handle else 0, seconds)


def _destination(declared: str) -> Destination | None:
    with suppress(ValueError):
        return Destination.parse(declared)
    return None


def _bits(numbers: Iterable[int]) -> bytes:
    try:
        return sum(1 << number for number in numbers).to_bytes(128, "little")
    except OverflowError as error:
        raise OrderRefused("mom-libvirt-helper supports CPUs and NUMA nodes only up to number 1023", ARGUMENT_UNSUPPORTED) from error
