"""How fast the API answers with 1,000 guests, and what it costs the cycle.

    python benchmarks/http/bench_http.py [--guests 1000] [--runs 30] [--turns 8]

Answers are made once for each cycle and then kept, so the first request after a cycle is what counts; a new connection for each.
"""

from __future__ import annotations

import argparse
import http.client
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from mom_core import Decision, Engine, Outcome, Report, Source, Status, Value, load_config
from mom_core.testing import snapshot
from mom_daemon import json_text, status_of
from mom_plugins_http import HttpPlugin
from mom_plugins_http.cli.running_mom import SocketMom

CYCLES = 8  # in each of the turns, which alternate so that the machine's moods hit both alike
PAUSE_SECONDS = 0.25  # between cycles: a real one has seconds, in which no answer has to be made anew
REQUESTS_PER_SECOND = 50

NAMES = (
    "balloon_cur", "balloon_max", "balloon_min", "balloon_target", "mem_available", "mem_unused", "mem_usable", "mem_disk_caches", "rss",
    "swap_in", "swap_out", "major_fault", "minor_fault", "stats_age", "vcpu_count",
)  # fmt: skip
REPORT_OF_WATCHERS = "/v1/report?fields=balloon_cur,balloon_max,mem_usable,swap_in,swap_out"

OTHERS = 10  # fields that have no metric


def report(number: int, guests: int) -> Report:
    """A cycle on a host with many guests."""
    guest: dict[str, Value] = {**{name: 4_194_304 + n for n, name in enumerate(NAMES)}, **{f"field_{n}": n for n in range(OTHERS)}}
    host = {f"field_{n}": n for n in range(80)}
    taken = snapshot(host=host, guests={f"guest-{n:04}": {**guest, "mem_unused": n + number} for n in range(guests)})
    source = Source("50_balloon", 42, 3)
    decisions = [Decision(each.entity, "balloon_target", 4_194_304, "it has what it needs", source) for each in taken.guests.values()]
    outcomes = [Outcome(each, 4_194_304, 4_194_304, Status.UNCHANGED) for each in decisions]
    return Report(number, time.time(), "enforce", taken, decisions, (), outcomes, (), (), 0.01)


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


def measured(runs: int, what: Callable[[], object], before: Callable[[], object] = lambda: None) -> str:
    """Median and longest in ms, and the median of what this process computed for it, client included: that holds on a busy machine too."""
    taken, computed = [], []
    for _ in range(runs):
        before()
        began, cpu = time.perf_counter(), time.process_time()
        what()
        taken.append((time.perf_counter() - began) * 1e3)
        computed.append((time.process_time() - cpu) * 1e3)
    return f"{statistics.median(taken):>10.1f} {max(taken):>10.1f} {statistics.median(computed):>10.1f}"


def answers(folder: str, guests: int, runs: int) -> None:
    """Each kind of answer, first and again."""
    plugins: dict[str, object] = {"sim": {}, "http": {}}
    config = load_config(
        {"interval": "1h", "state_directory": f"{folder}/s", "run_directory": f"{folder}/r", "mode": "enforce", "plugins": plugins}
    )
    path = Path(folder) / "r/mom.sock"
    with Engine(config) as engine:
        (plugin,) = (one.instance for one in engine.plugins.plugins if isinstance(one.instance, HttpPlugin))
        reports = [report(number, guests) for number in range(4)]
        turn = 0

        def tell() -> None:
            nonlocal turn
            turn += 1
            plugin.mom_report(reports[turn % len(reports)])

        print(f"{'':<44} {'KiB':>6} {'median ms':>10} {'longest':>10} {'CPU ms':>10}")
        for url in ("/v1/report", REPORT_OF_WATCHERS, "/v1/status", "/v1/guests", "/metrics"):
            tell()
            size = call(path, url) / 1024
            print(f"{url[:22] + ', first after a cycle':<44} {size:>6.0f} {measured(runs, partial(call, path, url), tell)}")
            print(f"{url[:22] + ', asked again':<44} {size:>6.0f} {measured(runs, partial(call, path, url))}")
        tell()
        asked = SocketMom(path).report
        print(f"{'what `mom status` reads, first after a cycle':<44} {'':>6} {measured(runs, asked, tell)}")
        print(f"{'what `mom status` reads, again':<44} {'':>6} {measured(runs, asked)}")
        written = json_text(status_of(engine, reports[0]))
        file = measured(runs, lambda: json_text(status_of(engine, reports[0])))
        print(f"{'the status file':<44} {len(written) / 1024:>6.0f} {file}")
        print(f"{'taking in a report':<44} {'':>6} {measured(runs, tell)}")


