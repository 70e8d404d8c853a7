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
import contextlib
import errno
import ipaddress
import os
import platform
import re
import selectors
import signal
import socket
import sys
import time
from pathlib import Path

VERSION = "0.1.0"

PORT = 2187
CHANNEL = "org.mom.guestd.0"

PLAIN_STATS = ("mem_available", "mem_unused", "swap_in", "swap_out", "major_fault", "minor_fault")
"""What `stats` without a token answers, in this order: the protocol of MOM's guest daemon."""

MOST_LINE_BYTES = 256
"""A request is shorter than 50 bytes; what is longer is skipped to the end of its line."""

MOST_WAITING_BYTES = 32 << 10
"""Answers that the other side does not read are kept up to here; then no more requests are read."""

MOST_CLIENTS = 8
IDLE_SECONDS = 60.0
STALL_SECONDS = 10.0
"""Over TCP: so many at once, closed when they ask nothing or do not read their answer for so long."""

FRESH_SECONDS = 0.1
"""Figures are read at most this often, however many ask: what the other side can make this daemon spend is bounded."""

HANGUP_SECONDS = 0.5
"""How often to look whether the host has connected to the channel: the device wakes no process for that."""

REOPEN_SECONDS = 5.0
"""How often to look whether the channel is there; it can be plugged in while the guest runs."""

FILES = ("meminfo", "vmstat", "pressure/memory", "loadavg")
"""What is read below /proc."""

_SIZE = re.compile(r"^([A-Za-z]+): +([0-9]{1,18}) kB$", re.MULTILINE)
_COUNT = re.compile(r"^([a-z_]+) ([0-9]{1,18})$", re.MULTILINE)
_PRESSURE = re.compile(
    r"^(some|full) avg10=([0-9]{1,3}\.[0-9]{2}) avg60=([0-9]{1,3}\.[0-9]{2}) avg300=([0-9]{1,3}\.[0-9]{2}) total=([0-9]{1,18})$",
    re.MULTILINE,
)
_LOAD = re.compile(r"^([0-9]{1,6}\.[0-9]{2}) ([0-9]{1,6}\.[0-9]{2}) ([0-9]{1,6}\.[0-9]{2}) [0-9]+/[0-9]+ [0-9]+$", re.MULTILINE)
_REQUEST = re.compile(r"(stats|props)(?: ([0-9A-Za-z]{1,32}))?")
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")


def figures(text: str, page_kib: int | None = None) -> dict[str, int | float]:
    """What the files in `FILES`, one after the other, say about memory: sizes in KiB, counts since boot, shares in percent.

    :param page_kib: the guest's page size; where it is not known it is worked out from the two counts of free memory
    """
    sizes = {name: int(size) for name, size in _SIZE.findall(text)}
    counts = {name: int(count) for name, count in _COUNT.findall(text)}
    found: dict[str, int | float] = {}

    def put(name: str, known: dict[str, int], *parts: str) -> None:
        if all(part in known for part in parts):
            found[name] = sum(known[part] for part in parts)

    put("mem_available", sizes, "MemTotal")
    put("mem_unused", sizes, "MemFree")
    put("mem_usable", sizes, "MemAvailable")
    put("mem_free", sizes, "MemFree", "Buffers", "Cached")
    put("mem_disk_caches", sizes, "Buffers", "Cached", "SwapCached")
    put("swap_total", sizes, "SwapTotal")
    if "SwapTotal" in sizes and "SwapFree" in sizes:
        found["swap_usage"] = sizes["SwapTotal"] - sizes["SwapFree"]
    page_kib = page_kib or _page_kib(sizes.get("MemFree"), counts.get("nr_free_pages"))
    for name, key in (("swap_in", "pswpin"), ("swap_out", "pswpout")):
        if key in counts and page_kib:
            found[name] = counts[key] * page_kib
    put("major_fault", counts, "pgmajfault")
    if "pgfault" in counts and "pgmajfault" in counts:
        found["minor_fault"] = counts["pgfault"] - counts["pgmajfault"]
    put("oom_kills", counts, "oom_kill")
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
    """What kind of guest this is."""
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
        now = time.monotonic()
        if now - self._read_at >= FRESH_SECONDS:
            self._figures = figures("\n".join(_read(Path(self._root, "proc", name)) for name in FILES), self._page_kib)
            self._read_at = now
        return self._figures


