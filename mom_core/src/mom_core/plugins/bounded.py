"""Calls of plugin code outside the engine, with a time limit; exceptions become values."""

from __future__ import annotations

import errno
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Generic, TypeVar

from mom_core.errors import DeadlineExceeded, PluginError

T = TypeVar("T")


@dataclass(slots=True)
class CallResult(Generic[T]):
    """Result of a call: its value, or the exception that ended it."""

    value: T | None = None
    error: BaseException | None = None


def attempt(work: Callable[[], T], *, seconds: float, what: str) -> CallResult[T]:
    """Call `work` in a thread of its own and wait at most `seconds`; a late call gets `DeadlineExceeded`.

    A late call is abandoned; its thread does not keep the process alive. An operator's Ctrl-C arrives in the waiting thread and is raised.

    :param what: description of the call for errors, for example `importing mom_plugins_host`
    """
    result: CallResult[T] = CallResult()

    def run() -> None:
        try:
            result.value = work()
        except BaseException as error:  # noqa: BLE001  # containment is the purpose: a plugin may raise SystemExit, or anything
            result.error = error

    try:
        thread = started(threading.Thread(target=run, name=what, daemon=True))
    except OSError as error:
        return CallResult(error=error)
    thread.join(seconds)
    if thread.is_alive():
        return CallResult(error=DeadlineExceeded(f"{what} did not end within {seconds:g} s"))
    return result


def started(thread: threading.Thread) -> threading.Thread:
    """Start the thread and return it. Raise `OSError` if the system has no more threads."""
    try:
        thread.start()
    except RuntimeError as error:
        raise BlockingIOError(errno.EAGAIN, "the system gives no more threads") from error
    return thread


_SHORTAGES: Final = frozenset({errno.EAGAIN, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.ESTALE})
"""Errors of temporary shortages, of failing disks and of NFS servers."""


def may_pass(error: BaseException | None) -> bool:
    """Return whether an error is temporary (a timeout or a shortage), so that systemd should start mom again."""
    if isinstance(error, PluginError) and len(error.errors) > 1:
        return all(map(may_pass, error.errors))
    if isinstance(error, DeadlineExceeded | MemoryError) or (isinstance(error, OSError) and error.errno in _SHORTAGES):
        return True
    return error is not None and may_pass(error.__cause__)


CALLERS: Final = frozenset({"mom_core", "pluggy"})
"""Packages at the top of a traceback, which call plugin code."""


def own_traceback(error: BaseException) -> TracebackType | None:
    """Return the traceback from the first line of plugin code on, or all of it without plugin code."""
    trace = error.__traceback__
    while trace is not None and _package(trace) in CALLERS:
        trace = trace.tb_next
    return trace or error.__traceback__


def place_of(error: BaseException) -> str:
    """Return file and line of the plugin code that caused an exception; empty if unknown."""
    first = trace = own_traceback(error)
    if first is None:
        return ""
    place = ""
    while trace is not None:
        if _package(trace) == _package(first):
            place = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


def traceback_of(error: BaseException) -> str:
    """Return an exception with its traceback through plugin code, as Python prints it."""
    return "".join(traceback.format_exception(type(error), error, own_traceback(error))).rstrip()


def _package(trace: TracebackType) -> str:
    return str(trace.tb_frame.f_globals.get("__name__", "")).partition(".")[0]


def describe(error: BaseException) -> str:
    """Return an exception on one line: its type and message."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
