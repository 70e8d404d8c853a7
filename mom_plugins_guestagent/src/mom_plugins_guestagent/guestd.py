#!/usr/bin/env python3
"""mom-guestd: runs inside a guest and tells the host how the guest's memory is.

This one file needs Python 3.7 or later and nothing else, so that it can be copied into any guest. It reads a few files of /proc and /sys
when it is asked, and answers over a virtio-serial channel (no network needed), over TCP, or both. It changes nothing, unless the guest's
owner has it help a host that is short of memory (--reporting-order, --trim), and then puts back what it changed.

A request is a line, and so is each part of an answer:

    stats           mem_available:N, mem_unused:N, swap_in:N, swap_out:N, major_fault:N, minor_fault:N
    props           what kind of guest this is, one name:value a line
    short N         the host is short of memory for the next N seconds, 0: it is not; the answer says how that goes
    stats TOKEN     begin:TOKEN, everything that is known, end:TOKEN; the same for the others

Sizes are in KiB, mem_available is all the memory that the kernel manages, and counts are since the guest was booted. With a token, the
host can tell where an answer begins and ends, and which question it belongs to: a channel may still hold what was asked before.
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
"""The answer to `stats` without a token, in this order: the protocol of MOM's guest daemon."""

MOST_LINE_BYTES = 256
"""A request is shorter than 50 bytes; what is longer is skipped to the end of its line."""

MOST_CLIENTS = 8
IDLE_SECONDS = 60.0
STALL_SECONDS = 10.0
"""Over TCP: so many at once, closed when they ask nothing or do not read their answer for so long."""

FRESH_SECONDS = 0.1
"""Figures are read at most this often, however many ask: what the other side can make this daemon spend is bounded."""

HANGUP_SECONDS = 0.5
"""How often to look whether the host has connected to the channel: until it has, the device reads as at its end."""

REOPEN_SECONDS = 5.0
"""How often to look whether the channel is there; it can be plugged in while the guest runs."""

FILES = ("meminfo", "vmstat", "pressure/memory", "loadavg")
"""Read below /proc."""

MOST_SHORT_SECONDS = 300
"""What the host says of itself is believed for so long at most: one that is gone, or hangs, changes nothing here for good."""

REPORTING = "sys/module/page_reporting/parameters/page_reporting_order"
"""From which order on free memory is reported to the host: pieces of 2^order pages. Linux 5.14; -1 where no driver reports."""

WAKING_BYTES = (64 << 10) - 1
"""And a zero behind them: a piece of 16 pages. The lists of CPUs hold up to 8 together, and huge pages."""

KEPT = "run/mom-guestd/reporting-order"
"""The order that stood there before, and the one that was set instead, while it is. /run is empty after a boot, and so is the parameter."""

RETRY_SECONDS = 10.0
"""After so long it is tried again to put back what could not be put back."""

LEAST_ORDER, USUAL_ORDER, MOST_ORDER = 1, 2, 10
LEAST_TRIM_SECONDS, USUAL_TRIM_SECONDS = 60, 600

RECLAIM = "sys/fs/cgroup/memory.reclaim"
"""Takes the number of bytes that the root group shall give. Linux 5.19; with `swappiness=0` behind it from 6.11 on."""

TRIM_KIB = 16 << 10
TRIM_EACH_SECONDS = 1.0
TRIM_CPU_SHARE = 0.01
"""Page cache is dropped in steps of so much, one in a second at most, and less often where a step costs more of a CPU than this share."""

TRIM_WATCH_SECONDS = 4.0
TRIM_STALL_SHARE = 0.005
TRIM_REFAULT_KIB = 1024
TRIM_REST_SECONDS = 60.0
"""Where the guest's tasks waited for memory in more than this share of so many seconds, or read again more of what had been dropped, it
rests for a minute."""

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
"""Figures, and what in meminfo (KiB) and vmstat (counts) they are made of."""


