"""Fuzz all targets, one after the other: `session.py [--runs N] [--seconds S] [--keep] [TARGET …]`. `nox -s fuzz` runs this.

Each target begins with valid inputs (`seeds.py`) and the inputs of earlier sessions (`corpus/TARGET.zip`, inputs that each reach other
code). Inputs that end a target are saved in `.cache/fuzz/found`, and the session fails.
"""

import argparse
import re
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from seeds import write
from targets import TARGETS

HERE: Final = Path(__file__).parent
WORK: Final = HERE.parents[1] / ".cache/fuzz"

LONGEST_INPUT: Final = 4096
"""Bytes. Longer inputs have separate tests."""

MOST_MIB: Final = 456
"""Limit of memory: 256 MiB for an input, and 200 MiB for Python with all instrumented plugins."""

HUNG_SECONDS: Final = 20
"""Limit of time for an input. Instrumentation makes a target up to ten times slower."""

KEPT: Final = 300
"""Maximum number of inputs in a corpus, the shortest first."""


def fuzz(name: str, runs: int, seconds: int) -> tuple[list[Path], bool]:
    """Return the inputs that ended this target, and whether it finished."""
    found, corpus, start = WORK / "found", WORK / name, WORK / "seeds" / name
    for folder in (found, corpus, start):
        folder.mkdir(parents=True, exist_ok=True)
    before = set(found.iterdir())
    if (kept := HERE / "corpus" / f"{name}.zip").exists():
        zipfile.ZipFile(kept).extractall(start)
    words = WORK / f"{name}.dict"
    words.write_text("".join(f'"{word}"\n' for word in _words(start.iterdir())))
    limits = [f"-runs={runs}", f"-max_total_time={seconds}", f"-timeout={HUNG_SECONDS}", f"-rss_limit_mb={MOST_MIB}"]
    options = [*limits, f"-max_len={LONGEST_INPUT}", f"-dict={words}", f"-artifact_prefix={found}/{name}-", "-print_final_stats=1"]
    command = [sys.executable, str(HERE / "fuzz.py"), name, *options, str(corpus), str(start)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=seconds * 3 + 120, check=False, cwd=WORK)
    figures = dict(re.findall(r"^stat::(\w+):\s*(\d+)", done.stderr, re.M))
    print(
        f"{name}: {int(figures.get('number_of_executed_units', 0)):,} inputs, {figures.get('peak_rss_mb')} MiB, exit {done.returncode}",
        flush=True,
    )
    if done.returncode:
        print(done.stderr[-3000:])
    return sorted(set(found.iterdir()) - before), not done.returncode


def _words(files: Iterable[Path]) -> list[str]:
    """Return words of valid inputs, which a fuzzer would not guess."""
    found: set[str] = set()
    for file in files:
        found.update(re.findall(r"[A-Za-z_][\w.-]{2,30}|[<>/&;=:{}()#\"'|-]{2,6}", file.read_bytes().decode("latin-1")))
    return sorted(word.replace("\\", "\\\\").replace('"', '\\"') for word in found if word.isascii())[:2000]


def keep(name: str) -> None:
    """Save inputs that reach new code in `corpus/`, beside earlier ones, up to the limit."""
    (HERE / "corpus").mkdir(exist_ok=True)
    before = [path for path in (WORK / "seeds" / name).iterdir() if not path.name.startswith("seed-")]
    found = {path.name: path for path in (*before, *(WORK / name).iterdir())}
    inputs = sorted(found.values(), key=lambda path: (path.stat().st_size, path.name))[:KEPT]
    with zipfile.ZipFile(HERE / "corpus" / f"{name}.zip", "w") as kept:
        for path in inputs:
            kept.writestr(zipfile.ZipInfo(path.name), path.read_bytes(), zipfile.ZIP_DEFLATED)


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code: 1 for failures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", default=list(TARGETS))
    parser.add_argument("--runs", type=int, default=100_000, help="inputs for each target")
    parser.add_argument("--seconds", type=int, default=300, help="longest time for each target")
    parser.add_argument("--keep", action="store_true", help="keep what reached new code in tests/fuzz/corpus")
    given = parser.parse_args(arguments)
    write(WORK / "seeds")
    bad = 0
    for name in given.targets:
        began = time.monotonic()
        found, ended = fuzz(name, given.runs, given.seconds)
        bad += len(found) + (not ended)
        print(f"{name}: {len(found)} to look at, {time.monotonic() - began:.0f} s", flush=True)
        if given.keep:
            keep(name)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
