"""Terminal: reads keys, draws lines, and restores itself at the end."""

from __future__ import annotations

import os
import re
import select
import signal
import sys
import termios
import tty
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Final

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleDimensions
from rich.live import Live
from rich.text import Text

Line = Sequence[tuple[str, str]]
"""Texts with styles: `bold`, `dim`, `reverse` and a color, such as `bold red`."""

_KEY: Final = re.compile(r"\x1b[\[O][\d;]*[A-Za-z~]|.", re.DOTALL)

_KEYS: Final = {
    **{f"\x1b{mode}{end}": key for mode in "[O" for end, key in zip("ABHF", ("up", "down", "home", "end"), strict=True)},
    **{"\x1b[5~": "page up", "\x1b[6~": "page down", "\x1b[1~": "home", "\x1b[4~": "end"},
    **{"\x1b": "escape", "\r": "enter", "\n": "enter", "\t": "tab", "\x7f": "backspace", "\x08": "backspace"},
}


class EndedError(Exception):
    """Signal to end, or loss of the terminal."""


class Terminal:
    """Context manager of a full-screen terminal."""

    def __init__(self) -> None:
        self._wake_in, self._wake_out = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._handlers: dict[int, object] = {}
        # Not sys.stdout, which escapes control characters.
        self._live = Live(console=Console(file=sys.__stdout__, highlight=False), screen=True, auto_refresh=False)

    def __enter__(self) -> Terminal:
        self._before = termios.tcgetattr(sys.stdin.fileno())
        tty.setcbreak(sys.stdin.fileno())
        attributes = termios.tcgetattr(sys.stdin.fileno())
        attributes[6][termios.VSUSP] = b"\0"  # a suspended process would leave the screen as it is
        termios.tcsetattr(sys.stdin.fileno(), termios.TCSANOW, attributes)
        for number, handler in ((signal.SIGTERM, self._end), (signal.SIGHUP, self._end), (signal.SIGWINCH, self._resize)):
            self._handlers[number] = signal.signal(number, handler)
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # a former result of signal()
        with suppress(OSError, termios.error):  # the terminal is closed
            self._live.stop()
            termios.tcsetattr(sys.stdin.fileno(), termios.TCSANOW, self._before)
        os.close(self._wake_in)
        os.close(self._wake_out)

    def _end(self, number: int, frame: FrameType | None) -> None:
        raise EndedError

    def _resize(self, number: int, frame: FrameType | None) -> None:
        self.wake()

    def wake(self) -> None:
        """Make `keys` return immediately. Thread-safe."""
        with suppress(OSError):  # already woken, or ended
            os.write(self._wake_out, b".")

    @property
    def size(self) -> tuple[int, int]:
        """Return columns and lines."""
        try:
            return os.get_terminal_size(sys.stdout.fileno())
        except OSError as error:
            raise EndedError from error

    def keys(self, seconds: float) -> list[str]:
        """Wait for keys and return them; return none after `seconds` or `wake`. Raise `EndedError` if the terminal is closed."""
        ready, _, _ = select.select([sys.stdin, self._wake_in], [], [], seconds)
        if self._wake_in in ready:
            os.read(self._wake_in, 4096)
        if sys.stdin not in ready:
            return []
        try:
            text = os.read(sys.stdin.fileno(), 1024).decode(errors="ignore")
        except OSError:
            text = ""
        if not text:
            raise EndedError
        return [_KEYS.get(key, key) for key in _KEY.findall(text)]

    def draw(self, lines: Sequence[Line]) -> None:
        """Show these lines."""
        text = Text("\n", no_wrap=True, overflow="crop").join(Text.assemble(*line) for line in lines)
        self._live.console.size = ConsoleDimensions(*self.size)  # the environment's COLUMNS may be old
        try:
            self._live.update(text, refresh=True)
        except OSError as error:
            raise EndedError from error


def cell(text: str, width: int, *, right: bool = False) -> str:
    """Fit a text to a width; an ellipsis ends a longer text."""
    length = cell_len(text)
    if length > width:
        return set_cell_size(set_cell_size(text, width - 1).rstrip() + "…", width)
    return " " * (width - length) + text if right else text + " " * (width - length)


def shortened(name: str, width: int) -> str:
    """Shorten a name in its middle."""
    if cell_len(name) <= width:
        return name
    end, begin = (width - 1) // 2, width - 1 - (width - 1) // 2
    last = next(name[place:] for place in range(len(name)) if cell_len(name[place:]) <= end)
    return set_cell_size(name, begin).rstrip() + "…" + last