def figures(text: str, page_kib: int | None = None) -> dict[str, int | float]:
    """The figures in the files in `FILES`, one after the other: sizes in KiB, counts since boot, shares in percent.

    :param page_kib: the guest's page size; where it is not known it is worked out from the two counts of free memory
    """
    known = {name: int(number) for name, number in _NUMBER.findall(text)}
    found: dict[str, int | float] = {
        name: sum(known[part] for part in parts) for name, *parts in _SUMS if all(part in known for part in parts)
    }
    found.update((name, known[whole] - known[part]) for name, whole, part in _DIFFERENCES if whole in known and part in known)
    page_kib = page_kib or _page_kib(known.get("MemFree"), known.get("nr_free_pages"))
    for name, key in (("swap_in", "pswpin"), ("swap_out", "pswpout")):
        if key in known and page_kib:
            found[name] = known[key] * page_kib
    for kind, *averages, total in _PRESSURE.findall(text):
        for seconds, average in zip((10, 60, 300), averages):  # noqa: B905  # Python 3.7 has no strict
            found[f"psi_memory_{kind}_avg{seconds}"] = float(average)
        found[f"psi_memory_{kind}_total"] = int(total)
    for loads in _LOAD.findall(text)[:1]:
        for minutes, load in zip((1, 5, 15), loads):  # noqa: B905  # as above
            found[f"load_{minutes}"] = float(load)
    return found


def _page_kib(free_kib: int | None, free_pages: int | None) -> int | None:
    """The page size, a power of two of 4 to 64 KiB; the two counts are read one after the other, and so differ a little."""
    if not free_kib or not free_pages:
        return None
    return min((4, 8, 16, 32, 64), key=lambda size: abs(size - free_kib / free_pages))


def properties(root: str = "/") -> dict[str, str]:
    """The guest's kernel, system and CPUs, as printable texts."""
    found = {"guestd": VERSION, "hostname": platform.node(), "kernel": platform.release(), "vcpus": str(os.cpu_count() or "")}
    for name in ("etc/os-release", "usr/lib/os-release"):
        match = re.search(r'^PRETTY_NAME="?([^"\n]*)', _read(Path(root, name)), re.MULTILINE)
        if match:
            found["os"] = match.group(1)
            break
    return {name: _UNPRINTABLE.sub("?", value)[:120] for name, value in found.items() if value}


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(1 << 16).decode("ascii", "replace")
    except OSError:
        return ""


def _write(path: Path, text: str) -> None:
    """In one call, as files of the kernel want it. Raises `OSError`."""
    with path.open("wb", buffering=0) as file:
        file.write(text.encode())


def _tell(text: str) -> None:
    sys.stderr.write(f"mom-guestd: {text}\n")
    sys.stderr.flush()


class ReportingOrder:
    """The order of free page reporting, which is lowered for a while and put back. Whatever ends this process, the next one knows what
    stood there: that is in a file before anything is changed."""

    def __init__(self, root: str = "/") -> None:
        self._file = Path(root, REPORTING)
        self._kept = Path(root, KEPT)

    def now(self) -> int | None:
        """The order; None where nothing is reported."""
        text = _read(self._file).strip()
        return int(text) if re.fullmatch("[0-9]{1,4}", text, re.ASCII) else None

    def lower(self, order: int) -> None:
        """Report pieces from this order on, where only larger ones are reported now. A refusal is said on stderr."""
        if not self.put_back():  # what stood there first would be lost
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
            _tell(f"the order of free page reporting stays at {before}: {error.filename}: {error.strerror}")
            self.put_back()
            return
        _wake_reporting()

    def put_back(self) -> bool:
        """Set what stood there before, unless the owner has changed it meanwhile. False: that failed, and is tried again."""
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
            _tell(f"the order of free page reporting is to be {before} again: {error.filename}: {error.strerror}")
            return False
        return True


def _wake_reporting() -> None:
    """The kernel looks for what it may report when a piece of at least this order becomes free that is too large for the lists that each
    CPU keeps for itself. In a guest that only works on what it has, that may take minutes. To read a setting with so large a buffer, the
    kernel takes a piece of that size, and frees it."""
    with contextlib.suppress(OSError):
        setting = os.open("/proc/sys/kernel/ostype", os.O_RDONLY)
        try:
            os.read(setting, WAKING_BYTES)
        finally:
            os.close(setting)


class CacheCounts:
    """The page cache at one moment, KiB: what the kernel would drop first (`idle`), the rest (`busy`), what has come to the former since
    boot at most (`came`) and left it at least (`left`), and what was read again after it had been dropped (`refaulted`).

    `complete`: this kernel counts all of it.
    """

    PAGES = ("nr_inactive_file", "nr_active_file", "nr_dirtied", "pgdeactivate", "pgsteal_file", "pgactivate", "workingset_refault_file")
    READ_KIB = "pgpgin"

    def __init__(self, vmstat: str, page_kib: int) -> None:
        known = {name: int(number) for name, number in _NUMBER.findall(vmstat)}
        self.complete = all(name in known for name in (*self.PAGES, self.READ_KIB))
        idle, busy, dirtied, deactivated, stolen, activated, refaulted = (known.get(name, 0) for name in self.PAGES)
        read_kib = known.get(self.READ_KIB, 0)
        self.idle, self.busy, self.refaulted = idle * page_kib, busy * page_kib, refaulted * page_kib
        self.came = read_kib + (dirtied + deactivated) * page_kib
        self.left = (stolen + activated) * page_kib


