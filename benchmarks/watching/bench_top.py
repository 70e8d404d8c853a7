"""What share of a core `mom top` takes with 1,000 guests and a cycle every second, and what it costs the daemon.

    python benchmarks/watching/bench_top.py [--guests 1000] [--seconds 20]

The terminal is a pseudo-terminal that takes all it is sent; guests are simulated, under pressure, so that figures change in each cycle.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MOM = Path(sys.executable).parent / "mom"

_START_SECONDS = 5
_END_SECONDS = 20
TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(process: int) -> float:
    """CPU time that a process has used so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_mib(process: int) -> float:
    """Memory of a process."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


@contextmanager
def crowd(guests: int) -> Iterator[tuple[int, Path]]:
    """The daemon's process number and its configuration, beside which its run directory is `r`; a cycle each second."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "mom.yaml"
        host, load = max(8, guests * 7 // 5), max(2, guests * 3 // 10)  # GiB
        sim = f"{{guests: {guests}, host_memory: {host}GiB, load: {load}GiB, load_after: 1s, load_for: 1h}}"
        config.write_text(
            f"interval: 1s\nstate_directory: {folder}/s\nrun_directory: {folder}/r\n"
            f"mode: enforce\nplugins:\n  sim: {sim}\n  balloon: {{}}\n  ksm: {{}}\n  policy: {{}}\n  http: {{}}\n"
        )
        daemon = subprocess.Popen([MOM, "run", "-c", config], stderr=subprocess.DEVNULL)
        try:
            time.sleep(_START_SECONDS)
            yield daemon.pid, config
        finally:
            daemon.terminate()
            daemon.wait(_END_SECONDS)


def measured(daemon: int, top: int | None, seconds: float) -> str:
    """Shares of a core during some time."""
    before = [cpu_seconds(one) for one in (daemon, top) if one]
    time.sleep(seconds)
    shares = [(cpu_seconds(one) - then) / seconds for one, then in zip((daemon, top), before, strict=False) if one]
    return "".join(f"{share:>12.1%}" for share in shares)


def main() -> None:
    """Once without it, once with it on each size of a terminal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--guests", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=20.0, help="for each line")
    options = parser.parse_args()
    guests, seconds = options.guests, options.seconds
    with crowd(guests) as (daemon, config):
        print(f"{guests} guests, a cycle and a picture each second, {seconds:g} s; shares of one core")
        print(f"{'':<24}{'daemon':>12}{'mom top':>12}{'sent/s':>12}{'memory':>12}")
        print(f"{'nobody watches':<24}{measured(daemon, None, seconds)}")
        for columns, lines in ((80, 24), (200, 50)):
            print(f"{f'{columns} x {lines}':<24}{watched(daemon, config, columns, lines, seconds)}")


def watched(daemon: int, config: Path, columns: int, lines: int, seconds: float) -> str:
    """With `mom top` on a terminal of this size, sorted by what changes."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", lines, columns, 0, 0))
    command: list[str | Path] = [MOM, "top", "-c", config]
    top = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env={**os.environ, "TERM": "xterm-256color"})
    os.close(slave)
    sent = 0

    def take() -> None:
        nonlocal sent
        while True:
            try:
                sent += len(os.read(master, 1 << 16))
            except OSError:
                return

    threading.Thread(target=take, daemon=True).start()
    os.write(master, b">>>>>")  # sorted by what changes
    time.sleep(3)
    before = sent
    found = measured(daemon, top.pid, seconds)
    result = f"{found}{(sent - before) / seconds / 1024:>8.1f} KiB{resident_mib(top.pid):>8.0f} MiB"
    top.terminate()
    top.wait(10)
    os.close(master)
    return result


if __name__ == "__main__":
    main()
