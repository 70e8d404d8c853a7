"""Opener of the socket of a pod's libvirt, and relay between libvirt's client and the socket.

Links in the pod cannot lead mom out of the pod's root folder. The relay limits the size of messages, because the client would accept
32 MiB, and then need 50 times as much memory.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import socket
import stat
import struct
import tempfile
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from mom_core import HypervisorError, PermissionDenied
from mom_kvm import ProcessStat
from mom_plugins_kubevirt.pods import RIGHTS, LauncherPod

_SYS_OPENAT2: Final = 437
"""Number of the system call (Linux 5.6), which is the same on all architectures."""

_RESOLVE_NO_MAGICLINKS: Final = 0x02
_RESOLVE_IN_ROOT: Final = 0x10
"""Flags of linux/openat2.h: refuse magic links such as /proc/PID/fd, and resolve other links within the starting folder."""

_O_PATH: Final = os.O_PATH | os.O_CLOEXEC
_STATUS_BYTES: Final = 4096

_libc = ctypes.CDLL(None, use_errno=True)

MOST_BYTES: Final = 256 << 10
"""Longest message that the relay passes on. Statistics have about 2 KiB, a description about 20 KiB."""

_BYTES_A_SECOND: Final = 4 << 20
"""The relay passes on at most this many bytes per second from one pod. Further data waits."""

_CONNECT_SECONDS: Final = 5.0
_CHUNK_BYTES: Final = 64 << 10
_HEAD_BYTES: Final = 4
"""Size of the length field with which each message begins. The length includes this field (src/rpc/virnetprotocol.x)."""


@contextmanager
def reached(proc: Path, pod: LauncherPod, relay: Relay, refuse: Callable[[str], None] = lambda why: None) -> Iterator[str]:
    """Yield a URI for one connection to the pod's libvirt. Raise `HypervisorError` if this libvirt cannot be reached."""
    handles: list[int] = []
    try:
        user = _enter(proc, pod, handles)
        with relay.to(f"/proc/self/fd/{handles[-1]}", refuse) as path:
            yield f"qemu+unix:///{'session' if user else 'system'}?socket={path}"
    except OSError as error:
        kind = PermissionDenied if error.errno in {errno.EACCES, errno.EPERM} else HypervisorError
        raise kind(f"the libvirt of pod {pod.pod_uid} cannot be reached: {_reason(error, pod)}", hint=_cure(error)) from error
    finally:
        for handle in handles:
            os.close(handle)


def _enter(proc: Path, pod: LauncherPod, handles: list[int]) -> int:
    # The last handle is that of the daemon's socket. Return the daemon's user.
    handles.append(os.open(proc / str(pod.pid), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    # The open folder stays that of this process: if the PID is reused, the folder is empty.
    stat_record = ProcessStat.parse(_read("stat", handles[0]))
    if stat_record is None or stat_record.started != pod.started:
        raise ProcessLookupError(errno.ESRCH, "the daemon has exited")
    user = _user(_read("status", handles[0]))
    handles.append(os.open("root", _O_PATH | os.O_DIRECTORY, dir_fd=handles[0]))
    handles.append(_open_in_root(handles[-1], pod.socket))
    status = os.fstat(handles[-1])
    if not stat.S_ISSOCK(status.st_mode):
        raise OSError(errno.ENOTSOCK, "its path is not a socket")
    if status.st_uid != user:
        raise OSError(errno.EOWNERDEAD, f"its socket belongs to user {status.st_uid}, but the daemon runs as {user}")
    # Connecting needs write access. Check it here, because libvirt reports a lack of access only as text.
    if not os.access(f"/proc/self/fd/{handles[-1]}", os.W_OK, effective_ids=True):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))
    return user


def _open_in_root(root: int, path: str) -> int:
    # Never follow a final link.
    how = struct.pack("QQQ", _O_PATH | os.O_NOFOLLOW, 0, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)
    handle: int = _libc.syscall(_SYS_OPENAT2, root, os.fsencode(path), how, len(how))
    if handle < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return handle


def _read(name: str, folder: int) -> bytes:
    with os.fdopen(os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder), "rb", buffering=0) as file:
        return file.read(_STATUS_BYTES)


def _user(status: bytes) -> int:
    _, line, words_after = status.partition(b"\nUid:")
    words = words_after.split(None, 2)
    if not line or len(words) < 2 or not words[1].isdigit():
        raise OSError(errno.EINVAL, "its user is unknown")
    return int(words[1])


