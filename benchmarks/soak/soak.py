"""Whether mom's memory grows: `mom run` on a simulated host, with clients that ask, watch, change policies and have it reload all the time.

    python benchmarks/soak/soak.py [--minutes 20] [--every 10] [--trace] [--plot soak.png]

Prints one line each few seconds: resident memory, what the C library has handed out and what it keeps free, blocks of Python's own
allocator, objects that the garbage collector follows, threads, files. `--trace` tells at the end which lines of code hold more than
in the middle of the run (by tracemalloc, which itself takes memory and time).
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from http.client import HTTPException
from itertools import count
from pathlib import Path
from urllib.parse import quote

from mom_plugins_http.cli.client import UnixConnection

HEAD = ("seconds", "rss_kib", "c_used_kib", "c_free_kib", "blocks", "objects", "threads", "files")
READS = (
    "/v1/status", "/v1/guests", "/v1/host/history", "/v1/report",
    "/v1/policies", "/v1/policy-history", "/v1/problems", "/v1/fields", "/v1/configuration", "/v1/openapi.json", "/metrics", "/", "/v1/no",
    "/v1/recorded", "/v1/recent-outcomes", "/v1/whoami",
)  # fmt: skip
ANSWERED: Counter[str] = Counter()
"""How often each request was answered so."""
_WAIT_SECONDS = 60.0
_RELOAD_SECONDS = 20.0


class _MallInfo(ctypes.Structure):
    """What mallinfo2(3) returns."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
    ]


def sample(began: float) -> list[int]:
    """One line of figures about this process."""
    library = ctypes.CDLL(None)
    library.mallinfo2.restype = _MallInfo
    held = library.mallinfo2()
    rss = re.search(r"VmRSS:\s+([0-9]+)", Path("/proc/self/status").read_text())
    assert rss is not None
    return [
        int(time.monotonic() - began), int(rss[1]), (held.uordblks + held.hblkhd) >> 10, held.fordblks >> 10, sys.getallocatedblocks(),
        len(gc.get_objects()), threading.active_count(), len(list(Path("/proc/self/fd").iterdir())),
    ]  # fmt: skip


def inside(config: str, every: float, minutes: float, trace: bool) -> None:
    """The daemon's process: a thread that measures, and mom."""
    from mom_daemon.cli import main as mom

    def measure() -> None:
        began, middle = time.monotonic(), None
        while True:
            time.sleep(every)
            gc.collect()
            figures = sample(began)
            print(*figures, flush=True)
            if trace and (figures[0] > minutes * 30 and middle is None):
                middle = tracemalloc.take_snapshot()
            elif trace and middle is not None and figures[0] > minutes * 60 - 3 * every:
                for line in tracemalloc.take_snapshot().compare_to(middle, "traceback")[:25]:
                    print(f"# {line.size_diff / 1024:.0f} KiB more:", *line.traceback.format(4), sep="\n#  ", flush=True)
                return

    if trace:
        tracemalloc.start(6)
    threading.Thread(target=measure, daemon=True).start()
    sys.argv = ["mom", "run", "-c", config]
    mom()


