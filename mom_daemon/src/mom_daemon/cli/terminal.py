"""Output without control characters, which could hide or fake lines, or type commands."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TextIO

_COLOURS: Final = re.compile(r"(\x1b\[[0-9;:]*m)")


class SafeStream:
    """Stream that escapes control characters except line ends, tabs and colours."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str | bytes) -> int:
        """Write escaped text and return its length."""
        if isinstance(text, bytes):
            text = text.decode("utf-8", "replace")
        self._stream.write("".join(part if number % 2 else _shown(part) for number, part in enumerate(_COLOURS.split(text))))
        return len(text)

    def write_file(self, text: str) -> None:
        """Write the content of a file: escaped on a terminal, exact UTF-8 elsewhere."""
        if self._stream.isatty():
            self._stream.write(_shown(text if text.endswith("\n") else f"{text}\n"))
        elif hasattr(self._stream, "buffer"):
            self._stream.flush()
            self._stream.buffer.write(text.encode("utf-8", "backslashreplace"))
        else:  # a program that embeds mom and expects text
            self._stream.write(text)
        self._stream.flush()

    def writelines(self, lines: Iterable[str]) -> None:
        """Write all lines."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        if name == "buffer":  # it would accept unescaped bytes
            raise AttributeError(name)
        return getattr(self._stream, name)


@contextmanager
def safe_streams() -> Iterator[None]:
    """Escape control characters in standard output and standard error."""
    before = sys.stdout, sys.stderr
    try:
        sys.stdout, sys.stderr = map(_safe, before)
        yield
    finally:
        sys.stdout, sys.stderr = before


@contextmanager
def progress(*, shown: bool) -> Iterator[Callable[[str], None]]:
    """Show progress on a terminal. Each text replaces the previous one."""
    from rich.console import Console

    console = Console(file=sys.__stderr__ or sys.stderr)  # it draws with control characters
    if not shown or not console.is_terminal:
        yield lambda text: None
        return
    with console.status("") as status:
        yield status.update


def _shown(text: str) -> str:
    if text.rstrip("\n").isprintable():
        return text
    from mom_core.texts import printable_lines

    return printable_lines(text)


def print_text(text: str) -> None:
    """Print the content of a file, unchanged in a pipe."""
    if (out := _safe(sys.stdout)) is not None:
        out.write_file(text)


def write_output(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file atomically; `-` is standard output.

    Devices, pipes and the targets of links are written, not replaced.
    """
    from mom_core import MomError, replace_file  # slow to import

    if str(path) == "-":
        print_text(text)
        return
    try:
        if path.is_symlink() or (path.exists() and not path.is_file()):
            path.write_text(text, encoding="utf-8")
        else:
            replace_file(path, text, durable=False, mode=mode)
    except OSError as error:
        raise MomError(f"cannot write {path}: {error.strerror}", hint="write to `-` (standard output), and redirect it: > FILE") from error


def _safe(stream: Any) -> Any:
    return stream if stream is None or isinstance(stream, SafeStream) else SafeStream(stream)
