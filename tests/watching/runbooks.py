"""Pages in docs/runbooks, with their commands and the output."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

FOLDER: Final = Path(__file__).parents[2] / "docs/runbooks"


class Shown(NamedTuple):
    """Command of mom without its first word, and the lines that its output must contain in this order. `…` matches anything."""

    words: Sequence[str]
    lines: Sequence[str]

    def missing(self, printed: str) -> str:
        """Return the first missing line; empty if none is missing."""
        left = iter(printed.splitlines())
        return next((line for line in self.lines if not any(_matches(line, one) for one in left)), "")


def _matches(shown: str, line: str) -> bool:
    pattern = ".*".join(re.escape(" ".join(part.split())) for part in shown.split("…"))
    return re.search(pattern if "…" in shown else f"^{pattern}$", " ".join(line.split())) is not None


def commands(alert: str) -> Sequence[Shown]:
    """Return the commands of an alert's page with their output."""
    found: list[tuple[list[str], list[str]]] = []
    for block in re.findall(r"^```console\n(.*?)^```$", (FOLDER / f"{alert}.md").read_text(), re.M | re.S):
        for line in block.splitlines():
            if line.startswith("$ mom "):
                found.append((line.split()[2:], []))
            else:
                found[-1][1].append(line)
    return [Shown(*one) for one in found]
