"""How fast the API answers with 1,000 guests, and what it costs the cycle.

Run it with `python benchmarks/http/bench_http.py`. Answers are made once for each cycle and then kept, so the first request after a cycle
is what counts; a new connection for each.
"""

from __future__ import annotations

import http.client
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from mom_core import Engine, Report, Value, load_config
from mom_core.testing import snapshot
from mom_plugins_http import HttpPlugin

GUESTS = 1000
RUNS = 30
CYCLES = 8  # in each of the turns, which alternate so that the machine's moods hit both alike
TURNS = 5
REQUESTS_PER_SECOND = 50

NAMES = (
    "balloon_cur", "balloon_max", "balloon_min", "balloon_target", "mem_available", "mem_unused", "mem_usable", "mem_disk_caches", "rss",
    "swap_in", "swap_out", "major_fault", "minor_fault", "stats_age", "vcpu_count",
)  # fmt: skip
OTHERS = 10  # fields that have no metric


def report(number: int) -> Report:
    """A cycle on a host with many guests."""
    guest: dict[str, Value] = {**{name: 4_194_304 + n for n, name in enumerate(NAMES)}, **{f"field_{n}": n for n in range(OTHERS)}}
    host = {f"field_{n}": n for n in range(80)}
    taken = snapshot(host=host, guests={f"guest-{n:04}": guest for n in range(GUESTS)})
    return Report(number, time.time(), "enforce", taken, (), (), (), (), (), 0.01)


def call(path: Path, url: str) -> int:
    """Ask once; the answer's length."""
    connection = http.client.HTTPConnection("mom")
    connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.sock.connect(str(path))
    connection.request("GET", url)
    answer = connection.getresponse()
    length = len(answer.read())
    connection.close()
    assert answer.status == 200
    return length


def measured(what: Callable[[], object], before: Callable[[], object] = lambda: None) -> str:
    """Median and longest, in ms."""
    taken = []
    for _ in range(RUNS):
        before()
        began = time.perf_counter()
        what()
        taken.append((time.perf_counter() - began) * 1e3)
    return f"{statistics.median(taken):>10.1f} {max(taken):>10.1f}"


def answers(folder: str) -> None:
    """Each kind of answer, first and again."""
    plugins: dict[str, object] = {"sim": {}, "http": {}}
    config = load_config({"interval": "1h", "state_directory": f"{folder}/s", "run_directory": f"{folder}/r", "plugins": plugins})
    path = Path(folder) / "r/mom.sock"
    with Engine(config) as engine:
        (plugin,) = (one.instance for one in engine.plugins.plugins if isinstance(one.instance, HttpPlugin))
        reports = [report(number) for number in range(4)]
        turn = 0

        def tell() -> None:
            nonlocal turn
            turn += 1
            plugin.mom_report(reports[turn % len(reports)])

        print(f"{'':<44} {'KiB':>6} {'median ms':>10} {'longest':>10}")
        for url in ("/v1/status", "/v1/guests?limit=1000", "/v1/guests", "/metrics"):
            tell()
            size = call(path, url) / 1024
            print(f"{url + ', first after a cycle':<44} {size:>6.0f} {measured(partial(call, path, url), tell)}")
            print(f"{url + ', asked again':<44} {size:>6.0f} {measured(partial(call, path, url))}")
        print(f"{'taking in a report':<44} {'':>6} {measured(tell)}")


def cycles(folder: str) -> None:
    """Cycles of a simulated host with many guests, alone and beside requests."""
    vms: dict[str, object] = {"sim": {"guests": GUESTS}, "balloon": {}, "policy": {}, "http": {}}
    config = load_config({"interval": "1h", "state_directory": f"{folder}/s2", "run_directory": f"{folder}/r2", "plugins": vms})
    path = Path(folder) / "r2/mom.sock"
    ending, asking = threading.Event(), threading.Event()

    def ask() -> None:
        urls = ("/v1/status", "/v1/guests?limit=100", "/v1/host", "/metrics", "/v1/outcomes")
        number = 0
        while not ending.wait(1 / REQUESTS_PER_SECOND):
            if asking.is_set():
                call(path, urls[number % len(urls)])
                number += 1

    taken: dict[bool, list[float]] = {True: [], False: []}
    with Engine(config) as engine:
        engine.cycle()
        client = threading.Thread(target=ask)
        client.start()
        for turn in range(2 * TURNS):
            asked = bool(turn % 2)
            (asking.set if asked else asking.clear)()
            for _ in range(CYCLES):
                time.sleep(0.1)
                taken[asked].append(engine.cycle().duration * 1e3)
        ending.set()
        client.join()
    alone, beside = statistics.median(taken[False]), statistics.median(taken[True])
    beside_what = f"beside {REQUESTS_PER_SECOND} requests/s"
    print(f"a cycle with {GUESTS} guests: {alone:.1f} ms alone, {beside:.1f} ms {beside_what}: {beside / alone - 1:+.0%}")


def main() -> None:
    """Print one line for each."""
    with tempfile.TemporaryDirectory() as folder:
        answers(folder)
        cycles(folder)


if __name__ == "__main__":
    main()