def ask(path: Path, method: str, url: str, body: str | None = None, **headers: str) -> tuple[bytes, str]:
    """One request on a connection of its own: what was answered, and its ETag."""
    connection = UnixConnection(path, _WAIT_SECONDS)
    try:
        connection.request(method, url, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        ANSWERED[f"{method} {re.sub(r'(?<=/guests/)[^/?]+', 'NAME', url).partition('?')[0]} {answer.status}"] += 1
        return answer.read(), answer.getheader("ETag") or ""
    finally:
        connection.close()


def acts(path: Path) -> Iterator[None]:
    """All that clients do, over and over: names and texts that were never seen before among it."""
    for number in count():
        for url in READS:
            ask(path, "GET", url)
            yield
        guest = quote(f"none-{number}")
        ask(path, "GET", f"/v1/guests/{guest}")
        for name in re.findall(rb'"name": ?"([^"]+)"', ask(path, "GET", "/v1/guests?fields=")[0])[:5]:
            for part in ("", "/history", "/explanation"):
                ask(path, "GET", f"/v1/guests/{quote(name.decode())}{part}")
            yield
        text = f'(def twice_{number} (x) (* x 2))\n(with Guests guest (guest.SetVar "soak" (twice_{number} {number})))'
        _, version = ask(path, "GET", "/v1/policies")
        ask(path, "POST", "/v1/policy-check", f'{{"changes": {{"soak": "(unknown_{number})"}}}}', Content_Type="application/json")
        ask(path, "PUT", "/v1/policies/soak", text, Content_Type="text/plain", If_Match=version)
        yield
        _, version = ask(path, "GET", "/v1/policies")
        ask(path, "DELETE", "/v1/policies/soak", If_Match=version)
        yield
        watcher = UnixConnection(path, _WAIT_SECONDS)
        watcher.request("GET", "/v1/events")
        watcher.getresponse().readline()
        watcher.close()
        yield


def main() -> None:
    """Run mom, and do all that clients do, until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--every", type=float, default=10, help="seconds between two lines")
    parser.add_argument("--guests", type=int, default=50)
    parser.add_argument("--idle", action="store_true", help="without clients and reloads")
    parser.add_argument("--trace", action="store_true")
    parser.add_argument("--plot", help="draw resident memory and objects into this file")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.inside:
        inside(told.inside, told.every, told.minutes, told.trace)
        return
    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder), told)


def run(folder: Path, told: argparse.Namespace) -> None:
    """The other side of the socket."""
    config = folder / "mom.yaml"
    sim = f"{{guests: {told.guests}, load: 4GiB, load_after: 1s, load_for: 1h}}"
    rest = "".join(f"  {name}: {{}}\n" for name in ("balloon", "ksm", "sla", "policy", "record", "http"))
    state = f"state_directory: {folder}/s\nrun_directory: {folder}/r\n"
    config.write_text(f"interval: 200ms\n{state}mode: enforce\nplugins:\n  sim: {sim}\n  host: {{}}\n{rest}")
    flags = ["--inside", str(config), "--every", str(told.every), "--minutes", str(told.minutes), *["--trace"] * told.trace]
    lines: list[str] = []
    with (folder / "log").open("wb") as log:
        daemon = subprocess.Popen([sys.executable, __file__, *flags], stdout=subprocess.PIPE, stderr=log, text=True)

    def read() -> None:
        assert daemon.stdout is not None
        for line in daemon.stdout:
            lines.append(line)
            print(line, end="", flush=True)

    print(*HEAD, flush=True)
    threading.Thread(target=read, daemon=True).start()
    time.sleep(5)
    end, reload_at, requests = time.monotonic() + told.minutes * 60, time.monotonic() + _RELOAD_SECONDS, 0
    doing = acts(folder / "r" / "mom.sock")
    try:
        while time.monotonic() < end and daemon.poll() is None:
            if told.idle:
                time.sleep(1)
                continue
            try:
                next(doing)
                requests += 1
            except (OSError, HTTPException) as error:  # it reloads
                print("#", repr(error), flush=True)
                time.sleep(1)
                doing = acts(folder / "r" / "mom.sock")
            if time.monotonic() >= reload_at:
                daemon.send_signal(signal.SIGHUP)
                reload_at = time.monotonic() + _RELOAD_SECONDS
    finally:
        daemon.terminate()
        daemon.wait(20)
        for request, times in sorted(ANSWERED.items()):
            print("#", times, request)
        print("#", requests, "steps; the log's end:", *(folder / "log").read_text().splitlines()[-3:], sep="\n# ")
    if told.plot:
        draw([[int(word) for word in line.split()] for line in lines if line[0].isdigit()], told.plot)


def draw(rows: list[list[int]], path: str) -> None:
    """A figure of two lines over minutes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4))
    left = figure.subplots()
    minutes = [row[0] / 60 for row in rows]
    left.plot(minutes, [row[1] / 1024 for row in rows], label="resident, MiB")
    left.plot(minutes, [row[2] / 1024 for row in rows], label="C library, in use, MiB")
    left.plot(minutes, [row[5] / 1000 for row in rows], label="objects, thousands")
    left.set_xlabel("minutes")
    left.set_ylim(bottom=0)
    left.legend()
    figure.savefig(path)


if __name__ == "__main__":
    main()
