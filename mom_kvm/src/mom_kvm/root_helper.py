"""Client of mom-helper, which performs the operations that need root if mom runs without root."""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple, Self

from mom_core import ControlSpec, Scope
from mom_helper import orders
from mom_helper.orders import Answer, Order, OrderNumber

ANSWER_SECONDS: Final = 2.0

_DECLARATIONS: Final = "/etc/mom/helper.d"
"""Folder in which root allows mom-helper to write files besides those of mom's packages."""

_MOST_DECLARED: Final = 1000


class Helper:
    """Connection to mom-helper. Thread-safe.

    Requests raise `OSError`:

    - `ETIMEDOUT` without an answer in time
    - `ENOTCONN` without a helper; the next request connects again
    - `ESRCH` if the guest has ended
    - `EPERM` if root does not allow the request
    """

    SOCKET_VARIABLE: Final = "MOM_HELPER_SOCKET"
    """Environment variable that overrides the path of the helper's socket."""

    class GroupWrite(NamedTuple):
        """Write to a file of a guest's cgroup. `text` is a number of bytes or `max`. `pid` is the PID of QEMU."""

        path: str
        text: str
        pid: int

    _shared: Helper | None = None
    _sharing = threading.Lock()

    def __init__(self, path: str = orders.SOCKET) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._connection: socket.socket | None = None
        self._ended = select.poll()
        self._id = 0
        self._declared: Mapping[str, int] | None = None
        """Names of declared files, with the numbers by which requests refer to them. None if not read yet."""

    @classmethod
    def reached(cls) -> Self | None:
        """Return the connection that this process shares; None if mom runs as root, or if no helper is running."""
        path = os.environ.get(cls.SOCKET_VARIABLE, orders.SOCKET)
        if os.geteuid() == 0 or not os.access(path, os.W_OK):
            return None
        with Helper._sharing:
            if not isinstance(Helper._shared, cls) or Helper._shared._path != path:
                Helper._shared = cls(path)
            return Helper._shared

    @staticmethod
    def declaration(control: ControlSpec) -> str:
        """Return the lines that allow mom-helper to set a control (/etc/mom/helper.d). Raise `ValueError` without a file or bounds."""
        if control.scope is Scope.GUEST and control.file:  # the kernel's bounds depend on the guest
            return f"[group {control.file}]\nleast = 0\nmax = yes"
        if not control.file or control.minimum is None or control.maximum is None:
            raise ValueError(f"{control.name} has no file, or no bounds")
        bounds = f"least = {control.minimum:.0f}\nmost = {control.maximum:.0f}"
        return f"[knob {control.file}]\n" + (f"values = {' '.join(map(str, control.choices))}" if control.choices else bounds)

    @staticmethod
    def cure(declaration: str) -> str:
        """Return the hint for a file that mom-helper may not write yet, with the lines of `declaration`."""
        lines = ", ".join(f"`{line}`" for line in declaration.splitlines())
        return f"to allow it, write the lines {lines} to a file {_DECLARATIONS}/NAME.conf as root, then: systemctl restart mom-helper"

    def close(self) -> None:
        """Close the connection. The next request connects again."""
        with self._lock:
            self._close()

    def declared(self) -> Collection[str]:
        """Return the paths of knobs and the names of cgroup files that root and mom's packages allow mom-helper to write."""
        with self._turn():
            return self._list().keys()

    def set_knob(self, path: Path | str, text: str) -> None:
        """Write a whole number to a knob."""
        with self._turn():
            self._ask(Order(OrderNumber.SET, a=self._number_of(str(path)), b=int(text)))

    def set_groups(self, writes: Sequence[Helper.GroupWrite]) -> Sequence[OSError | None]:
        """Write to files of cgroups. Return each write's error in order; None on success."""
        errors: list[OSError | None] = [None] * len(writes)
        first = 0
        try:
            with self._turn():
                for first in range(0, len(writes), orders.MOST_AT_ONCE):
                    self._set_several(first, writes[first : first + orders.MOST_AT_ONCE], errors)
        except OSError as error:  # no answer: do not wait again for each further write
            errors[first:] = [failure or error for failure in errors[first:]]
        return errors

    def _set_several(self, first: int, writes: Sequence[Helper.GroupWrite], errors: list[OSError | None]) -> None:
        messages: dict[int, bytes] = {}
        self._list()  # so that errors below concern one value
        for index, (path, text, pid) in enumerate(writes, first):
            folder, name = os.path.split(path)
            value = orders.NO_LIMIT if text == "max" else int(text)
            try:
                messages[index] = _packed(OrderNumber.SET, index, self._number_of(name), value, pid, _inode_of(folder))
            except OSError as error:
                errors[index] = error
        for answer in self._exchange(messages)[0] if messages else ():
            errors[answer.id] = _refusal(answer) if answer.error else None

    def open_of_guest(self, pid: int, started: int, name: str) -> int:
        """Open a file in /proc/PID of a guest. Return the descriptor. Raise `PermissionError` if `name` is not in `PROCESS_FILES`."""
        if name not in orders.PROCESS_FILES:
            raise PermissionError(errno.EPERM, f"mom-helper does not open /proc/PID/{name} of guests")
        with self._turn():
            order = Order(OrderNumber.OPEN, a=orders.PROCESS_FILES.index(name), c=pid, d=started)
            return self._with_descriptor(self._ask(order))

    def set_oom_score(self, pid: int, started: int, score: int) -> None:
        """Set `oom_score_adj` of a guest's process to a value from 0 to 1000."""
        with self._turn():
            self._ask(Order(OrderNumber.SCORE, a=score, c=pid, d=started))

    def connect(self, path: Path | str) -> socket.socket:
        """Connect to a guest's socket. The caller needs access to the socket's folder."""
        file = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            with self._turn():
                return socket.socket(fileno=self._with_descriptor(self._ask(Order(OrderNumber.CONNECT), file)))
        finally:
            os.close(file)

    def taker(self) -> socket.socket:
        """Have mom-helper start a reclaim worker (see `mom_helper.orders`). Return the connection to it."""
        helper = Helper(self._path)
        try:
            helper._ask(Order(OrderNumber.STEP_BACK))
            connection = helper._connection
            assert connection is not None  # noqa: S101  # after an answer
            for limit in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
                connection.setsockopt(socket.SOL_SOCKET, limit, struct.pack("ll", 0, 0))
            return connection
        except OSError:
            helper._close()
            raise

    def put_back(self) -> int:
        """Have mom-helper restore all original values. Return the number of failures."""
        with self._turn():
            return self._ask(Order(OrderNumber.PUT_BACK))[0].b

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._lock.acquire(timeout=2 * ANSWER_SECONDS):
            raise TimeoutError(errno.ETIMEDOUT, f"mom-helper did not complete earlier requests within {2 * ANSWER_SECONDS:.0f} s")
        try:
            if self._connection is not None and self._ended.poll(0):
                self._close()
            yield
        finally:
            self._lock.release()

    def _number_of(self, name: str) -> int:
        declared = self._list()
        if name not in declared:
            raise PermissionError(errno.EPERM, f"mom-helper has no permission to write {name}: root has not declared it")
        return declared[name]

    def _list(self) -> Mapping[str, int]:
        if self._connection is None:
            self._connect()
        if self._declared is None:
            numbers: dict[str, int] = {}
            with suppress(FileNotFoundError):  # after the last file
                for number in range(_MOST_DECLARED):
                    _, name, _ = self._ask(Order(OrderNumber.LIST, a=number))
                    numbers[name.decode(errors="surrogateescape")] = number
            self._declared = numbers
        return self._declared

    def _ask(self, order: Order, *descriptors: int) -> tuple[Answer, bytes, list[int]]:
        self._id = (self._id + 1) & 0xFFFFFFFF
        (answer,), text, received = self._exchange({self._id: _packed(*order._replace(id=self._id))}, *descriptors)
        if not answer.error:
            return answer, text, received
        for descriptor in received:
            os.close(descriptor)
        raise _refusal(answer)

    def _exchange(self, messages: Mapping[int, bytes], *descriptors: int) -> tuple[Sequence[Answer], bytes, list[int]]:
        if self._connection is None:
            self._connect()
        connection = self._connection
        assert connection is not None  # noqa: S101  # after `_connect`
        message = b"".join(messages.values())
        try:
            if descriptors:
                socket.send_fds(connection, [message], list(descriptors))
            else:  # `send_fds` takes twice as long
                connection.send(message)
            reply, received, _, _ = socket.recv_fds(connection, len(message) + orders.MOST_TEXT, 1)
            if not reply:  # answers are never empty
                raise ConnectionResetError("it closed the connection")
            answers = [Answer(*words) for words in orders.ORDER.iter_unpack(reply[: len(message)])]
        except (OSError, struct.error) as error:
            raise self._failure(error) from error
        if [answer.id for answer in answers] == list(messages):
            return answers, reply[len(message) :], received
        for descriptor in received:
            os.close(descriptor)
        self._close()
        raise OSError(errno.EPROTO, "mom-helper's answer does not match the request")

    def _failure(self, error: Exception) -> OSError:
        self._close()
        if isinstance(error, BlockingIOError):
            return TimeoutError(errno.ETIMEDOUT, f"mom-helper did not answer within {ANSWER_SECONDS:.0f} s")
        return OSError(errno.ENOTCONN, f"mom-helper has exited: {error}")

    @staticmethod
    def _with_descriptor(answered: tuple[Answer, bytes, list[int]]) -> int:
        _, _, received = answered
        if not received:
            raise OSError(errno.EPROTO, "mom-helper answered without a descriptor")
        return received[0]

    def _connect(self) -> None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        for limit in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):  # kernel timeouts, because Python's own double the system calls
            connection.setsockopt(socket.SOL_SOCKET, limit, struct.pack("ll", int(ANSWER_SECONDS), 0))
        try:
            connection.connect(self._path)
        except OSError as error:
            connection.close()
            raise OSError(errno.ENOTCONN, f"mom-helper cannot be reached at {self._path}: {error.strerror or error}") from error
        self._connection, self._declared = connection, None
        self._ended = select.poll()
        self._ended.register(connection, select.POLLIN)  # between requests, readable means that the connection has ended

    def _close(self) -> None:
        connection, self._connection, self._declared = self._connection, None, None
        if connection is not None:
            connection.close()


def _inode_of(folder: str) -> int:
    # With the inode of the group's folder, mom-helper detects a reused PID.
    try:
        return os.stat(folder).st_ino  # noqa: PTH116  # too slow with a Path for each of hundreds
    except OSError:
        return 0  # the group is gone, and no group has inode 0


def _packed(*order: int) -> bytes:
    try:
        return orders.ORDER.pack(*order)
    except struct.error as error:
        raise OSError(errno.ERANGE, os.strerror(errno.ERANGE)) from error


def _refusal(answer: Answer) -> OSError:
    return OSError(answer.error, f"mom-helper: {os.strerror(answer.error)}")
