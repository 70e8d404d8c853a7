"""What watchers of many guests cost mom, by the stream of changes and by asking again after each cycle, in turns.

    python benchmarks/watching/bench_watchers.py [--guests 1000] [--watchers 20] [--seconds 20]

The watchers are threads of one other process, which reads and drops what it is told.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
import time
from http.client import HTTPResponse
from pathlib import Path

from crowd import crowd

from mom_plugins_http.cli.client import UnixConnection

WAYS = {
    "nobody watches": (),
    "each hears what changes": ("/v1/events?fields=",),
    "each asks after a cycle": ("/v1/events?fields=", "/v1/status", "/v1/guests?fields="),
}
"""What each watcher asks for: the figures of guests that `mom top` shows come with the guests."""

_SECONDS = 60.0


def answer(path: Path, url: str) -> HTTPResponse:
    """Ask, on a connection of its own."""
    connection = UnixConnection(path, _SECONDS)
    connection.request("GET", url)
    found = connection.getresponse()
    assert found.status == 200, found.read()
    return found


def watch(path: Path, stream: str, questions: tuple[str, ...], heard: list[int], number: int) -> None:
    """Read the stream, and ask the questions after each cycle, for good."""
    try:
        events = answer(path, stream)
        while line := events.readline():
            heard[number] += len(line)
            if line == b"event: cycle\n":
                for url in questions:
                    heard[number] += len(answer(path, url).read())
    finally:
        os._exit(1)


def watchers(path: Path, way: str, count: int, seconds: float) -> None:
    """The other process: prints how many bytes all of them were told a second."""
    stream, *questions = WAYS[way]
    heard = [0] * count
    for number in range(count):
        threading.Thread(target=watch, args=(path, stream, tuple(questions), heard, number), daemon=True).start()
    time.sleep(3)  # until all have been told the whole of it
    before = sum(heard)
    time.sleep(seconds)
    print((sum(heard) - before) / seconds, flush=True)
    os._exit(0)


def cpu_seconds(process: int) -> float:
    """What it has computed."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Print one line for each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--guests", type=int, default=1000)
    parser.add_argument("--watchers", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=20, help="for each way")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--socket", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        watchers(options.socket, options.way, options.watchers, options.seconds)
        return
    print(f"{options.watchers} watchers of {options.guests} guests, a cycle each second")
    print(f"{'':<26} {'CPU of mom, % of one':>22} {'KiB/s to each':>14}")
    with crowd(options.guests) as (daemon, config):
        for way, urls in WAYS.items():
            began, computed = time.monotonic(), cpu_seconds(daemon)
            told = 0.0
            if urls:
                command = [sys.executable, __file__, "--way", way, "--socket", str(config.parent / "r/mom.sock")]
                more = ["--watchers", str(options.watchers), "--seconds", str(options.seconds)]
                told = float(subprocess.run([*command, *more], stdout=subprocess.PIPE, text=True, check=True, timeout=600).stdout)
            else:
                time.sleep(options.seconds)
            share = (cpu_seconds(daemon) - computed) / (time.monotonic() - began)
            print(f"{way:<26} {share:>22.0%} {told / options.watchers / 1024:>14.0f}", flush=True)


if __name__ == "__main__":
    main()
