"""Calls plugin code outside the engine with a time limit, and describes its errors."""

from __future__ import annotations

import errno
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
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
"""Packages whose frames at the top of a traceback are omitted."""


def own_traceback(error: BaseException) -> TracebackType | None:
    """Return the part of the traceback that begins in plugin code."""
    trace = error.__traceback__
    while trace is not None and _package(trace) in CALLERS:
        trace = trace.tb_next
    return trace or error.__traceback__


def _place_of(error: BaseException) -> str:
    first = trace = own_traceback(error)
    place = ""
    while first is not None and trace is not None:
        if _package(trace) == _package(first):
            place = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


def traceback_of(error: BaseException) -> str:
    """Format an exception, with its traceback from plugin code on."""
    return "".join(traceback.format_exception(type(error), error, own_traceback(error))).rstrip()


def _package(trace: TracebackType) -> str:
    return str(trace.tb_frame.f_globals.get("__name__", "")).partition(".")[0]


def describe(error: BaseException) -> str:
    """Describe an exception on one line: type and message."""
    text = " ".join(str(error).split())
    return printable(f"{type(error).__name__}: {text}" if text else type(error).__name__, 300)


def located(error: BaseException) -> str:
    """Describe an exception on one line, with its place in plugin code."""
    place = "" if isinstance(error, MomError) else _place_of(error)
    return f"{describe(error)} (at {printable(place, 300)})" if place else describe(error)
