"""An operator's requests to a running mom, as files: who may write into mom's state directory may ask, and no socket is needed.

A request is an empty file with a guest's id as its name; mom takes it away. The folder is made with the first request.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from mom_core import MomError

_ID: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z_.-]{0,127}")
_LOOK_SECONDS: Final = 0.1
MOST: Final = 1000
"""Requests looked at in a cycle."""


def take_requests(folder: Path) -> Sequence[str]:
    """Return the ids that were asked about; each only once."""
    taken = []
    with suppress(OSError):
        for name in sorted(path.name for path in folder.iterdir() if _ID.fullmatch(path.name))[:MOST]:
            (folder / name).unlink()
            taken.append(name)
    return taken


def request(folder: Path, identity: str, is_done: Callable[[], bool], seconds: float) -> None:
    """Ask, and wait until it is done. Raises `MomError` when it is not in time; the request is taken back then."""
    if not _ID.fullmatch(identity):
        raise MomError("the guest's id is none that a file can have")
    file = folder / identity
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        file.touch()
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            if is_done():
                return
            time.sleep(_LOOK_SECONDS)
        seen = not file.exists()
        file.unlink(missing_ok=True)
    except OSError as error:
        raise MomError(f"mom cannot be asked: {folder}: {error.strerror}", hint="ask as root") from None
    if seen:
        raise MomError(f"it is not done after {seconds:g} s", hint="see mom's log, and `mom eviction`")
    raise MomError(f"no mom has taken the request within {seconds:g} s", hint="is mom running? If not, start the guest as you usually do")
