"""Operators' requests to a running mom: empty files, named after guest ids."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from mom_core import MomError, printable

_ID: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z_.-]{0,127}")
_LOOK_SECONDS: Final = 0.1
MOST: Final = 1000


def take_requests(folder: Path) -> Sequence[str]:
    """Remove all requests; return guest ids."""
    identities = []
    with suppress(OSError):
        for name in sorted(path.name for path in folder.iterdir() if _ID.fullmatch(path.name))[:MOST]:
            (folder / name).unlink()
            identities.append(name)
    return identities


def request(folder: Path, identity: str, is_done: Callable[[], bool], seconds: float) -> None:
    """Write a request; wait until `is_done`. After `seconds`, withdraw it and raise `MomError`."""
    if not _ID.fullmatch(identity):
        raise MomError(f"the guest's id {printable(identity, 60)} cannot be the name of a file")
    file = folder / identity
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        file.touch()
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            if is_done():
                return
            time.sleep(_LOOK_SECONDS)
        accepted = not file.exists()
        file.unlink(missing_ok=True)
    except OSError as error:
        raise MomError(f"cannot write a request to {folder}: {error.strerror}", hint="run the command as root") from None
    if accepted:
        raise MomError(f"the guest did not resume within {seconds:g} s", hint="see mom's log, and `mom eviction`")
    raise MomError(f"mom did not accept the request within {seconds:g} s", hint="is mom running? If not, start the guest yourself")
