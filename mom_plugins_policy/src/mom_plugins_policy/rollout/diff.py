"""What a change of the policies has changed, as a unified diff for a person to read."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Final

DIFFED_LINES: Final = 2000
"""Lines of a text, before and after together, up to which a diff is made: it takes some 50 ms for that many, and quadratically more."""

SHOWN_LINES: Final = 1000
"""Lines of a diff; the rest is counted."""


def difference(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """All texts that differ, in name order."""
    lines = [line for name in sorted({*before, *after}) for line in _of_one(name, before.get(name), after.get(name))]
    if len(lines) > SHOWN_LINES:
        lines[SHOWN_LINES:] = [f"and {len(lines) - SHOWN_LINES} more lines"]
    return "".join(f"{line}\n" for line in lines)


def _of_one(name: str, before: str | None, after: str | None) -> Iterator[str]:
    if before == after:
        return
    old, new = (before or "").splitlines(), (after or "").splitlines()
    of, to = name if before is not None else "/dev/null", name if after is not None else "/dev/null"
    if len(old) + len(new) > DIFFED_LINES:
        yield from (f"--- {of}", f"+++ {to}", f"{len(old)} lines became {len(new)}")
        return
    yield from difflib.unified_diff(old, new, of, to, lineterm="")