def unused_since(then: CacheCounts, now: CacheCounts) -> int:
    """How much of the page cache has been where it is dropped first since then, in KiB: the kernel puts new pages at the head of that list,
    those that are used again into another one, and drops from the tail. Either bound may be too high: not every file system counts
    what it reads, nor the kernel each page that leaves."""
    return max(0, min(now.idle - (now.came - then.came), then.idle - (now.left - then.left)))


class CacheTrim:
    """Drops page cache that was not used for long, a little at a time, and only while no task of the guest waits for memory.

    :param unused_seconds: what came or was used later than that ago stays
    :param clock: seconds
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
        """Why this guest's page cache is never trimmed; empty if it may be."""
        self.trimmed_kib = 0

    def _lacks(self) -> str:
        if not os.access(str(self._reclaim), os.W_OK):
            return f"no {self._reclaim} that can be written (control groups version 2, Linux 5.19)"
        if not self._counts().complete:
            return "the kernel does not count what page cache is dropped and read again"
        return "" if self._stalled_us() is not None else "the kernel does not tell how long tasks wait for memory (psi=1)"

    def _counts(self) -> CacheCounts:
        return CacheCounts(_read(self._proc / "vmstat"), self._page_kib)

    def _stalled_us(self) -> int | None:
        found = [int(total) for kind, *_, total in _PRESSURE.findall(_read(self._proc / "pressure/memory")) if kind == "some"]
        return found[0] if found else None

    def turn(self, *, short: bool) -> float | None:
        """Do what is due now, and return the seconds until something may be again; None: never.

        :param short: the host is short of memory
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
        """Drop a little, if that harms nobody; the seconds until the next step."""
        spent = time.thread_time()
        counts, stalled_us = self._counts(), self._stalled_us()
        if stalled_us is None:
            return TRIM_REST_SECONDS
        if self._watched is None:
            self._watched, self._own_us, self._own_us_before = (now, stalled_us, counts), 0, 0
            return TRIM_WATCH_SECONDS
        began, stalled_then_us, then = self._watched
        # What this program waits for while it has memory dropped counts as well, and the kernel brings its totals up to date every two
        # seconds: what came to them since may be of the time before.
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
        self.trimmed_kib += max(0, counts.idle + counts.busy - left.idle - left.busy)  # the kernel may drop more than it was asked for
        return max(TRIM_EACH_SECONDS, (time.thread_time() - spent) / TRIM_CPU_SHARE) if more else TRIM_REST_SECONDS

    def _unused(self, now: float, counts: CacheCounts) -> int:
        """KiB of page cache that were not used for long; 0 as long as that is not known."""
        at, then = self._history[0]
        return unused_since(then, counts) if now - at >= self._unused_seconds else 0

    def _drop(self, size_kib: int) -> bool:
        """Have the kernel drop so much, and only page cache. False: there is no more of it."""
        known = dict(_NUMBER.findall(_read(self._proc / "meminfo")))
        # Without swap, only page cache can be dropped. With it, kernels that cannot be told to leave it alone refuse the whole order.
        only = "" if known.get("SwapTotal") == "0" else " swappiness=0"
        try:
            _write(self._reclaim, f"{size_kib << 10}{only}")
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EBUSY, errno.EINTR):
                self.why_not = f"{self._reclaim} takes no {only.strip() or 'number'} ({error.strerror})"
                _tell(f"page cache is not trimmed: {self.why_not}")
            return False
        return True


class Relief:
    """What this guest does for a host that is short of memory, as far as its owner lets it.

    :param order: report free memory in pieces from this order on meanwhile; None: as it is
    :param trim_seconds: drop page cache that was not used for so long; None: nothing
    :param clock: seconds
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
        """Whether the owner lets this guest do anything for its host."""
        return self._wanted is not None or self._trim is not None

    def begin(self) -> None:
        """Put back what an earlier process left, and start the thread that ends it in time."""
        self._order.put_back()
        if self.allowed:
            threading.Thread(target=self._run, name="relief", daemon=True).start()

    def told(self, seconds: float) -> None:
        """The host is short of memory for so long from now on."""
        with self._changing:
            if self.allowed and not self._ended:
                self._until = self._clock() + min(seconds, MOST_SHORT_SECONDS)
                self._settle()
        self._told.set()

    def left(self) -> float:
        """For how many seconds more the host is short of memory, as far as is known."""
        return max(0.0, self._until - self._clock())

    def figures(self) -> dict[str, int]:
        """How that goes: the order of free page reporting, and where the owner allows anything, seconds and KiB."""
        order = self._order.now()
        found = {} if order is None else {"reporting_order": order}
        if self.allowed:
            found["short_left"] = math.ceil(self.left())
        if self._trim is not None and not self._trim.why_not:
            found["trimmed"] = self._trim.trimmed_kib
        return found

    def turn(self) -> float | None:
        """Do what is due now, and return the seconds until something may be again; None: not before the host says something."""
        with self._changing:
            if not self._ended:
                self._settle()
            left, late = self.left(), RETRY_SECONDS if self._lowered else None
        rest = self._trim.turn(short=left > 0) if self._trim is not None else None
        return min((wait for wait in (left or late, rest) if wait is not None), default=None)

    def _settle(self) -> None:
        """Bring the order to where it is to be now. It is changed once for each time in which the host is short: the owner has the last
        word."""
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
        """Put everything back, for good."""
        with self._changing:
            self._ended = True
            self._order.put_back()
        self._told.set()


