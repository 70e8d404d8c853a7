#!/usr/bin/env python3
"""mom-guestd: reports a guest's memory to its host, from inside the guest.

This file needs only Python 3.7 or later, so you can copy it into any guest. It reads files of /proc and /sys on request, and answers over a
virtio-serial channel, TCP, or both. It changes nothing, unless the guest's owner allows help for a host that is short of memory
(--reporting-order, --trim). It undoes its changes.

Requests and answers are lines:

    stats           mem_available:N, mem_unused:N, swap_in:N, swap_out:N, major_fault:N, minor_fault:N
    props           kernel and system, one name:value a line
    short N         the host is short of memory for the next N seconds (0 if it is not). The answer shows how the guest helps
    stats TOKEN     begin:TOKEN, all statistics, end:TOKEN; other requests work the same way

Sizes are in KiB, mem_available is all memory that the kernel manages, and counts are since boot. A token marks the beginning and the end of
an answer, because a channel may still contain earlier answers.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import errno
import io
import ipaddress
import math
import os
import platform
import re
import signal
import socket
import socketserver
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import NoReturn

    Network = ipaddress.IPv4Network | ipaddress.IPv6Network

VERSION = "0.1.0"

PORT = 2187
CHANNEL = "org.mom.guestd.0"

PLAIN_STATS = ("mem_available", "mem_unused", "swap_in", "swap_out", "major_fault", "minor_fault")
"""Answer to `stats` without a token, in order: the protocol of oVirt MOM's guest daemon."""

MOST_LINE_BYTES = 256
"""mom-guestd rejects longer lines."""

MOST_CLIENTS = 8
IDLE_SECONDS = 60.0
STALL_SECONDS = 10.0
"""mom-guestd serves at most `MOST_CLIENTS` TCP clients. It drops those that send no request for `IDLE_SECONDS`, or read no answer for
`STALL_SECONDS`."""

HANGUP_SECONDS = 0.5
"""Time between checks whether the host has opened the channel. Until then, each read returns immediately."""

REOPEN_SECONDS = 5.0
"""Time between checks whether the channel exists. The channel can be plugged in later."""

FILES = ("meminfo", "vmstat", "pressure/memory", "loadavg")

MOST_SHORT_SECONDS = 300
"""Longest effect of a message that the host is short of memory: if the host vanishes, the guest must not stay changed."""

REPORTING = "sys/module/page_reporting/parameters/page_reporting_order"
"""File with the smallest order of free memory (2^order pages) reported to the host (Linux 5.14); -1 without a driver."""

WAKING_BYTES = (64 << 10) - 1
"""Size of a read that wakes free page reporting: the kernel adds a zero byte, and frees a block of 16 pages. Smaller blocks, and
huge pages, would go to per-CPU lists instead."""

KEPT = "run/mom-guestd/reporting-order"
"""File with the original order of free page reporting, and the order that mom-guestd has set. A boot resets the file and the order."""

RETRY_SECONDS = 10.0

LEAST_ORDER, USUAL_ORDER, MOST_ORDER = 1, 2, 10
LEAST_TRIM_SECONDS, USUAL_TRIM_SECONDS = 60, 600

RECLAIM = "sys/fs/cgroup/memory.reclaim"
"""File of the root control group. The kernel reclaims the written number of bytes (Linux 5.19). Linux 6.11 also allows `swappiness=0`."""

TRIM_KIB = 16 << 10
TRIM_EACH_SECONDS = 1.0
TRIM_CPU_SHARE = 0.01
"""Each step drops up to `TRIM_KIB`. Steps follow after `TRIM_EACH_SECONDS`, or later to stay below this share of a CPU."""

TRIM_WATCH_SECONDS = 4.0
TRIM_STALL_SHARE = 0.005
TRIM_REFAULT_KIB = 1024
TRIM_REST_SECONDS = 60.0
"""Trimming pauses for `TRIM_REST_SECONDS` if tasks stall on memory for more than `TRIM_STALL_SHARE` of `TRIM_WATCH_SECONDS`. It also pauses
if more than `TRIM_REFAULT_KIB` of dropped cache is read again in that time."""

