"""Terminal: reads keys, draws lines, and restores itself at the end."""

from __future__ import annotations

import curses
import os
import select
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Final

from rich.cells import cell_len, set_cell_size

from mom_core import MomError
from mom_daemon.cli.prose import cells

Line = Sequence[tuple[str, str]]
"""Texts with styles: `bold`, `dim`, `reverse` and a color, such as `bold red`."""

_ESCAPE_MILLISECONDS: Final = 100

_USUAL_TERMINAL: Final = "xterm-256color"

_KEYS: Final[dict[int | str, str]] = {
    curses.KEY_UP: "up", curses.KEY_DOWN: "down", curses.KEY_LEFT: "left", curses.KEY_RIGHT: "right", curses.KEY_HOME: "home",
    curses.KEY_END: "end", curses.KEY_PPAGE: "page up", curses.KEY_NPAGE: "page down", curses.KEY_BTAB: "back tab",
    curses.KEY_BACKSPACE: "backspace", curses.KEY_ENTER: "enter", "\x1b": "escape", "\r": "enter", "\n": "enter", "\t": "tab",
    "\x7f": "backspace", "\x08": "backspace", "\x03": "quit", "\x0c": "redraw", "\x15": "clear", "\x04": "page down",
}  # fmt: skip

_COLORS: Final = {"red": curses.COLOR_RED, "green": curses.COLOR_GREEN, "yellow": curses.COLOR_YELLOW, "cyan": curses.COLOR_CYAN}

_PLAIN: Final = str.maketrans("…█░▁▂▃▄▅▆▇→←↑↓", "~#-_.:-=+*><^v")


class EndedError(Exception):
    """Signal to end, or loss of the terminal."""


class Terminal:
    """Context manager of a curses terminal."""

    def __init__(self) -> None:
        self._wake_in, self._wake_out = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._handlers: dict[int, object] = {}
        self._ending = False

    def __enter__(self) -> Terminal:
        curses.set_escdelay(_ESCAPE_MILLISECONDS)
        try:
            self._screen = curses.initscr()
        except curses.error:
            os.environ["TERM"] = _USUAL_TERMINAL
            try:
                self._screen = curses.initscr()
            except curses.error as error:
                raise MomError(f"this terminal does not support full-screen output: {error}", hint="install ncurses-base") from error
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGWINCH):
            self._handlers[number] = signal.signal(number, self._on_signal)
        curses.cbreak()
        curses.noecho()
        self._screen.keypad(True)
        self._screen.nodelay(True)
        self._styles = {"bold": curses.A_BOLD, "dim": curses.A_DIM, "reverse": curses.A_REVERSE}
        with suppress(curses.error):  # the terminal cannot hide its cursor, or has no default colors
            curses.curs_set(0)
            if curses.has_colors() and not os.environ.get("NO_COLOR"):
                curses.start_color()
                curses.use_default_colors()
                for pair, (name, color) in enumerate(_COLORS.items(), 1):
                    curses.init_pair(pair, color, -1)
                    self._styles[name] = curses.color_pair(pair)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        with suppress(curses.error):  # the terminal is closed
            curses.endwin()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # a former result of signal()
        os.close(self._wake_in)
        os.close(self._wake_out)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._ending |= number != signal.SIGWINCH
        self.wake()

    def wake(self) -> None:
        """Make `keys` return immediately. Thread-safe."""
        with suppress(OSError):  # already woken, or ended
            os.write(self._wake_out, b".")

    @property
    def size(self) -> tuple[int, int]:
        """Return columns and lines."""
        try:
            terminal = os.get_terminal_size(sys.stdout.fileno())
        except OSError:
            raise EndedError from None
        return (terminal.columns or 80, terminal.lines or 24)

    def keys(self, seconds: float) -> list[str]:
        """Wait for keys and return them; return none after `seconds` or `wake`. Raise `EndedError` on a signal."""
        ready, _, _ = select.select([sys.stdin, self._wake_in], [], [], seconds)
        if self._wake_in in ready:
            os.read(self._wake_in, 4096)
        if self._ending:
            raise EndedError
        keys: list[str] = []
        with suppress(curses.error):  # no more keys
            while True:
                key = self._screen.get_wch()
                keys.append(_KEYS.get(key, "unknown" if isinstance(key, int) else key))
        return keys

    def redraw(self) -> None:
        """Make the next `draw` redraw all lines."""
        self._screen.clearok(True)

    def draw(self, lines: Sequence[Line]) -> None:
        """Show these lines."""
        # The last column stays empty, because some terminals wrap after it.
        width, height = self.size
        if self._screen.getmaxyx() != (height, width):
            curses.resizeterm(height, width)
        self._screen.erase()
        for y, line in enumerate(lines[:height]):
            x = 0
            for text, style in line:
                shown = text if x + cell_len(text) < width else set_cell_size(text, max(0, width - 1 - x))
                with suppress(curses.error):  # characters that this terminal draws wider
                    self._screen.addstr(y, x, self._writable(shown), sum(self._styles.get(word, 0) for word in style.split()))
                x += cell_len(shown)
        self._screen.refresh()

    def _writable(self, text: str) -> str:
        encoding = self._screen.encoding
        return text if encoding.lower().startswith("utf") else text.translate(_PLAIN).encode(encoding, "replace").decode(encoding)


def cell(text: str, width: int, *, right: bool = False) -> str:
    """Fit a text to a width; an ellipsis ends a longer text."""
    length = cells(text)
    if length > width:
        return set_cell_size(set_cell_size(text, width - 1).rstrip() + "…", width)
    return " " * (width - length) + text if right else text + " " * (width - length)


def shortened(name: str, width: int) -> str:
    """Shorten a name in its middle."""
    if cells(name) <= width:
        return name
    end, begin = (width - 1) // 2, width - 1 - (width - 1) // 2
    last = next(name[place:] for place in range(len(name)) if cell_len(name[place:]) <= end)
    return set_cell_size(name, begin).rstrip() + "…" + last
