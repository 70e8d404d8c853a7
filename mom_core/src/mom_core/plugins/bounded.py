"""Calls plugin code outside the engine with a time limit, and describes its errors."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from dataclasses import dataclass
from traceback import walk_tb
from typing import Final, Generic, TypeVar

from mom_core.errors import DeadlineExceeded, MomError, PluginError
from mom_core.texts import printable

T = TypeVar("T")


@dataclass(slots=True)
class CallResult(Generic[T]):
    """Value of a call, or the exception that ended it."""

    value: T | None = None
    error: BaseException | None = None


LONGEST_CALL_SECONDS: Final = 20.0


def attempt(work: Callable[[], T]) -> CallResult[T]:
    """Call plugin code in a new thread. Return its result or exception; `DeadlineExceeded` after `LONGEST_CALL_SECONDS`."""
    result: CallResult[T] = CallResult()

    def run() -> None:
        try:
            result.value = work()
        except BaseException as error:  # noqa: BLE001  # also SystemExit, which would end only this thread
            result.error = error

    try:
        thread = started(threading.Thread(target=run, daemon=True))
    except OSError as error:
        return CallResult(error=error)
    thread.join(LONGEST_CALL_SECONDS)
    return CallResult(error=DeadlineExceeded(f"the call did not end within {LONGEST_CALL_SECONDS:g} s")) if thread.is_alive() else result


def started(thread: threading.Thread) -> threading.Thread:
    """Start the thread and return it. Raise `OSError` if the system cannot start it."""
    try:
        thread.start()
    except RuntimeError as error:
        raise BlockingIOError(errno.EAGAIN, "the system cannot start another thread") from error
    return thread


_SHORTAGES: Final = frozenset({errno.EAGAIN, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.ESTALE})
"""Temporary errors: shortages, and faults of disks and NFS servers."""


def may_pass(error: BaseException | None) -> bool:
    """Return whether an error is temporary, so that systemd should restart mom."""
    if isinstance(error, PluginError) and len(error.errors) > 1:
        return all(map(may_pass, error.errors))
    if isinstance(error, DeadlineExceeded | MemoryError) or (isinstance(error, OSError) and error.errno in _SHORTAGES):
        return True
    return error is not None and may_pass(error.__cause__)


CALLERS: Final = frozenset({"importlib", "lazy_loader", "mom_core", "pluggy", "stevedore"})
"""Packages that call plugins: the first frame outside them is in the plugin."""


def _place_of(error: BaseException) -> str:
    places = [(str(frame.f_globals.get("__name__", "")).partition(".")[0], frame, line) for frame, line in walk_tb(error.__traceback__)]
    outside = [place for place in places if place[0] not in CALLERS]
    in_plugin = (f"{frame.f_code.co_filename}:{line}" for package, frame, line in reversed(outside) if package == outside[0][0])
    return next(in_plugin, "")


def describe(error: BaseException) -> str:
    """Describe an exception on one line: type and message."""
    text = " ".join(str(error).split())
    return printable(f"{type(error).__name__}: {text}" if text else type(error).__name__, 300)


def located(error: BaseException) -> str:
    """Describe an exception on one line, with its place in plugin code."""
    place = "" if isinstance(error, MomError) else _place_of(error)
    return f"{describe(error)} (at {printable(place, 300)})" if place else describe(error)
