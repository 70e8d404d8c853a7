"""The terminal: keys in, lines out, and everything as it was at the end, whatever ends it."""

from __future__ import annotations

import os
import selectors
import signal
import sys
import termios
import tty
from collections.abc import Sequence
from functools import lru_cache
from types import FrameType, TracebackType
from typing import Final

from rich.cells import cell_len, set_cell_size
from rich.color import ColorSystem
from rich.console import Console
from rich.segment import Segment
from rich.style import Style

Line = Sequence[tuple[str, str]]
"""Texts, each with the style it has (rich's words, such as `bold red`)."""

ESCAPE_SECONDS: Final = 0.1
"""How long the rest of a key's sequence may take after its escape character; ssh splits them sometimes."""

_ENTER: Final = "\x1b[?1049h\x1b[?25l\x1b[2J"
"""xterm's other screen, without a cursor: also tmux, screen, and the Linux console understand or ignore it."""

_LEAVE: Final = "\x1b[0m\x1b[?25h\x1b[?1049l"

_KEYS: Final = {
    "[A": "up", "[B": "down", "[C": "right", "[D": "left", "OA": "up", "OB": "down", "OC": "right", "OD": "left",
    "[H": "home", "[F": "end", "OH": "home", "OF": "end", "[1~": "home", "[4~": "end", "[7~": "home", "[8~": "end",
    "[5~": "page up", "[6~": "page down", "[Z": "back tab",
}  # fmt: skip
_SINGLE: Final = {
    "\r": "enter", "\n": "enter", "\t": "tab", "\x7f": "backspace", "\x08": "backspace", "\x03": "quit", "\x0c": "redraw",
    "\x15": "clear", "\x04": "page down",
}  # fmt: skip

_PLAIN: Final = str.maketrans("…█░▁▂▃▄▅▆▇→←↑↓", "~#-_.:-=+*><^v")
"""What stands for what, where a terminal has no Unicode."""


class EndedError(Exception):
    """A signal asks to end, or the terminal has gone."""


def keys_in(text: str) -> tuple[list[str], str]:
    """The keys in what a terminal has sent, and what of it may be the beginning of another one."""
    keys: list[str] = []
    while text:
        if text[0] != "\x1b":
            keys.append(_SINGLE.get(text[0], text[0]))
            text = text[1:]
            continue
        if len(text) == 1 or (text[1] in "[O" and len(text) == 2):
            return keys, text
        if text[1] not in "[O":
            keys.append("escape")
            text = text[1:]
            continue
        end = next((n for n, letter in enumerate(text[2:], 2) if "@" <= letter <= "~"), None)
        if end is None:
            return keys, text
        keys.append(_KEYS.get(text[1 : end + 1], "unknown"))
        text = text[end + 1 :]
    return keys, ""


