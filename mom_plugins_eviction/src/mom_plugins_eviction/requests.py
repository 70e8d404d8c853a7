"""What an operator asks a running mom for, as files: who may write into mom's state directory may ask, and no socket is needed.

A request is an empty file named for the guest's id; mom takes it away, and leaves an answer beside it: an error, or nothing.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from mom_core import MomError

_ID: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z_.-]{0,127}")
_ANSWER: Final = ".answer"
_LOOK_SECONDS: Final = 0.1
MOST: Final = 1000
"""Requests looked at in a cycle."""


class ResumeRequests:
    """Requests in a folder.

    :param folder: made with the first request
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def take(self) -> Sequence[str]:
        """The ids that were asked about; each only once."""
        try:
            names = sorted(path.name for path in self._folder.iterdir() if _ID.fullmatch(path.name) and path.suffix != _ANSWER)[:MOST]
        except OSError:
            return ()
        taken = []
        for name in names:
            with suppress(OSError):
                (self._folder / name).unlink()
                taken.append(name)
        return taken

    def answer(self, identity: str, error: str) -> None:
        """Say what came of it, if a verb may still be waiting."""
        with suppress(OSError):
            new = self._folder / f".{identity}{_ANSWER}"  # no guest's id, so that it is not taken for a request meanwhile
            new.write_text(error, "utf-8", "backslashreplace")
            new.replace(self._folder / f"{identity}{_ANSWER}")

    def ask(self, identity: str, seconds: float) -> str:
        """Ask, and wait for the answer: an error, or nothing. Raises `MomError` without an answer; the request is taken back then."""
        request, answer = self._folder / identity, self._folder / f"{identity}{_ANSWER}"
        if not _ID.fullmatch(identity):
            raise MomError("the guest's id is none that a file can have")
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o750)
            answer.unlink(missing_ok=True)
            request.touch()
            ends = time.monotonic() + seconds
            while time.monotonic() < ends:
                if answer.exists():
                    said = answer.read_text("utf-8", "replace")
                    answer.unlink(missing_ok=True)
                    return said
                time.sleep(_LOOK_SECONDS)
            seen = not request.exists()
            request.unlink(missing_ok=True)
        except OSError as error:
            raise MomError(f"mom cannot be asked: {self._folder}: {error.strerror}", hint="ask as root") from None
        if seen:
            raise MomError(f"it is not done after {seconds:g} s", hint="it may still come: see `mom eviction`, and mom's log")
        raise MomError(
            f"no mom has taken the request within {seconds:g} s", hint="is mom running? If not, start the guest as you usually do"
        )