_NUMBER = re.compile(r"^(\w+):? +([0-9]{1,18})(?: kB)?$", re.MULTILINE | re.ASCII)
_PRESSURE = re.compile(
    r"^(some|full) avg10=([0-9]{1,3}\.[0-9]{2}) avg60=([0-9]{1,3}\.[0-9]{2}) avg300=([0-9]{1,3}\.[0-9]{2}) total=([0-9]{1,18})$",
    re.MULTILINE,
)
_LOAD = re.compile(r"^([0-9]{1,6}\.[0-9]{2}) ([0-9]{1,6}\.[0-9]{2}) ([0-9]{1,6}\.[0-9]{2}) [0-9]+/[0-9]+ [0-9]+$", re.MULTILINE)
_REQUEST = re.compile(r"(stats|props|short ([0-9]{1,9}))(?: ([0-9A-Za-z]{1,32}))?", re.ASCII)
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")

_SUMS = (
    ("mem_available", "MemTotal"),
    ("mem_unused", "MemFree"),
    ("mem_usable", "MemAvailable"),
    ("mem_free", "MemFree", "Buffers", "Cached"),
    ("mem_disk_caches", "Buffers", "Cached", "SwapCached"),
    ("swap_total", "SwapTotal"),
    ("major_fault", "pgmajfault"),
    ("oom_kills", "oom_kill"),
)
_DIFFERENCES = (("swap_usage", "SwapTotal", "SwapFree"), ("minor_fault", "pgfault", "pgmajfault"))
"""Statistics that are the difference of two values in meminfo (KiB) or vmstat (counts)."""


def figures(text: str, page_kib: int | None = None) -> dict[str, int | float]:
    """Return statistics from the content of `FILES`: KiB, counts since boot, percent.

    :param page_kib: size of a page; None to compute the size from the two counts of free memory
    """
    counts = {name: int(number) for name, number in _NUMBER.findall(text)}
    values: dict[str, int | float] = {
        name: sum(counts[part] for part in parts) for name, *parts in _SUMS if all(part in counts for part in parts)
    }
    values.update((name, counts[whole] - counts[part]) for name, whole, part in _DIFFERENCES if whole in counts and part in counts)
    page_kib = page_kib or _page_kib(counts.get("MemFree"), counts.get("nr_free_pages"))
    for name, key in (("swap_in", "pswpin"), ("swap_out", "pswpout")):
        if key in counts and page_kib:
            values[name] = counts[key] * page_kib
    for kind, *averages, total in _PRESSURE.findall(text):
        for seconds, average in zip((10, 60, 300), averages):  # noqa: B905  # Python 3.7 has no strict
            values[f"psi_memory_{kind}_avg{seconds}"] = float(average)
        values[f"psi_memory_{kind}_total"] = int(total)
    for loads in _LOAD.findall(text)[:1]:
        for minutes, load in zip((1, 5, 15), loads):  # noqa: B905  # as above
            values[f"load_{minutes}"] = float(load)
    return values


def _page_kib(free_kib: int | None, free_pages: int | None) -> int | None:
    # The counts are read one after the other, and differ a little. Pages have 4 to 64 KiB.
    if not free_kib or not free_pages:
        return None
    return min((4, 8, 16, 32, 64), key=lambda size: abs(size - free_kib / free_pages))


def properties(root: str = "/") -> dict[str, str]:
    """Return kernel and system as printable strings."""
    values = {"guestd": VERSION, "kernel": platform.release()}
    match = re.search(r'^PRETTY_NAME="?([^"\n]*)', _read(Path(root, "etc/os-release")), re.MULTILINE)
    if match:
        values["os"] = match.group(1)
    return {name: _UNPRINTABLE.sub("?", value)[:120] for name, value in values.items() if value}


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(1 << 16).decode("ascii", "replace")
    except OSError:
        return ""


def _write(path: Path, text: str) -> None:
    with path.open("wb", buffering=0) as file:
        file.write(text.encode())


def _tell(text: str) -> None:
    sys.stderr.write(f"mom-guestd: {text}\n")
    sys.stderr.flush()