class LineConversation:
    """One side of a line conversation: bytes that came in, bytes to go out. Both are bounded."""

    def __init__(self, guest: GuestFigures) -> None:
        self._guest = guest
        self._came = b""
        self._skipping = False
        self.waiting = b""
        self.ended = False
        """Whether the other side has said its last."""

    @property
    def listens(self) -> bool:
        """Whether more may be read from the other side now."""
        return not self.ended and len(self.waiting) < MOST_WAITING_BYTES

    def receive(self, data: bytes) -> None:
        """Take what came in, and answer what is complete."""
        self._came += data
        self._work()

    def sent(self, count: int) -> None:
        """So many bytes of what was waiting have gone out."""
        self.waiting = self.waiting[count:]
        self._work()

    def _work(self) -> None:
        while len(self.waiting) < MOST_WAITING_BYTES:
            line, newline, rest = self._came.partition(b"\n")
            if not newline:
                if len(line) > MOST_LINE_BYTES:
                    self._skipping, self._came = True, b""
                return
            self._came = rest
            if self._skipping or len(line) > MOST_LINE_BYTES:
                self._skipping = False
                self.waiting += b"error:the line is too long\n"
            else:
                self.waiting += self._guest.answer(line.decode("ascii", "replace")).encode("ascii", "replace")


class Daemon:
    """Serves the channel and TCP clients in one thread, until the process is told to end.

    :param addresses: (address, port) pairs to listen on
    :param allowed: networks from which clients may come; all if there are none
    :param channel: the channel's name, or the path of a device; empty for none
    """

    def __init__(
        self,
        guest: GuestFigures,
        addresses: tuple[tuple[str, int], ...] = (),
        allowed: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = (),
        channel: str = "",
        root: str = "/",
    ) -> None:
        self._guest = guest
        self._allowed = allowed
        self._channel = channel
        self._root = root
        self._selector = selectors.DefaultSelector()
        self._clients: dict[socket.socket, tuple[LineConversation, float]] = {}
        self._port = -1
        self._port_conversation = LineConversation(guest)
        self._port_registered = False
        self._look_at_port = 0.0
        self._said = ""
        self.listeners = [self._listen(address, port) for address, port in addresses]

    def serve(self) -> None:
        """Serve for ever."""
        while True:
            self.turn(self._patience())

    def turn(self, patience: float) -> None:
        """Wait for something to do, for so many seconds at most, and do it."""
        for key, events in self._selector.select(patience):
            if key.fileobj in self.listeners:
                self._accept(key.fileobj)
            elif key.fileobj == self._port:
                self._serve_port(events)
            elif key.fileobj in self._clients:
                self._serve_client(key.fileobj, events)
        now = time.monotonic()
        for client, (conversation, since) in list(self._clients.items()):
            if now - since > (STALL_SECONDS if conversation.waiting else IDLE_SECONDS):
                self._drop(client)
        if self._channel and not self._port_registered and now >= self._look_at_port:
            self._revive_port(now)

    def close(self) -> None:
        """Close everything."""
        for client in list(self._clients):
            self._drop(client)
        for listener in self.listeners:
            listener.close()
        self._close_port(0.0)
        self._selector.close()

    def _patience(self) -> float:
        if self._channel and not self._port_registered:
            return max(0.0, self._look_at_port - time.monotonic())
        return STALL_SECONDS if self._clients else 3600.0

    # --- TCP ---

    def _listen(self, address: str, port: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((address, port))
        listener.listen(MOST_CLIENTS)
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ)
        return listener

    def _accept(self, listener: socket.socket) -> None:
        try:
            client, peer = listener.accept()
        except OSError:  # it has gone again, or there is no descriptor left
            return
        address = ipaddress.ip_address(peer[0].partition("%")[0])
        if len(self._clients) >= MOST_CLIENTS or (self._allowed and not any(address in network for network in self._allowed)):
            client.close()
            return
        client.setblocking(False)
        self._clients[client] = (LineConversation(self._guest), time.monotonic())
        self._selector.register(client, selectors.EVENT_READ)

    def _serve_client(self, client: socket.socket, events: int) -> None:
        conversation, since = self._clients[client]
        try:
            if events & selectors.EVENT_READ and conversation.listens:
                data = client.recv(4096)
                conversation.receive(data)
                conversation.ended = not data
                since = time.monotonic()
            if conversation.waiting:
                conversation.sent(client.send(conversation.waiting))
                since = time.monotonic()
        except BlockingIOError:
            pass
        except OSError:
            conversation.ended, conversation.waiting = True, b""
        if conversation.ended and not conversation.waiting:
            self._drop(client)
            return
        self._clients[client] = (conversation, since)
        self._selector.modify(client, _events(conversation))

    def _drop(self, client: socket.socket) -> None:
        del self._clients[client]
        self._selector.unregister(client)
        client.close()

    # --- virtio-serial ---

    def _revive_port(self, now: float) -> None:
        """Open the channel if it is closed, and serve it if the host is connected: while it is not, the device reads as at its end."""
        if self._port < 0:
            path = find_port(self._channel, self._root)
            try:
                self._port = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError as error:
                self._say(f"{path}: {error.strerror}")
                self._look_at_port = now + REOPEN_SECONDS
                return
            self._say(f"serving {path}")
        self._serve_port(selectors.EVENT_READ)

    def _serve_port(self, events: int) -> None:
        conversation = self._port_conversation
        try:
            if events & selectors.EVENT_READ and conversation.listens:
                with contextlib.suppress(BlockingIOError):
                    data = os.read(self._port, 4096)
                    if not data:
                        self._hang_up()
                        return
                    conversation.receive(data)
            if conversation.waiting:
                conversation.sent(os.write(self._port, conversation.waiting))
        except BlockingIOError:
            if events & selectors.EVENT_WRITE:  # it said that it can be written: so the host has gone
                self._hang_up()
                return
        except OSError as error:
            self._say(f"the channel is lost: {error.strerror}")
            self._close_port(time.monotonic() + REOPEN_SECONDS)
            return
        if self._port_registered:
            self._selector.modify(self._port, _events(conversation))
        else:
            self._selector.register(self._port, _events(conversation))
            self._port_registered = True

    def _hang_up(self) -> None:
        """The host has gone: what was meant for it is dropped. Waiting for the device would return at once now, again and again."""
        self._port_conversation = LineConversation(self._guest)
        if self._port_registered:
            self._selector.unregister(self._port)
            self._port_registered = False
        self._look_at_port = time.monotonic() + HANGUP_SECONDS

    def _close_port(self, look_again_at: float) -> None:
        if self._port >= 0:
            self._hang_up()
            os.close(self._port)
            self._port = -1
        self._look_at_port = look_again_at

    def _say(self, text: str) -> None:
        """On stderr, once for as long as it stays so."""
        if text != self._said:
            self._said = text
            sys.stderr.write(f"mom-guestd: {text}\n")
            sys.stderr.flush()


