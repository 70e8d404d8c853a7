"""The pages in docs/runbooks: which there are, and the commands that they show, with what these print."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

FOLDER: Final = Path(__file__).parents[2] / "docs/runbooks"


class Shown(NamedTuple):
    """A command of mom's, without its first word, and the lines that must be in what it prints, in this order; `…` stands for anything."""

    words: Sequence[str]
    lines: Sequence[str]

    def missing(self, printed: str) -> str:
        """The first line that is not there; empty when all are."""
        left = iter(printed.splitlines())
        return next((line for line in self.lines if not any(_matches(line, one) for one in left)), "")


def _matches(shown: str, line: str) -> bool:
    pattern = ".*".join(re.escape(" ".join(part.split())) for part in shown.split("…"))
    return re.search(pattern if "…" in shown else f"^{pattern}$", " ".join(line.split())) is not None


def commands(alert: str) -> Sequence[Shown]:
    """Those of an alert's page that are shown with what they print."""
    found: list[tuple[list[str], list[str]]] = []
    for block in re.findall(r"^```console\n(.*?)^```$", (FOLDER / f"{alert}.md").read_text(), re.M | re.S):
        for line in block.splitlines():
            if line.startswith("$ mom "):
                found.append((line.split()[2:], []))
            else:
                found[-1][1].append(line)
    return [Shown(*one) for one in found]