class GuestFigures:
    """Answers requests about this guest. `root` is where /proc is found, `page_kib` its page size."""

    def __init__(self, root: str = "/", page_kib: int | None = None, relief: Relief | None = None) -> None:
        self._root = root
        self._page_kib = page_kib or os.sysconf("SC_PAGE_SIZE") // 1024
        self._relief = relief or Relief(root)
        self._figures: dict[str, int | float] = {}
        self._read_at = -FRESH_SECONDS
        self._lock = threading.Lock()

    def answer(self, request: str) -> str:
        """The answer to one request, of whole lines; empty for an empty one."""
        request = request.strip()
        if not request:
            return ""
        match = _REQUEST.fullmatch(request)
        if match is None:
            return "error:unknown request\n"
        what, seconds, token = match.groups()
        said: Mapping[str, int | float | str]
        if what == "stats":
            said = {**self.figures(), **self._relief.figures()}
        elif what == "props":
            said = properties(self._root)
        else:
            self._relief.told(int(seconds))
            said = self._relief.figures()
        if token is None:
            names = [name for name in PLAIN_STATS if name in said] if what == "stats" else list(said)
            return "".join(f"{name}:{said[name]}\n" for name in names)
        lines = "".join(f"{name}:{value}\n" for name, value in said.items())
        return f"begin:{token}\n{lines}end:{token}\n"

    def figures(self) -> dict[str, int | float]:
        """How memory is now."""
        with self._lock:
            now = time.monotonic()
            if now - self._read_at >= FRESH_SECONDS:
                self._figures = figures("\n".join(_read(Path(self._root, "proc", name)) for name in FILES), self._page_kib)
                self._read_at = now
            return self._figures


def converse(guest: GuestFigures, lines: io.BufferedIOBase, send: Callable[[bytes], object]) -> None:
    """Answer what is asked in a stream, until it ends. A line that is too long is skipped, and not kept."""
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
    """Serves clients over TCP at one address, each in a thread.

    :param allowed: networks from which clients may come; all if there are none
    :param places: a semaphore of as many clients as there may be, at all addresses together
    """

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = MOST_CLIENTS

    def __init__(self, guest: GuestFigures, address: str, port: int, allowed: Sequence[Network], places: threading.Semaphore) -> None:
        self.guest = guest
        self._allowed = allowed
        self._places = places
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        super().__init__((address, port), _Client)

    def server_bind(self) -> None:
        """Another server may have the same port for IPv4."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        super().server_bind()

    def verify_request(self, request: object, client_address: tuple[str, int]) -> bool:
        """Who may ask, and finds a place."""
        address = ipaddress.ip_address(client_address[0].partition("%")[0])
        return (not self._allowed or any(address in network for network in self._allowed)) and self._places.acquire(blocking=False)

    def process_request(self, request: socket.socket | tuple[bytes, socket.socket], client_address: tuple[str, int]) -> None:
        """In a thread, if the guest has one left: its place is given back otherwise."""
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._places.release()
            raise

    def process_request_thread(self, request: socket.socket | tuple[bytes, socket.socket], client_address: tuple[str, int]) -> None:
        """In the client's thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """It has gone in the middle, or was too slow: nothing to tell of."""