def _events(conversation: LineConversation) -> int:
    return (selectors.EVENT_READ if conversation.listens else 0) | (selectors.EVENT_WRITE if conversation.waiting else 0)


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
    parser.add_argument("--no-channel", action="store_true", help="serve no channel")
    parser.add_argument(
        "--listen", action="append", metavar="ADDRESS", help="numeric address for TCP, may be repeated (default: 127.0.0.1; 0.0.0.0: all)"
    )
    parser.add_argument("--port", type=int, default=PORT, help="TCP port (default: %(default)s)")
    parser.add_argument("--no-tcp", action="store_true", help="do not listen for TCP")
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
        listen = () if chosen.no_tcp else tuple(str(ipaddress.ip_address(address)) for address in chosen.listen or ["127.0.0.1"])
    except ValueError as error:
        parser.error(str(error))
    channel = "" if chosen.no_channel else chosen.channel
    if not channel and not listen:
        parser.error("there is nothing to serve")
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    try:
        daemon = Daemon(guest, tuple((address, chosen.port) for address in listen), allowed, channel, chosen.root)
    except OSError as error:
        taken = " (another one runs already?)" if error.errno == errno.EADDRINUSE else ""
        sys.stderr.write(f"mom-guestd: cannot listen: {error.strerror}{taken}\n")
        return 1
    try:
        daemon.serve()
    except KeyboardInterrupt:
        pass
    finally:
        daemon.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