class ReportingOrder:
    """Setting of free page reporting: the order, which mom-guestd lowers for a while. A file keeps the original order."""

    def __init__(self, root: str = "/") -> None:
        self._file = Path(root, REPORTING)
        self._kept = Path(root, KEPT)

    def now(self) -> int | None:
        """Return the order; None without free page reporting."""
        text = _read(self._file).strip()
        return int(text) if re.fullmatch("[0-9]{1,4}", text, re.ASCII) else None

    def lower(self, order: int) -> None:
        """Make the kernel also report free blocks of this order."""
        if not self.put_back():  # otherwise the original order would be lost
            return
        before = self.now()
        if before is None or before <= order:
            return
        try:
            self._kept.parent.mkdir(parents=True, exist_ok=True)
            new = self._kept.with_name(self._kept.name + ".new")
            new.write_text(f"{before} {order}\n")
            new.replace(self._kept)
            _write(self._file, f"{order}\n")
        except OSError as error:
            _tell(f"cannot change the order of free page reporting from {before}: {error.filename}: {error.strerror}")
            self.put_back()
            return
        _wake_reporting()

    def put_back(self) -> bool:
        """Restore the original order, unless the owner has changed it since. Return False if the caller must try again."""
        if not self._kept.exists():
            return True
        before, _, ours = _read(self._kept).strip().partition(" ")
        now = self.now()
        if now is None:
            return False
        try:
            if before.isdigit() and ours == str(now):
                _write(self._file, f"{before}\n")
            self._kept.unlink()
        except OSError as error:
            _tell(f"cannot restore the order of free page reporting to {before}: {error.filename}: {error.strerror}")
            return False
        return True


def _wake_reporting() -> None:
    # Reporting starts when the kernel frees a large block of memory. To read a setting into a large buffer, it allocates and frees one.
    with contextlib.suppress(OSError):
        setting = os.open("/proc/sys/kernel/ostype", os.O_RDONLY)
        try:
            os.read(setting, WAKING_BYTES)
        finally:
            os.close(setting)


class CacheCounts:
    """Amounts of page cache in KiB.

    - `idle`: cache that the kernel drops first
    - `busy`: other cache
    - `came`: upper bound of the cache that has become idle since boot
    - `left`: lower bound of the cache that has stopped being idle since boot
    - `refaulted`: cache that was read again after it had been dropped
    - `complete`: whether this kernel has all counts
    """

    PAGES = ("nr_inactive_file", "nr_active_file", "nr_dirtied", "pgdeactivate", "pgsteal_file", "pgactivate", "workingset_refault_file")
    READ_KIB = "pgpgin"

    def __init__(self, vmstat: str, page_kib: int) -> None:
        counts = {name: int(number) for name, number in _NUMBER.findall(vmstat)}
        self.complete = all(name in counts for name in (*self.PAGES, self.READ_KIB))
        idle, busy, dirtied, deactivated, stolen, activated, refaulted = (counts.get(name, 0) for name in self.PAGES)
        read_kib = counts.get(self.READ_KIB, 0)
        self.idle, self.busy, self.refaulted = idle * page_kib, busy * page_kib, refaulted * page_kib
        self.came = read_kib + (dirtied + deactivated) * page_kib
        self.left = (stolen + activated) * page_kib


def unused_since(then: CacheCounts, now: CacheCounts) -> int:
    """Return the KiB of page cache that has been idle since `then`: the smaller of two upper bounds.

    The kernel adds new pages at the head of the idle list, moves used pages to another list, and drops pages from the tail.
    """
    return max(0, min(now.idle - (now.came - then.came), then.idle - (now.left - then.left)))