class _Client(socketserver.StreamRequestHandler):
    server: Clients

    def handle(self) -> None:
        self.connection.settimeout(IDLE_SECONDS)
        converse(self.server.guest, self.rfile, self._send)

    def _send(self, answer: bytes) -> None:
        self.connection.settimeout(STALL_SECONDS)
        self.connection.sendall(answer)
        self.connection.settimeout(IDLE_SECONDS)


def serve_channel(guest: GuestFigures, channel: str, root: str = "/") -> NoReturn:
    """Serve the channel for ever, whether it is there and the host connected or not. What has changed is said on stderr.

    :param channel: its name, or the path of a device
    """
    said = ""
    while True:
        path = find_port(channel, root)
        text = f"serving {path}"
        try:
            with Path(path).open("r+b", buffering=0) as port, io.BufferedReader(port) as lines:
                said = _say(text, said)
                while True:
                    converse(guest, lines, port.write)
                    time.sleep(HANGUP_SECONDS)
        except OSError as error:
            said = _say(f"{path}: {error.strerror}", said)
            time.sleep(REOPEN_SECONDS)


def _say(text: str, said: str) -> str:
    if text != said:
        _tell(text)
    return text


def find_port(channel: str, root: str = "/") -> str:
    """The device of a channel: as udev names it, or where there is no udev, as the kernel does. A path is taken as it is."""
    if channel.startswith("/"):
        return channel
    named = Path(root, "dev/virtio-ports", channel)
    if not named.exists():
        for name in sorted(Path(root).glob("sys/class/virtio-ports/*/name")):
            if _read(name).strip() == channel:
                return str(Path(root, "dev", name.parent.name))
    return str(named)


def parser_of_options() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="mom-guestd", description="Reports this guest's memory to the host.")
    parser.add_argument("--version", action="version", version="mom-guestd " + VERSION)
    parser.add_argument("--channel", default=CHANNEL, help="virtio-serial channel, or the path of its device (default: %(default)s)")
    parser.add_argument("--listen", action="append", default=[], metavar="ADDRESS", help="numeric address for TCP, too; may be repeated")
    parser.add_argument("--port", type=int, default=PORT, help="TCP port (default: %(default)s)")
    parser.add_argument(
        "--allow", action="append", default=[], metavar="NETWORK", help="answer TCP clients from there only, such as 192.168.122.1/32"
    )
    parser.add_argument(
        "--reporting-order",
        type=int,
        nargs="?",
        const=USUAL_ORDER,
        choices=range(LEAST_ORDER, MOST_ORDER + 1),
        metavar="ORDER",
        help="while the host is short of memory, report free memory in pieces of 2^ORDER pages, too (without a number: %(const)s)",
    )
    parser.add_argument(
        "--trim",
        type=int,
        nargs="?",
        const=USUAL_TRIM_SECONDS,
        metavar="SECONDS",
        help="while the host is short of memory, drop page cache that was not used for so long (without a number: %(const)s)",
    )
    parser.add_argument("--once", choices=("stats", "props"), help="print the answer and end")
    parser.add_argument("--put-back", action="store_true", help="restore settings that a killed mom-guestd has changed, and end")
    parser.add_argument("--root", default="/", help=argparse.SUPPRESS)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run mom-guestd, and return the exit code."""
    parser = parser_of_options()
    chosen = parser.parse_args(arguments)
    if chosen.trim is not None and chosen.trim < LEAST_TRIM_SECONDS:
        parser.error(f"--trim: page cache that was used in the last {LEAST_TRIM_SECONDS} s is in use")
    if chosen.once:
        sys.stdout.write(GuestFigures(chosen.root).answer(chosen.once))
        return 0
    if chosen.put_back:
        return 0 if ReportingOrder(chosen.root).put_back() else 1
    try:
        allowed = tuple(ipaddress.ip_network(network) for network in chosen.allow)
        listen = [str(ipaddress.ip_address(address)) for address in chosen.listen]
    except ValueError as error:
        parser.error(str(error))
    relief = Relief(chosen.root, chosen.reporting_order, chosen.trim)
    guest = GuestFigures(chosen.root, relief=relief)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    places = threading.Semaphore(MOST_CLIENTS)
    try:
        servers = [Clients(guest, address, chosen.port, allowed, places) for address in listen]
    except OSError as error:
        hint = " (is another mom-guestd running?)" if error.errno == errno.EADDRINUSE else ""
        sys.stderr.write(f"mom-guestd: cannot listen: {error.strerror}{hint}\n")
        return 1
    for server in servers:
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
