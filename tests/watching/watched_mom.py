"""Shared parts of tests of mom's views: mom as a process on a simulated host, and a TCP port that leads to its socket."""

import contextlib
import signal
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from shorter_waits import mom_with

from mom_devkit import wait_until

MOM = Path(sys.executable).parent / "mom"

PAGE_CHECKS = Path(__file__).parents[2] / ".cache/page"
"""Folder of the tools that check the page."""

DRAWN = """(() => {
    const all = [...document.querySelectorAll("svg.chart polygon")];
    const parts = all.filter((one) => one.parentNode === all[0].parentNode && one.getAttribute("class") === all[0].getAttribute("class"));
    return parts.reduce((corners, one) => corners + one.points.length, 0) / 2;
})()"""
"""JavaScript that returns the number of cycles in the first chart. An area has two corners for each cycle, and parts around late cycles."""


class Tunnel(socketserver.ThreadingTCPServer):
    """TCP port of the loopback that leads to a unix socket, like `ssh -L PORT:SOCKET`."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, path: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Carrier)
        self.path, self.port = path, int(self.server_address[1])
        self.url = f"http://localhost:{self.port}"
        self.carried = 0
        """Number of transferred bytes in both directions."""
        self.ends: list[socket.socket] = []
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def carry(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while part := source.recv(1 << 16):
                sink.sendall(part)
                self.carried += len(part)
        _hang_up(source, sink)

    def close(self) -> None:
        self.shutdown()
        self.server_close()
        _hang_up(*self.ends)


class _Carrier(socketserver.BaseRequestHandler):
    server: Tunnel

    def handle(self) -> None:
        with socket.socket(socket.AF_UNIX) as far, contextlib.suppress(OSError):  # without mom, the connection closes
            far.connect(str(self.server.path))
            self.server.ends += [self.request, far]
            back = threading.Thread(target=self.server.carry, args=(far, self.request), daemon=True)
            back.start()
            self.server.carry(self.request, far)
            back.join()


def _hang_up(*ends: socket.socket) -> None:
    for end in ends:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


class Daemon:
    """`mom run` on a simulated host, with additional lines of configuration and shorter waits."""

    def __init__(
        self,
        folder: Path,
        guests: int = 5,
        *,
        interval: str = "300ms",
        http: str = "{}",
        more: str = "",
        mode: str = "enforce",
        ksm: bool = True,
        host_memory: str = "",
        sim: str = "",
        waits: Mapping[str, float] | None = None,
    ) -> None:
        self._program = mom_with(waits) if waits else [str(MOM)]
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.config = folder / "mom.yaml"
        self.socket = folder / "run/mom.sock"
        memory = host_memory or f"{guests * 4 // 3 + 4}GiB"
        load = f"load: {guests // 2 + 2}GiB, load_after: 2s, load_growth: 4GiB, load_for: 1h"
        usual = f"{{guests: {guests}, host_memory: {memory}, silent: 0.2, statistics_period: 1s, {load}}}"
        self.config.write_text(
            f"interval: {interval}\nmode: {mode}\nstate_directory: {folder}/state\nrun_directory: {folder}/run\nplugins:\n"
            f"  sim: {sim or usual}\n"
            f"  balloon: {{}}\n{'' if not ksm else '  ksm: {}'}\n  policy: {{}}\n  http: {http}\n{more}"
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([*self._program, "run", "-c", self.config], stdout=log, stderr=log)
        wait_until(self.answers, (self.folder / "log").read_text)

    def answers(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as sock:  # httpx leaves the socket open if no process listens
                sock.settimeout(20)
                sock.connect(str(self.socket))
                sock.sendall(b"GET /v1/status HTTP/1.1\r\nhost: mom\r\nconnection: close\r\n\r\n")
                return sock.recv(100).startswith(b"HTTP/1.1 200")
        except OSError:
            return False

    def stop(self, how: int = signal.SIGTERM) -> None:
        """End the process, also if a test has stopped it. If it does not end within a minute, kill it and fail."""
        if (process := self.process) is None:
            return
        self.process = None
        process.send_signal(how)
        process.send_signal(signal.SIGCONT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


Start = Callable[..., Daemon]


@contextmanager
def starting(folders: pytest.TempPathFactory) -> Iterator[Start]:
    """Yield a function that starts moms with settings. They end with the block."""
    with ExitStack() as stack:

        def start(**settings: Any) -> Daemon:
            made = Daemon(folders.mktemp("mom"), **settings)
            stack.callback(made.stop)
            made.start()
            return made

        yield start


def client(mom: Daemon | Path) -> httpx.Client:
    """Return a client of a mom, or of a socket."""
    path = mom if isinstance(mom, Path) else mom.socket
    return httpx.Client(transport=httpx.HTTPTransport(uds=str(path), verify=False), base_url="http://mom", timeout=60)


def put(mom: Daemon, name: str, text: str = "(+ 1 2)") -> None:
    """Set a policy, replacing any present one."""
    with client(mom) as one:
        one.patch("/v1/policies", json={"changes": {name: text}}, headers={"if-match": "*"}).raise_for_status()
