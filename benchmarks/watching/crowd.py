"""A mom with very many simulated guests under pressure, so that figures change in each cycle: what both benchmarks here watch."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MOM = Path(sys.executable).parent / "mom"

_START_SECONDS = 5
_END_SECONDS = 20


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
