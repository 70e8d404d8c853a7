"""Reading the kernel's small text files, where a file that is missing or refused is an ordinary answer: nothing is known."""

from __future__ import annotations

from pathlib import Path


def read_text(path: Path) -> str | None:
    """The whole text of a file in /proc or /sys; None when it cannot be read, whatever the reason.

    Bytes that are not ASCII become U+FFFD, which no parser here accepts as part of a number.
    """
    try:
        return path.read_bytes().decode("ascii", "replace")
    except OSError:
        return None
