"""Functions for small kernel files in /proc and /sys.

For an unreadable or malformed file, most functions return an empty value.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from mom_core import Finding, Guest, HypervisorError, NotSupported, PermissionDenied, Severity, Value, as_whole
from mom_kvm.root_helper import Helper

MOST_BYTES: Final = 64 << 10

_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
PAGE_KIB: Final = os.sysconf("SC_PAGE_SIZE") >> 10
"""Size of a memory page, in KiB."""


_KERNEL_THREAD: Final = 0x00200000
"""PF_KTHREAD (include/linux/sched.h). Any process may be named ksmd; only the kernel sets this flag."""

_REFUSED: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
"""Errors if only root may write a file, or if /sys is mounted read-only for mom."""

_PROCESS: Final = re.compile(r"/{1,2}proc/([1-9][0-9]{0,9})")

_NUMBER: Final = re.compile(rb"\s*(-?[0-9]{1,20})\s*")
_RANGE: Final = re.compile(r"(\^?)([0-9]{1,5})(?:-([0-9]{1,5}))?")
_HIGHEST_NUMBER: Final = 8191
"""Highest number of a CPU or NUMA node."""

_MEMORY_LINE: Final = re.compile(rb"^([A-Za-z_()0-9]+):[ \t]+([0-9]{1,18})(?: kB)?$", re.MULTILINE)
_SHARE: Final = rb"([0-9]{1,3}\.[0-9]{1,2})"
_PRESSURE_LINE: Final = re.compile(
    rb"^(some|full) avg10=" + _SHARE + rb" avg60=" + _SHARE + rb" avg300=" + _SHARE + rb" total=([0-9]{1,20})(?: .*)?$", re.MULTILINE
)


def read_kernel_file(path: Path | str, most: int = MOST_BYTES) -> bytes:
    """Return a file's content, from a single read; empty if it is unreadable.

    Do not use it for lists such as /proc/zoneinfo: one read returns only a part.
    """
    try:
        return _read_at_once(path, most)
    except (OSError, ValueError):  # ValueError: invalid path
        return b""


def _read_at_once(path: Path | str, most: int = MOST_BYTES) -> bytes:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(file, most)
    finally:
        os.close(file)


def read_number(path: Path) -> int | None:
    """Return a file's whole number; None for other content. Raise `HypervisorError` if it is unreadable."""
    try:
        match = _NUMBER.fullmatch(_read_at_once(path))
    except OSError as error:
        raise _failure_of(error, path, "read") from error
    return int(match[1]) if match else None


def write_file(path: Path | str, value: Value) -> None:
    """Write to an existing file, directly or through mom-helper.

    :raises HypervisorError: `NotSupported` if the file does not exist, `PermissionDenied`, or another; `__cause__` is the `OSError`
    """
    text = str(value)
    try:
        try:
            _write(path, text)
        except OSError as error:
            helper = Helper.reached() if error.errno in _REFUSED else None
            if helper is None:
                raise
            helper.set_knob(path, text)
    except OSError as error:
        raise _failure_of(error, path, "write") from error


def write_group_files(writes: Sequence[Helper.GroupWrite]) -> Sequence[HypervisorError | None]:
    """Write to files of guests' cgroups, directly or through mom-helper. Return each write's error in order; None on success."""
    failures = [_failure_to(write) for write in writes]
    refused = [place for place, failure in enumerate(failures) if failure is not None and failure.errno in _REFUSED]
    helper = Helper.reached() if refused else None
    if helper is not None:
        for place, failure in zip(refused, helper.set_groups([writes[place] for place in refused]), strict=True):
            failures[place] = failure
    return [None if failure is None else _failure_of(failure, write.path, "write") for failure, write in zip(failures, writes, strict=True)]


def _failure_to(write: Helper.GroupWrite) -> OSError | None:
    try:
        _write(write.path, write.text, wait=False)
    except OSError as error:
        return error
    return None


def _write(path: Path | str, text: str, *, wait: bool = True) -> None:
    # O_TRUNC is for tests with plain files; the kernel's files ignore it.
    flags = os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC | (0 if wait else os.O_NONBLOCK)
    file = os.open(path, flags)
    try:
        os.write(file, text.encode())
    finally:
        os.close(file)


def _hindrance(path: Path | str) -> HypervisorError | None:
    # The error that `write_file` would raise; None if mom or mom-helper may write.
    if os.access(path, os.W_OK):
        return None
    number = errno.EACCES if os.path.exists(path) else errno.ENOENT  # noqa: PTH110  # `path` may be a string
    helper = Helper.reached()
    if helper is not None and number == errno.EACCES and _declared(helper, path):
        return None
    return _failure_of(OSError(number, os.strerror(number)), path, "write")


