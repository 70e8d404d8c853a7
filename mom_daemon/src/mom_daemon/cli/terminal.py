"""What reaches a terminal: no text that mom shows steers it, wherever the text comes from; and texts that are files stay true to the byte.

Names of guests, policies, what other hosts tell, and recordings may hold control characters, by which a terminal is made to hide lines, to
show others, or to answer as if the operator typed. Verbs write those escaped (`printable`); this is what nothing gets past.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TextIO

_COLOURS: Final = re.compile(r"(\x1b\[[0-9;:]*m)")
"""What colours text (SGR of ECMA-48), and does nothing else: click and rich write it."""


class TerminalStream:
    """A terminal to which text is written: line ends, tabs and colours get through, other control characters are shown as text.

    A verb that draws on the screen writes to `sys.__stdout__` or `sys.__stderr__`, which lead there without this.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write it, shown as text; how much of it that was."""
        self._stream.write("".join(part if number % 2 else _shown(part) for number, part in enumerate(_COLOURS.split(text))))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write all of them."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        if name == "buffer":  # bytes would get past
            raise AttributeError(name)
        return getattr(self._stream, name)


@contextmanager
def safe_terminals() -> Iterator[None]:
    """Standard output and standard error such that no text steers a terminal. Where they lead elsewhere, they stay as they are."""
    before = sys.stdout, sys.stderr
    try:
        sys.stdout, sys.stderr = (_safe(stream) for stream in before)
        yield
    finally:
        sys.stdout, sys.stderr = before


@contextmanager
def progress(*, shown: bool) -> Iterator[Callable[[str], None]]:
    """Show on a terminal how far a verb is that takes long, on standard error: by what is given, each text in the place of the last."""
    from rich.console import Console

    console = Console(file=sys.__stderr__ or sys.stderr)  # which it draws on: mom's own shows what steers a terminal
    if not shown or not console.is_terminal:
        yield lambda text: None
        return
    with console.status("") as status:
        yield status.update


def _shown(text: str) -> str:
    if text.rstrip("\n").isprintable():
        return text
    from mom_core import printable_lines  # not for every small command

    return printable_lines(text)


def _safe(stream: Any) -> Any:
    try:
        return TerminalStream(stream) if stream is not None and stream.isatty() else stream
    except ValueError:  # it is closed
        return stream


def print_text(text: str) -> None:
    """Print a text that is a file, such as a policy: to a terminal with all control characters shown; elsewhere its bytes in UTF-8, and
    nothing but them, so that `mom policy show NAME > FILE` gives the same file."""
    out = sys.stdout
    if out is None:
        return
    if out.isatty():
        out.write(_shown(text) if text.endswith("\n") else f"{_shown(text)}\n")
    elif hasattr(out, "buffer"):
        out.flush()
        out.buffer.write(text.encode("utf-8", "backslashreplace"))
    else:  # a program that embeds mom, and takes text
        out.write(text)
    out.flush()
