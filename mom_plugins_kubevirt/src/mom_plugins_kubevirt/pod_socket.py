"""Opener of the socket of a pod's libvirt. Links in the pod cannot lead mom out of the pod's root folder."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from mom_core import HypervisorError, PermissionDenied
from mom_kvm import ProcessStat
from mom_plugins_kubevirt.pods import RIGHTS, LauncherPod
from mom_plugins_kubevirt.relay import Relay

_SYS_OPENAT2: Final = 437
"""Number of the system call (Linux 5.6), which is the same on all architectures."""

_RESOLVE_NO_MAGICLINKS: Final = 0x02
_RESOLVE_IN_ROOT: Final = 0x10
"""Flags of linux/openat2.h: refuse magic links such as /proc/PID/fd, and resolve other links within the starting folder."""

_O_PATH: Final = os.O_PATH | os.O_CLOEXEC
_STATUS_BYTES: Final = 4096

_libc = ctypes.CDLL(None, use_errno=True)


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