def unwritable_finding(path: Path | str, subject: str, effect: str, *, observes: bool) -> Finding | None:
    """Return a finding if mom cannot write to a file.

    :param effect: consequence, such as `KSM stays as it is`
    :param observes: whether mom only observes, so that this is no problem yet
    """
    hindrance = _hindrance(path)
    if hindrance is None:
        return None
    if observes:
        return Finding(Severity.WARNING, subject, f"{path} is not writable; this matters only when mom acts", hindrance.hint)
    return Finding(Severity.ERROR, subject, f"{path} is not writable: {effect}", hindrance.hint)


def guest_of(process: Path | str) -> tuple[int, int] | None:
    """Return a process's PID and start time (clock ticks), for requests to mom-helper; None if it has exited."""
    match = _PROCESS.fullmatch(str(process))
    stat = ProcessStat.of(process) if match else None
    return None if match is None or stat is None else (int(match[1]), stat.started)


def root_cure(path: Path | str = "", number: int | None = errno.EACCES) -> str:
    """Return the hint for an access that needs root."""
    if os.geteuid() == 0:
        return "run mom as root, outside of containers, with /proc and /sys mounted read-write"
    helper = Helper.reached()
    if helper is None:
        return "start mom-helper, which does the work that needs root: systemctl enable --now mom-helper.socket; or run mom as root"
    if not path:
        return "see which request mom-helper has refused: journalctl -u mom-helper"
    if number == errno.EROFS:
        return f"let mom-helper.service write there: set ReadWritePaths={path} in a drop-in of that unit"
    if _declared(helper, path):
        return "mom-helper.service lacks a capability that the kernel requires; docs/service.md says how to add it"
    return Helper.cure(f"[knob {path}]\nleast = …\nmost = …")


def _declared(helper: Helper, path: Path | str) -> bool:
    try:
        return not {str(path), Path(path).name}.isdisjoint(helper.declared())
    except OSError:
        return False


def _failure_of(error: OSError, path: Path | str, verb: str) -> HypervisorError:
    failure = HypervisorError(f"cannot {verb} {path}: {error.strerror}")
    if error.errno in {errno.ENOENT, errno.ENOTDIR}:
        failure = NotSupported(f"there is no {path}", hint="this kernel does not have this file, or mom runs in a container that hides it")
    elif error.errno in _REFUSED:
        failure = PermissionDenied(f"cannot {verb} {path}: {error.strerror}", hint=root_cure(path, error.errno))
    failure.__cause__ = error
    return failure


def boot_id(proc: Path) -> str:
    """Return the ID of the host's current boot; empty if it is unreadable."""
    return read_kernel_file(proc / "sys/kernel/random/boot_id").decode("ascii", "replace").strip()


def parse_meminfo(content: bytes) -> dict[str, int]:
    """Return the values in /proc/meminfo (KiB or counts), keyed by name."""
    return {name.decode(): int(number) for name, number in _MEMORY_LINE.findall(content)}


def read_meminfo(root: Path) -> dict[str, int]:
    """Return the host's /proc/meminfo, keyed by name."""
    return parse_meminfo(read_kernel_file(f"{root}/proc/meminfo"))


def parse_number_list(text: str) -> frozenset[int] | None:
    """Return the numbers of a list of CPUs or nodes, such as `0-3,8` or `0-3,^2`; None if malformed."""
    numbers: set[int] = set()
    for part in text.strip().split(",") if text.strip() else ():
        match = _RANGE.fullmatch(part.strip())
        if match is None:
            return None
        first, last = int(match[2]), int(match[3] or match[2])
        if not first <= last <= _HIGHEST_NUMBER:
            return None
        (numbers.difference_update if match[1] else numbers.update)(range(first, last + 1))
    return frozenset(numbers)


class Pressure(NamedTuple):
    """Pressure stall information: percentages of the last 10, 60 and 300 s in which tasks waited, and the total time in microseconds."""

    avg10: float
    avg60: float
    avg300: float
    total: int

    @classmethod
    def parse(cls, content: bytes) -> dict[str, Pressure]:
        """Parse a pressure file. Return its lines keyed by `some` (at least one task waited) and `full` (all tasks waited)."""
        lines = {}
        for kind, *averages, total in _PRESSURE_LINE.findall(content):
            avg10, avg60, avg300 = map(float, averages)
            if max(avg10, avg60, avg300) <= 100:
                lines[kind.decode()] = cls(avg10, avg60, avg300, int(total))
        return lines

    @classmethod
    def averages(cls, folder: str) -> dict[str, float]:
        """Return a cgroup's pressure (avg10), keyed by `RESOURCE_some` and `RESOURCE_full`."""
        read = ((resource, cls.parse(read_kernel_file(f"{folder}/{resource}.pressure"))) for resource in ("memory", "cpu", "io"))
        return {f"{resource}_{kind}": pressure.avg10 for resource, kinds in read for kind, pressure in kinds.items()}