def _reason(error: OSError, pod: LauncherPod) -> str:
    if error.errno in {errno.ENOENT, errno.ENOTDIR}:
        return f"the pod contains no /{pod.socket}"
    if error.errno == errno.ESRCH:
        return "the daemon has exited"
    return f"/{pod.socket}: {error.strerror}"


def _cure(error: OSError) -> str:
    if error.errno in {errno.EACCES, errno.EPERM}:
        return RIGHTS
    if error.errno == errno.ENOSYS:
        return "use Linux 5.6 or later"
    return ""


# --- the relay -------------------------------------------------------------------------------------------------------------------


class Relay:
    """Relay of data between libvirt's client and pods, in one thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stopped = False

    @contextmanager
    def to(self, path: str, refuse: Callable[[str], None]) -> Iterator[str]:
        """Yield the path of a socket for one connection, which the relay forwards to `path`. Raise `OSError` if `path` is unreachable.

        :param refuse: called with the reason, in the relay's thread, when a bad message ends the connection
        """
        pod, listener = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)

        def close(_: object = None) -> None:
            pod.close()
            listener.close()

        try:
            pod.settimeout(_CONNECT_SECONDS)
            pod.connect(path)
            pod.setblocking(False)
            with tempfile.TemporaryDirectory(prefix="mom-") as folder:
                listener.bind(f"{folder}/s")
                door = os.open(f"{folder}/s", os.O_PATH | os.O_CLOEXEC)  # the socket also works without a name
            listener.listen(1)
            listener.setblocking(False)
            self._begin(lambda: _serve(listener, pod, refuse), close)
        except BaseException:
            close()
            raise
        try:
            yield f"/proc/self/fd/{door}"
        finally:
            os.close(door)

    def stop(self, seconds: float) -> None:
        """End all connections, and refuse new ones."""
        with self._lock:
            self._stopped = True
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._loop.stop)
        if self._thread is not None:
            self._thread.join(seconds)

    def _begin(self, serve: Callable[[], Coroutine[None, None, None]], ended: Callable[[object], None]) -> None:
        # Under the lock, so that no task is added to a stopped loop. asyncio calls `ended` even if the task never began.
        with self._lock:
            if self._stopped:
                raise OSError(errno.ESHUTDOWN, "mom is stopping")
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=_run, args=(self._loop,), name="kubevirt-relay", daemon=True)
                self._thread.start()
            asyncio.run_coroutine_threadsafe(serve(), self._loop).add_done_callback(ended)


def _run(loop: asyncio.AbstractEventLoop) -> None:
    with asyncio.Runner(loop_factory=lambda: loop) as runner:  # cancels all tasks at its end
        runner.get_loop().run_forever()


async def _serve(listener: socket.socket, pod: socket.socket, refuse: Callable[[str], None]) -> None:
    with listener:
        async with asyncio.timeout(_CONNECT_SECONDS):
            client, _ = await asyncio.get_running_loop().sock_accept(listener)
    with client:
        ways = [asyncio.ensure_future(_pass_requests(client, pod)), asyncio.ensure_future(_pass_answers(pod, client, refuse))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)


async def _pass_requests(client: socket.socket, pod: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(client, _CHUNK_BYTES):
        await loop.sock_sendall(pod, data)


async def _pass_answers(pod: socket.socket, client: socket.socket, refuse: Callable[[str], None]) -> None:
    while len(head := await _received(pod, _HEAD_BYTES)) == _HEAD_BYTES:
        size = int.from_bytes(head, "big")
        if size < _HEAD_BYTES:
            refuse("its libvirt does not speak libvirt's protocol")
            return
        if size > MOST_BYTES:
            refuse(f"its libvirt sends a message of {size} bytes, and the limit for one guest is {MOST_BYTES}")
            return
        await asyncio.get_running_loop().sock_sendall(client, head + await _received(pod, size - _HEAD_BYTES))


async def _received(source: socket.socket, count: int) -> bytes:
    # The data is shorter only at its end.
    data = b""
    while len(data) < count and (more := await asyncio.get_running_loop().sock_recv(source, min(_CHUNK_BYTES, count - len(data)))):
        data += more
        await asyncio.sleep(len(more) / _BYTES_A_SECOND)
    return data
