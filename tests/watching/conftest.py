"""A mom on a simulated host, as a process, for those that watch it from a terminal or a browser."""

import contextlib
import fcntl
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
from real_browser import browsing

from mom_devkit import wait_until

MOM = Path(sys.executable).parent / "mom"

PAGE_CHECKS = Path(__file__).parents[2] / ".cache/page"
"""Where what the page is checked with is installed."""

_OLDEST_NODE = 20
"""With which it runs: Debian 13 has it."""

DRAWN = """(() => {
    const all = [...document.querySelectorAll("svg.chart polygon")];
    const parts = all.filter((one) => one.parentNode === all[0].parentNode && one.getAttribute("class") === all[0].getAttribute("class"));
    return parts.reduce((corners, one) => corners + one.points.length, 0) / 2;
})()"""
"""How many cycles the page's first chart has, in JavaScript: an area has two corners for each, and parts where a cycle came late."""


class Tunnel:
    """What `ssh -L PORT:SOCKET` does: a TCP port of the loopback that leads to a unix socket."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://localhost:{self.port}"
        self.carried = 0
        """Bytes, in both directions."""
        self._open: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            try:
                far.connect(str(self._path))
            except OSError:  # mom is not there: so says the end of the connection
                near.close()
                far.close()
                continue
            self._open |= {near, far}
            for source, sink in ((near, far), (far, near)):
                self._threads.append(threading.Thread(target=self._carry, args=(source, sink), daemon=True))
                self._threads[-1].start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while part := source.recv(1 << 16):
                sink.sendall(part)
                self.carried += len(part)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        if self._listener.fileno() < 0:
            return
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(2)
        for each in self._open:
            each.close()


class Daemon:
    """`mom run` on a simulated host; further lines of the configuration may be given."""

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
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.config = folder / "mom.yaml"
        self.socket = folder / "run/mom.sock"
        memory = host_memory or f"{guests * 4 // 3 + 4}GiB"
        usual = f"{{guests: {guests}, host_memory: {memory}, silent: 0.2, load: {guests // 2 + 2}GiB, load_after: 3s, load_for: 1h}}"
        self.config.write_text(
            f"interval: {interval}\nmode: {mode}\nstate_directory: {folder}/state\nrun_directory: {folder}/run\nplugins:\n"
            f"  sim: {sim or usual}\n"
            f"  balloon: {{}}\n{'' if not ksm else '  ksm: {}'}\n  policy: {{}}\n  http: {http}\n{more}"
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([MOM, "run", "-c", self.config], stdout=log, stderr=log)
        wait_until(self.answers, (self.folder / "log").read_text)

    def answers(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as sock:  # httpx leaves the socket open where nobody listens
                sock.settimeout(20)
                sock.connect(str(self.socket))
                sock.sendall(b"GET /v1/status HTTP/1.1\r\nhost: mom\r\nconnection: close\r\n\r\n")
                return sock.recv(100).startswith(b"HTTP/1.1 200")
        except OSError:
            return False

    def stop(self, how: int = signal.SIGTERM) -> None:
        """End the process, even where a test has stopped it; kill it if it does not end within a minute, and fail."""
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
    """Starts moms with these settings, which are gone at the end."""
    with ExitStack() as stack:

        def start(**settings: object) -> Daemon:
            made = Daemon(folders.mktemp("mom"), **settings)  # type: ignore[arg-type]  # the settings of its constructor
            stack.callback(made.stop)
            made.start()
            return made

        yield start


@pytest.fixture
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts a mom with these settings; it is gone after the test."""
    with starting(tmp_path_factory) as start:
        yield start


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """A mom with these settings for all tests of a module, which only look at it, or each have names of policies of their own."""
    with starting(tmp_path_factory) as start:
        yield cache(start)


@pytest.fixture(scope="module")
def mom(shared: Start) -> Daemon:
    """The shared mom without any settings."""
    return shared()


def client(mom: Daemon | Path) -> httpx.Client:
    """Asks a mom, or the one at this socket."""
    path = mom if isinstance(mom, Path) else mom.socket
    return httpx.Client(transport=httpx.HTTPTransport(uds=str(path), verify=False), base_url="http://mom", timeout=60)


def put(mom: Daemon, name: str, text: str = "(+ 1 2)") -> None:
    """Set a policy, whatever is there."""
    with client(mom) as one:
        one.put(f"/v1/policies/{name}", content=text, headers={"content-type": "text/plain", "if-match": "*"}).raise_for_status()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A Chromium that Playwright drives."""
    with browsing() as made:
        yield made


@pytest.fixture
def tunnel() -> Iterator[Callable[[Path], Tunnel]]:
    """Brings a unix socket within reach of a browser."""
    with ExitStack() as stack:

        def dig(path: Path) -> Tunnel:
            made = Tunnel(path)
            stack.callback(made.close)
            return made

        yield dig


@pytest.fixture(scope="session")
def page_tools() -> Path:
    """The folder with what npm has installed, once, as `page/package-lock.json` has it. Skips where there is no node or no registry."""
    here, kept = Path(__file__).parent / "page", PAGE_CHECKS
    found = shutil.which("node") and shutil.which("npm")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, timeout=60, check=False).stdout if found else ""
    if int(version.strip().removeprefix("v").partition(".")[0] or 0) < _OLDEST_NODE:
        pytest.skip(f"there is no node {_OLDEST_NODE} or newer, or no npm")
    kept.mkdir(parents=True, exist_ok=True)
    with (kept / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of several workers, one installs
        wanted = (here / "package-lock.json").read_text()
        installed = kept / "installed.json"
        if not installed.exists() or installed.read_text() != wanted:
            for name in ("package.json", "package-lock.json"):
                shutil.copy(here / name, kept)
            command = ["npm", "ci", "--prefer-offline", "--ignore-scripts", "--no-audit", "--no-fund"]
            made = subprocess.run(command, cwd=kept, capture_output=True, text=True, timeout=300, check=False)
            if made.returncode:
                pytest.skip(f"npm cannot install what the page is checked with: {made.stderr[-500:]}")
            installed.write_text(wanted)
    return kept / "node_modules"