def pid_of(guest: Guest) -> int | None:
    """Return QEMU's PID; None if unknown."""
    pid = as_whole(guest.properties.get("pid"))
    return pid if pid is not None and pid > 0 else None


class ProcessStat(NamedTuple):
    """Process according to /proc/PID/stat. `started` (clock ticks since boot) distinguishes processes that had the same PID."""

    name: str
    state: str
    is_kernel_thread: bool
    minor_faults: int
    major_faults: int
    cpu_seconds: float
    started: int
    processor: int | None
    resident_kib: int | None

    def age(self, proc: Path) -> float | None:
        """Return the age of the process in seconds; None if the host's uptime is unreadable."""
        uptime, *_ = (*read_kernel_file(f"{proc}/uptime").split(), b"")
        try:
            return max(0.0, float(uptime) - self.started / _TICKS_PER_SECOND)
        except ValueError:
            return None

    @staticmethod
    def ids(proc: Path) -> list[int] | None:
        """Return all PIDs in rising order; None if unreadable."""
        try:
            names = os.listdir(proc)  # noqa: PTH208  # too slow with a Path for each of thousands
        except OSError:
            return None
        return sorted(int(name) for name in names if name.isascii() and name.isdigit())

    @classmethod
    def id_of(cls, name: str, proc: Path) -> int:
        """Return the lowest PID of a process with this name (at most 15 characters); 0 if none."""
        named = (pid for pid in cls.ids(proc) or () if read_kernel_file(f"{proc}/{pid}/comm").rstrip(b"\n") == name.encode())
        return next(named, 0)

    @classmethod
    def of(cls, process: Path | str) -> ProcessStat | None:
        """Return the process with this folder in /proc; None if it does not exist."""
        return cls.parse(read_kernel_file(f"{process}/stat"))

    @classmethod
    def running(cls, process: Path | str) -> ProcessStat | None:
        """Return the process as `of` does, but None for a zombie."""
        stat = cls.of(process)
        return None if stat is None or stat.state in {"Z", "X"} else stat

    @staticmethod
    def open_file(process: Path | str, name: str) -> int:
        """Open, directly or through mom-helper, a file that only a process's user and root may read. Raise `OSError` on failure."""
        try:
            return os.open(f"{process}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        except PermissionError:
            helper, guest = Helper.reached(), guest_of(process)
            if helper is None or guest is None:
                raise
            return helper.open_of_guest(*guest, name)

    @classmethod
    def read_file(cls, process: Path | str, name: str, most: int = MOST_BYTES) -> bytes:
        """Return the content of a file that `open_file` opens; empty if it is unreadable."""
        try:
            with os.fdopen(cls.open_file(process, name), "rb") as file:
                return file.read(most)
        except (OSError, ValueError):  # ValueError: invalid path
            return b""

    @staticmethod
    def sizes(process: Path | str) -> dict[str, int]:
        """Return the numbers in a process's status file, keyed by name. Sizes, such as `VmSwap`, are in KiB."""
        return parse_meminfo(read_kernel_file(f"{process}/status"))

    @staticmethod
    def mapped_kib(process: Path | str, host_kib: int | None) -> int:
        """Return a process's virtual memory in KiB, capped at `host_kib`; 0 if unreadable."""
        pages = read_kernel_file(f"{process}/statm").partition(b" ")[0]
        mapped = int(pages) * PAGE_KIB if pages.isdigit() else 0
        return mapped if host_kib is None else min(mapped, host_kib)

    @classmethod
    def parse(cls, content: bytes) -> ProcessStat | None:
        """Parse a stat file; None if malformed."""
        # Fields of proc(5): 2 comm, 3 state, 9 flags, 10 minflt, 12 majflt, 14 utime, 15 stime, 22 starttime, 24 rss, 39 processor.
        head, closing, tail = content.rpartition(b")")
        _, opening, name = head.partition(b"(")
        words = tail.split(None, 37)
        if not (opening and closing and len(words) > 19):
            return None
        numbers = (words[6], words[7], words[9], words[11], words[12], words[19])
        if not all(word.isdigit() and len(word) < 20 for word in numbers):
            return None
        flags, minor, major, user, system, started = map(int, numbers)
        processor = int(words[36]) if len(words) > 36 and words[36].isdigit() else None
        resident = int(words[21]) * PAGE_KIB if len(words) > 21 and words[21].isdigit() else None
        state, cpu_seconds = words[0].decode("ascii", "replace"), (user + system) / _TICKS_PER_SECOND
        who = name.decode("ascii", "replace")
        return cls(who, state, bool(flags & _KERNEL_THREAD), minor, major, cpu_seconds, started, processor, resident)
