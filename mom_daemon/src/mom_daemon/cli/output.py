"""Atomic writing of output files."""

from __future__ import annotations

from pathlib import Path

from mom_core import MomError, replace_file
from mom_daemon.cli.terminal import print_text


def write_output(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file atomically; `-` is standard output.

    Devices, pipes and links are not replaced: root could replace /dev/null.
    """
    if str(path) == "-":
        print_text(text)
        return
    try:
        if path.is_symlink() or (path.exists() and not path.is_file()):
            path.write_text(text, encoding="utf-8")
        else:
            replace_file(path, text, durable=False, mode=mode)
    except OSError as error:
        raise MomError(f"cannot write {path}: {error.strerror}", hint="use `-` and redirect the output: > FILE") from error