class CacheTrim:
    """Trimmer that drops long unused page cache in small steps, while no task stalls on memory.

    :param unused_seconds: keep cache that was read or used within this time
    """

    def __init__(self, root: str, unused_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._proc = Path(root, "proc")
        self._reclaim = Path(root, RECLAIM)
        self._unused_seconds = unused_seconds
        self._clock = clock
        self._page_kib = os.sysconf("SC_PAGE_SIZE") // 1024
        self._history: collections.deque[tuple[float, CacheCounts]] = collections.deque()
        self._watched: tuple[float, int, CacheCounts] | None = None
        self._own_us = self._own_us_before = 0
        self._not_before = 0.0
        self.why_not = self._lacks()
        """Why mom-guestd never trims page cache; empty if it may."""
        self.trimmed_kib = 0

    def _lacks(self) -> str:
        if not os.access(str(self._reclaim), os.W_OK):
            return f"{self._reclaim} is not writable (needs control groups version 2 and Linux 5.19)"
        if not self._counts().complete:
            return "the kernel does not count dropped page cache and refaults"
        return "" if self._stalled_us() is not None else "the kernel does not report memory pressure (boot it with psi=1)"

    def _counts(self) -> CacheCounts:
        return CacheCounts(_read(self._proc / "vmstat"), self._page_kib)

    def _stalled_us(self) -> int | None:
        totals = [int(total) for kind, *_, total in _PRESSURE.findall(_read(self._proc / "pressure/memory")) if kind == "some"]
        return totals[0] if totals else None

    def turn(self, *, short: bool) -> float | None:
        """Do a step if one is due. Return the seconds until the next step; None if no step will follow.

        :param short: the host is short of memory; otherwise, mom-guestd only counts and drops nothing
        """
        if self.why_not:
            return None
        now = self._clock()
        each = self._unused_seconds / 8
        if not self._history or now - self._history[-1][0] >= each:
            self._history.append((now, self._counts()))
        while len(self._history) > 1 and now - self._history[1][0] >= self._unused_seconds:
            self._history.popleft()
        if not short:
            self._watched = None
            return each
        if now >= self._not_before:
            self._not_before = now + self._step(now)
        return min(each, self._not_before - now)

    def _step(self, now: float) -> float:
        spent = time.thread_time()
        counts, stalled_us = self._counts(), self._stalled_us()
        if stalled_us is None:
            return TRIM_REST_SECONDS
        if self._watched is None:
            self._watched, self._own_us, self._own_us_before = (now, stalled_us, counts), 0, 0
            return TRIM_WATCH_SECONDS
        began, stalled_then_us, then = self._watched
        # Subtract the stalls of this program. The kernel updates its totals every two seconds, so some may be from the previous watch.
        others_us = stalled_us - stalled_then_us - self._own_us - self._own_us_before
        watched = now - began >= TRIM_WATCH_SECONDS
        stalled = watched and others_us > TRIM_STALL_SHARE * (now - began) * 1e6
        calm = not stalled and counts.refaulted - then.refaulted <= TRIM_REFAULT_KIB
        if watched or not calm:
            self._watched, self._own_us, self._own_us_before = (now, stalled_us, counts), 0, self._own_us
        size = min(TRIM_KIB, self._unused(now, counts)) if calm else 0
        if size < TRIM_KIB // 4:
            return TRIM_REST_SECONDS
        started = time.monotonic()
        more = self._drop(size)
        self._own_us += int((time.monotonic() - started) * 1e6)
        left = self._counts()
        self.trimmed_kib += max(0, counts.idle + counts.busy - left.idle - left.busy)  # the kernel may drop more than requested
        return max(TRIM_EACH_SECONDS, (time.thread_time() - spent) / TRIM_CPU_SHARE) if more else TRIM_REST_SECONDS

    def _unused(self, now: float, counts: CacheCounts) -> int:
        at, then = self._history[0]
        return unused_since(then, counts) if now - at >= self._unused_seconds else 0

    def _drop(self, size_kib: int) -> bool:
        meminfo = dict(_NUMBER.findall(_read(self._proc / "meminfo")))
        # Without swap, the kernel can drop only page cache. With swap, kernels without `swappiness` refuse the request.
        only = "" if meminfo.get("SwapTotal") == "0" else " swappiness=0"
        try:
            _write(self._reclaim, f"{size_kib << 10}{only}")
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EBUSY, errno.EINTR):
                self.why_not = f"{self._reclaim} does not accept {only.strip() or 'a number'} ({error.strerror})"
                _tell(f"page cache is not trimmed: {self.why_not}")
            return False
        return True


