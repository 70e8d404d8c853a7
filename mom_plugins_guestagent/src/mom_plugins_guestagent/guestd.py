#!/usr/bin/env python3
"""mom-guestd: runs inside a guest and tells the host how the guest's memory is.

This one file needs Python 3.7 or later and nothing else, so that it can be copied into any guest. It reads a few files of /proc when
it is asked, changes nothing, and answers over a virtio-serial channel (no network needed), over TCP, or both.

A request is a line, and so is each part of an answer:

    stats           mem_available:N, mem_unused:N, swap_in:N, swap_out:N, major_fault:N, minor_fault:N
    props           what kind of guest this is, one name:value a line
    stats TOKEN     begin:TOKEN, everything that is known, end:TOKEN; the same for props

Sizes are in KiB, mem_available is all the memory that the kernel manages, and counts are since the guest was booted. With a token, the
host can tell where an answer begins and ends, and which question it belongs to: a channel may still hold what was asked before.
"""

from __future__ import annotations

import argparse
import errno
import io
import ipaddress
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
    from collections.abc import Callable, Sequence
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

_NUMBER = re.compile(r"^(\w+):? +([0-9]{1,18})(?: kB)?$", re.MULTILINE | re.ASCII)
_PRESSURE = re.compile(
    r"^(some|full) avg10=([0-9]{1,3}\.[0-9]{2}) avg60=([0-9]{1,3}\.[0-9]{2}) avg300=([0-9]{1,3}\.[0-9]{2}) total=([0-9]{1,18})$",
    re.MULTILINE,
)
_LOAD = re.compile(r"^([0-9]{1,6}\.[0-9]{2}) ([0-9]{1,6}\.[0-9]{2}) ([0-9]{1,6}\.[0-9]{2}) [0-9]+/[0-9]+ [0-9]+$", re.MULTILINE)
_REQUEST = re.compile(r"(stats|props)(?: ([0-9A-Za-z]{1,32}))?")
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


class GuestFigures:
    """Answers requests about this guest. `root` is where /proc is found, `page_kib` its page size."""

    def __init__(self, root: str = "/", page_kib: int | None = None) -> None:
        self._root = root
        self._page_kib = page_kib or os.sysconf("SC_PAGE_SIZE") // 1024
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
        what, token = match.groups()
        said = self.figures() if what == "stats" else properties(self._root)
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
        sys.stderr.write(f"mom-guestd: {text}\n")
        sys.stderr.flush()
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


def main(arguments: list[str] | None = None) -> int:
    """The command line. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="mom-guestd", description="Tells the host how this guest's memory is.")
    parser.add_argument("--version", action="version", version="mom-guestd " + VERSION)
    parser.add_argument("--channel", default=CHANNEL, help="virtio-serial channel, or the path of its device (default: %(default)s)")
    parser.add_argument("--listen", action="append", default=[], metavar="ADDRESS", help="numeric address for TCP, too; may be repeated")
    parser.add_argument("--port", type=int, default=PORT, help="TCP port (default: %(default)s)")
    parser.add_argument(
        "--allow", action="append", default=[], metavar="NETWORK", help="answer TCP clients from there only, such as 192.168.122.1/32"
    )
    parser.add_argument("--once", choices=("stats", "props"), help="print the answer and end")
    parser.add_argument("--root", default="/", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    guest = GuestFigures(chosen.root)
    if chosen.once:
        sys.stdout.write(guest.answer(chosen.once))
        return 0
    try:
        allowed = tuple(ipaddress.ip_network(network) for network in chosen.allow)
        listen = [str(ipaddress.ip_address(address)) for address in chosen.listen]
    except ValueError as error:
        parser.error(str(error))
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    places = threading.Semaphore(MOST_CLIENTS)
    try:
        servers = [Clients(guest, address, chosen.port, allowed, places) for address in listen]
    except OSError as error:
        taken = " (another one runs already?)" if error.errno == errno.EADDRINUSE else ""
        sys.stderr.write(f"mom-guestd: cannot listen: {error.strerror}{taken}\n")
        return 1
    for server in servers:
        threading.Thread(target=server.serve_forever, args=(3600.0,), daemon=True).start()
    try:
        serve_channel(guest, chosen.channel, chosen.root)
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())