def cycles(folder: str, guests: int, turns: int) -> None:
    """Cycles of a simulated host with many guests, alone and beside requests from another process, in turns."""
    vms: dict[str, object] = {"sim": {"guests": guests}, "balloon": {}, "policy": {}, "http": {}}
    config = load_config(
        {"interval": "1h", "state_directory": f"{folder}/s2", "run_directory": f"{folder}/r2", "mode": "enforce", "plugins": vms}
    )
    path = Path(folder) / "r2/mom.sock"
    wall: dict[bool, list[float]] = {True: [], False: []}
    computed: dict[bool, list[float]] = {True: [], False: []}
    with Engine(config) as engine:
        for _ in range(3):
            engine.cycle()
        client = subprocess.Popen([sys.executable, __file__, "--ask", path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdout.readline()  # it is ready
        for turn in range(2 * turns):
            asked = bool(turn % 2)
            client.stdin.write("go\n" if asked else "stop\n")
            client.stdin.flush()
            time.sleep(0.2)
            for _ in range(CYCLES):
                time.sleep(PAUSE_SECONDS)
                before = _cpu_of_the_engine()
                wall[asked].append(engine.cycle().duration * 1e3)
                computed[asked].append((_cpu_of_the_engine() - before) * 1e3)
        client.stdin.close()
        answered = int(client.stdout.readline())
        client.wait()
    print(f"{answered} requests, {REQUESTS_PER_SECOND}/s, while {guests} guests had {turns * CYCLES} cycles; as many cycles alone")
    for what, taken in (("wall time", wall), ("CPU time of the engine and its plugins", computed)):
        alone, beside = statistics.median(taken[False]), statistics.median(taken[True])
        print(f"a cycle's {what}: median {alone:.1f} ms alone, {beside:.1f} ms beside requests: {beside / alone - 1:+.0%}")


def _cpu_of_the_engine() -> float:
    """Seconds that all threads of this process have computed, but the server's."""
    threads = [thread for thread in threading.enumerate() if thread.ident is not None and not thread.name.endswith("-server")]
    return sum(time.clock_gettime(time.pthread_getcpuclockid(thread.ident)) for thread in threads if thread.ident is not None)


def ask_steadily(path: Path) -> None:
    """The client: asks while it is told to, in a process of its own, as clients are."""
    urls = ("/v1/status", "/v1/guests", "/metrics", "/v1/recent-outcomes")
    asking, ending = threading.Event(), threading.Event()

    def obey() -> None:
        for line in sys.stdin:
            (asking.set if line.startswith("go") else asking.clear)()
        ending.set()

    threading.Thread(target=obey, daemon=True).start()
    print("ready", flush=True)
    answered, due = 0, time.monotonic()
    while not ending.is_set():
        due += 1 / REQUESTS_PER_SECOND
        if ending.wait(max(0.0, due - time.monotonic())):
            break
        if asking.is_set():
            call(path, urls[answered % len(urls)])
            answered += 1
    print(answered, flush=True)


def main() -> None:
    """Print one line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--guests", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=30, help="of each question")
    parser.add_argument("--turns", type=int, default=8, help=f"of {CYCLES} cycles, alone and beside requests")
    parser.add_argument("--ask", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ask:
        ask_steadily(options.ask)
        return
    with tempfile.TemporaryDirectory() as folder:
        answers(folder, options.guests, options.runs)
        if options.turns:
            cycles(folder, options.guests, options.turns)


if __name__ == "__main__":
    main()