class Relief:
    """Help for a host that is short of memory, if the guest's owner allows it.

    :param order: smallest order of free memory to report during a shortage; None for no change
    :param trim_seconds: drop page cache that was unused for this time; None to drop none
    """

    def __init__(
        self, root: str = "/", order: int | None = None, trim_seconds: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._wanted = order
        self._clock = clock
        self._order = ReportingOrder(root)
        self._trim = None if trim_seconds is None else CacheTrim(root, trim_seconds, clock)
        self._until = -math.inf
        self._lowered = False
        self._ended = False
        self._changing = threading.RLock()
        self._told = threading.Event()
        if self._trim is not None and self._trim.why_not:
            _tell(f"page cache is not trimmed: {self._trim.why_not}")

    @property
    def allowed(self) -> bool:
        """Whether the owner allows any help."""
        return self._wanted is not None or self._trim is not None

    def begin(self) -> None:
        """Restore the order of free page reporting if an earlier process changed it, and start the thread."""
        self._order.put_back()
        if self.allowed:
            threading.Thread(target=self._run, name="relief", daemon=True).start()

    def told(self, seconds: float) -> None:
        """Record that the host is short of memory for the next `seconds`."""
        with self._changing:
            if self.allowed and not self._ended:
                self._until = self._clock() + min(seconds, MOST_SHORT_SECONDS)
                self._settle()
        self._told.set()

    def left(self) -> float:
        """Return the seconds until the recorded shortage ends."""
        return max(0.0, self._until - self._clock())

    def figures(self) -> dict[str, int]:
        """Return statistics about this help, for an answer to the host."""
        order = self._order.now()
        values = {} if order is None else {"reporting_order": order}
        if self.allowed:
            values["short_left"] = math.ceil(self.left())
        if self._trim is not None and not self._trim.why_not:
            values["trimmed"] = self._trim.trimmed_kib
        return values

    def turn(self) -> float | None:
        """Do the work that is due. Return the seconds until more work is due; None to wait for the next message."""
        with self._changing:
            if not self._ended:
                self._settle()
            left, late = self.left(), RETRY_SECONDS if self._lowered else None
        trim_wait = self._trim.turn(short=left > 0) if self._trim is not None else None
        return min((wait for wait in (left or late, trim_wait) if wait is not None), default=None)

    def _settle(self) -> None:
        # Set the order once per shortage, so that later changes by the guest's owner stay.
        short = self.left() > 0
        if short and not self._lowered and self._wanted is not None:
            self._order.lower(self._wanted)
            self._lowered = True
        elif self._lowered and not short:
            self._lowered = not self._order.put_back()

    def _run(self) -> None:
        while not self._ended:
            self._told.clear()
            self._told.wait(self.turn())

    def end(self) -> None:
        """Undo all changes, and accept no more messages."""
        with self._changing:
            self._ended = True
            self._order.put_back()
        self._told.set()


class GuestFigures:
    """Answers to requests. `root` contains /proc."""

    def __init__(self, root: str = "/", page_kib: int | None = None, relief: Relief | None = None) -> None:
        self._root = root
        self._page_kib = page_kib or os.sysconf("SC_PAGE_SIZE") // 1024
        self._relief = relief or Relief(root)

    def answer(self, request: str) -> str:
        """Return the answer to a request, in complete lines."""
        request = request.strip()
        if not request:
            return ""
        match = _REQUEST.fullmatch(request)
        if match is None:
            return "error:unknown request\n"
        kind, seconds, token = match.groups()
        values: Mapping[str, int | float | str]
        if kind == "stats":
            text = "\n".join(_read(Path(self._root, "proc", name)) for name in FILES)
            values = {**figures(text, self._page_kib), **self._relief.figures()}
        elif kind == "props":
            values = properties(self._root)
        else:
            self._relief.told(int(seconds))
            values = self._relief.figures()
        if token is None:
            names = [name for name in PLAIN_STATS if name in values] if kind == "stats" else list(values)
            return "".join(f"{name}:{values[name]}\n" for name in names)
        lines = "".join(f"{name}:{value}\n" for name, value in values.items())
        return f"begin:{token}\n{lines}end:{token}\n"


def converse(guest: GuestFigures, lines: io.BufferedIOBase, send: Callable[[bytes], object]) -> None:
    """Answer the requests in a stream. Reject long lines."""
    skipping = False
    while True:
        line = lines.readline(MOST_LINE_BYTES + 1)
        if not line:
            return
        if not line.endswith(b"\n"):
            skipping = True
        elif skipping:
            skipping = False
            send(b"error:the line is too long\n")
        else:
            send(guest.answer(line.decode("ascii", "replace")).encode("ascii", "replace"))


class Clients(socketserver.ThreadingTCPServer):
    """Server of TCP clients, with a thread for each.

    :param allowed: networks whose clients are answered; empty for all
    """

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = MOST_CLIENTS

    def __init__(self, guest: GuestFigures, address: str, port: int, allowed: Sequence[Network]) -> None:
        self.guest = guest
        self.places = threading.Semaphore(MOST_CLIENTS)
        self._allowed = allowed
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        super().__init__((address, port), _Client)

    def verify_request(self, request: object, client_address: tuple[str, int]) -> bool:
        """Return whether mom-guestd serves this client."""
        address = ipaddress.ip_address(client_address[0].partition("%")[0].replace("::ffff:", ""))  # IPv4 through an IPv6 socket
        return not self._allowed or any(address in network for network in self._allowed)

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore disconnected and slow clients."""


class _Client(socketserver.StreamRequestHandler):
    server: Clients

    def handle(self) -> None:
        if self.server.places.acquire(blocking=False):
            try:
                self.connection.settimeout(IDLE_SECONDS)
                converse(self.server.guest, self.rfile, self._send)
            finally:
                self.server.places.release()

    def _send(self, answer: bytes) -> None:
        self.connection.settimeout(STALL_SECONDS)
        self.connection.sendall(answer)
        self.connection.settimeout(IDLE_SECONDS)


def serve_channel(guest: GuestFigures, channel: str, root: str = "/") -> NoReturn:
    """Serve the channel forever. Print to stderr when the channel's state changes."""
    status = ""
    while True:
        path = find_port(channel, root)
        text = f"serving {path}"
        try:
            with Path(path).open("r+b", buffering=0) as port, io.BufferedReader(port) as lines:
                status = _say(text, status)
                while True:
                    converse(guest, lines, port.write)
                    time.sleep(HANGUP_SECONDS)
        except OSError as error:
            status = _say(f"{path}: {error.strerror}", status)
            time.sleep(REOPEN_SECONDS)


def _say(text: str, before: str) -> str:
    if text != before:
        _tell(text)
    return text


def find_port(channel: str, root: str = "/") -> str:
    """Return the path of a channel's device."""
    if channel.startswith("/"):
        return channel
    named = Path(root, "dev/virtio-ports", channel)
    if not named.exists():  # without udev, no link has the channel's name
        for name in sorted(Path(root).glob("sys/class/virtio-ports/*/name")):
            if _read(name).strip() == channel:
                return str(Path(root, "dev", name.parent.name))
    return str(named)


def parser_of_options() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(prog="mom-guestd", description="Reports this guest's memory to the host.")
    parser.add_argument("--version", action="version", version="mom-guestd " + VERSION)
    parser.add_argument("--channel", default=CHANNEL, help="virtio-serial channel, or the path of its device (default: %(default)s)")
    parser.add_argument("--listen", metavar="ADDRESS", help="also listen on this numeric TCP address (:: for all, IPv4 too)")
    parser.add_argument("--port", type=int, default=PORT, help="TCP port (default: %(default)s)")
    parser.add_argument(
        "--allow", action="append", default=[], metavar="NETWORK", help="answer only TCP clients of this network, such as 192.168.122.1/32"
    )
    parser.add_argument(
        "--reporting-order",
        type=int,
        nargs="?",
        const=USUAL_ORDER,
        choices=range(LEAST_ORDER, MOST_ORDER + 1),
        metavar="ORDER",
        help="while the host is short of memory, also report free blocks of 2^ORDER pages (without a number: %(const)s)",
    )
    parser.add_argument(
        "--trim",
        type=int,
        nargs="?",
        const=USUAL_TRIM_SECONDS,
        metavar="SECONDS",
        help="while the host is short of memory, drop page cache that was unused for SECONDS (without a number: %(const)s)",
    )
    parser.add_argument("--once", choices=("stats", "props"), help="print the answer and exit")
    parser.add_argument("--put-back", action="store_true", help="restore settings that a killed mom-guestd has changed, and exit")
    parser.add_argument("--root", default="/", help=argparse.SUPPRESS)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run mom-guestd, and return the exit code."""
    parser = parser_of_options()
    chosen = parser.parse_args(arguments)
    if chosen.trim is not None and chosen.trim < LEAST_TRIM_SECONDS:
        parser.error(f"--trim: SECONDS must be at least {LEAST_TRIM_SECONDS}")
    if chosen.once:
        sys.stdout.write(GuestFigures(chosen.root).answer(chosen.once))
        return 0
    if chosen.put_back:
        return 0 if ReportingOrder(chosen.root).put_back() else 1
    try:
        allowed = tuple(ipaddress.ip_network(network) for network in chosen.allow)
        listen = chosen.listen and str(ipaddress.ip_address(chosen.listen))
    except ValueError as error:
        parser.error(str(error))
    relief = Relief(chosen.root, chosen.reporting_order, chosen.trim)
    guest = GuestFigures(chosen.root, relief=relief)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    try:
        server = Clients(guest, listen, chosen.port, allowed) if listen else None
    except OSError as error:
        hint = " (is another mom-guestd running?)" if error.errno == errno.EADDRINUSE else ""
        sys.stderr.write(f"mom-guestd: cannot listen: {error.strerror}{hint}\n")
        return 1
    if server is not None:
        threading.Thread(target=server.serve_forever, args=(3600.0,), daemon=True).start()
    try:
        relief.begin()
        serve_channel(guest, chosen.channel, chosen.root)
    except KeyboardInterrupt:
        return 0
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        relief.end()


if __name__ == "__main__":
    sys.exit(main())