class Terminal:
    """A terminal that is drawn on, from `with` to its end. Only lines that have changed are sent.

    :param color: None: what the terminal can do, and nothing where NO_COLOR is set
    """

    def __init__(self) -> None:
        self._in, self._out = sys.stdin.fileno(), sys.stdout.fileno()
        console = Console()
        self.colors: ColorSystem | None = None if console.no_color or not console._color_system else console._color_system
        self._unicode = console.encoding.startswith("utf")
        self._encoding = console.encoding
        self._shown: list[str] = []
        self._size = (0, 0)
        self._before: list[int | list[bytes | int]] | None = None
        self._begun = ""
        self._handlers: dict[int, object] = {}
        self._wake_in, self._wake_out = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector = selectors.DefaultSelector()
        self._ending = False

    def __enter__(self) -> Terminal:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT):
            self._handlers[number] = signal.signal(number, self._on_signal)
        self._selector.register(self._in, selectors.EVENT_READ)
        self._selector.register(self._wake_in, selectors.EVENT_READ)
        self._take()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._give_back()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal() itself gave
        self._selector.close()
        os.close(self._wake_in)
        os.close(self._wake_out)

    def _take(self) -> None:
        self._before = termios.tcgetattr(self._in)
        tty.setcbreak(self._in)
        self._shown = []
        self._write(_ENTER)

    def _give_back(self) -> None:
        if self._before is None:
            return
        try:
            self._write(_LEAVE)
            termios.tcsetattr(self._in, termios.TCSAFLUSH, self._before)
        except (OSError, termios.error, EndedError):
            pass  # the terminal has gone
        self._before = None

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if number in {signal.SIGTERM, signal.SIGHUP}:
            self._ending = True
        elif number == signal.SIGTSTP:
            self._give_back()
            os.kill(os.getpid(), signal.SIGSTOP)  # the signal that cannot be handled; _take again when it goes on
            self._take()
        self.wake()

    def wake(self) -> None:
        """End `keys` at once; from any thread."""
        try:
            os.write(self._wake_out, b".")
        except (BlockingIOError, OSError):
            return  # it is woken already, or has ended

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines."""
        try:
            found = os.get_terminal_size(self._out)
        except OSError:
            raise EndedError from None
        return (found.columns or 80, found.lines or 24)

    def keys(self, seconds: float) -> list[str]:
        """The keys that are pressed; none after so long, or when it is woken. Raises `EndedError`."""
        ready = {key.fd for key, _ in self._selector.select(ESCAPE_SECONDS if self._begun else seconds)}
        if self._wake_in in ready:
            os.read(self._wake_in, 4096)
        if self._ending:
            raise EndedError
        if self._in not in ready:
            keys = ["escape"] if self._begun and not ready else []
            self._begun = "" if not ready else self._begun
            return keys
        try:
            sent = os.read(self._in, 4096)
        except OSError:
            sent = b""
        if not sent:
            raise EndedError
        keys, self._begun = keys_in(self._begun + sent.decode("utf-8", "replace"))
        return keys

    def redraw(self) -> None:
        """Draw everything anew next time."""
        self._shown = []

    def draw(self, lines: Sequence[Line]) -> None:
        """Show these lines, cut to the screen's width."""
        width, height = size = self.size
        texts = [rendered(line, width, self.colors) for line in lines[:height]]
        texts += [""] * (height - len(texts))
        parts = []
        if size != self._size or not self._shown:
            parts.append("\x1b[0m\x1b[2J")
            self._size, self._shown = size, [""] * height
        for number, (text, shown) in enumerate(zip(texts, self._shown, strict=True), 1):
            if text != shown:
                parts.append(f"\x1b[{number};1H{text}\x1b[0m\x1b[K")
        self._shown = texts
        if parts:
            self._write("".join(parts))

    def _write(self, text: str) -> None:
        data = (text if self._unicode else text.translate(_PLAIN)).encode(self._encoding, "replace")
        while data:
            try:
                data = data[os.write(self._out, data) :]
            except OSError:
                raise EndedError from None


def rendered(line: Line, width: int, colors: ColorSystem | None) -> str:
    """A line as it is sent. The last column stays empty: some terminals wrap after it."""
    segments = Segment.adjust_line_length([Segment(text, style_of(style)) for text, style in line], width - 1, pad=False)
    return "".join(_sgr(segment.text, segment.style, colors) for segment in segments)


def _sgr(text: str, style: Style | None, colors: ColorSystem | None) -> str:
    if style is None or not style:
        return text
    if colors is None:
        style, colors = style.without_color, ColorSystem.STANDARD
    return style.render(text, color_system=colors)


@lru_cache(maxsize=256)
def style_of(words: str) -> Style:
    """rich's style of these words."""
    return Style.parse(words)


def cell(text: str, width: int, *, right: bool = False) -> str:
    """A text in exactly so many columns; what is too long ends with a dot-dot-dot."""
    length = len(text) if text.isascii() else cell_len(text)
    if length > width:
        return set_cell_size(set_cell_size(text, width - 1).rstrip() + "…", width)
    return " " * (width - length) + text if right else text + " " * (width - length)
