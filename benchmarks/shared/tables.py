"""Tables of benchmarks, pages that hold them, and files with a JSON object on each line."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any


def table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown, with figures to the right."""
    right = [all(re.fullmatch(r"[-\d.,%: ()to]*", row[column]) for row in rows) for column in range(len(heading))]
    lines = [heading, ["---:" if is_figure else "---" for is_figure in right], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def filled(text: str, parts: Mapping[str, str]) -> str:
    """Return a page with these parts between `<!-- NAME -->` and `<!-- end -->`. Raise `ValueError` if it has no such place."""
    for name, part in parts.items():
        before, begin, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        if not (begin and end):
            raise ValueError(f"the page has no place for {name}")
        text = f"{before}{begin}\n{part}\n\n{end}{after}"
    return text


def results_in(path: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the results in a file; none if there is no such file."""
    if path.exists():
        yield from map(json.loads, path.read_text(encoding="utf-8").splitlines())


def tell(text: str) -> None:
    """Print a line about progress, with the time."""
    print(f"{time.strftime('%H:%M:%S', time.gmtime())} {text}", flush=True)
