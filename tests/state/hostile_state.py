"""Measure the cost of reading state files with valid checksums and invalid content, in a new process.

python hostile_state.py FOLDER
"""

import json
import resource
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from state_contents import CONTENTS

from mom_core import Engine, StateError, StateFile, load_config
from mom_core.ledger import Ledger


def _entries(count: int) -> str:
    return "{" + ",".join(f'"{number}":{{}}' for number in range(count)) + "}"


BODIES: Final[Mapping[str, Callable[[], str]]] = {
    "deep lists": lambda: "[" * 200_000,
    "deep mappings": lambda: '{"a":' * 200_000,
    "a huge number": lambda: "9" * 1_000_000,
    "more than a float holds": lambda: "1e999",
    "no number": lambda: "NaN",
    "half a character": lambda: '"\\ud800"',
    "many mappings": lambda: f"[{'{},' * 99_000}0]",
    "many entries": lambda: _entries(99_000),
    "many versions": lambda: f'{{"count":1,"texts":{{}},"versions":[{"{}," * 90_000}{{}}]}}',
}


def files(folder: Path) -> Mapping[str, StateFile[Any]]:
    """Return all state files of mom and its plugins on a simulated host."""
    names = ("balloon", "ksm", "sla", "cgroup", "qos", "eviction")
    plugins = {"sim": {"guests": 1}, **{name: {} for name in names}, "policy": {"keep_changes": True}}
    config = {"state_directory": str(folder), "run_directory": str(folder / "run"), "mode": "enforce", "plugins": plugins}
    with Engine(load_config(config)) as engine:
        found = [file for plugin in engine.plugins.plugins for file in plugin.context.state_files]
    return {str(file.path.relative_to(folder)): file for file in (*found, Ledger(folder / "ledger.json").file)}


def main(folder: Path) -> None:
    """Read each file, and print its result and the memory used."""
    kept = files(folder)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    costs = {}
    for name, file in kept.items():
        if name not in CONTENTS:
            continue
        forger = StateFile(folder / name, "", lambda found: found)
        for what, body in BODIES.items():
            data = b"".join(forger._framed(body()))
            began = time.process_time()
            try:
                file.decoded(data)
            except StateError:
                costs[f"{name}: {what}"] = time.process_time() - began
    held = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
    json.dump({"seconds": costs, "mebibytes": held}, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
