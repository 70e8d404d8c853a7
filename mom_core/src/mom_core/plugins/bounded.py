"""Calls into foreign code before there is an engine: with a time limit, and with whatever it raises as a value."""

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
    """The end of a call: its result, or the exception of any kind that ended it. `error` is None if it went well."""

    value: T | None = None
    error: BaseException | None = None


def attempt(work: Callable[[], T], *, seconds: float, what: str) -> CallResult[T]:
    """Call `work` in a thread of its own and wait at most `seconds` for it.

    A call that does not come back is left behind in its thread, which does not keep the process from ending; the attempt's error is
    then `DeadlineExceeded`. In a thread, because that is what tells a `KeyboardInterrupt` that foreign code raises from the operator's
    own Ctrl-C: the operator's arrives here, in the waiting thread, and goes on to the caller.

    :param what: how the error names the call, such as `importing mom_plugins_host`
    """
    made: CallResult[T] = CallResult()

    def run() -> None:
        try:
            made.value = work()
        except BaseException as error:  # noqa: BLE001  # containment is the purpose: a plugin may raise SystemExit, or anything
            made.error = error

    try:
        thread = started(threading.Thread(target=run, name=what, daemon=True))
    except OSError as error:
        return CallResult(error=error)
    thread.join(seconds)
    if thread.is_alive():
        return CallResult(error=DeadlineExceeded(f"{what} did not end within {seconds:g} s"))
    return made


def started(thread: threading.Thread) -> threading.Thread:
    """The thread, which runs. Raises `OSError` where the system gives no more of them: for Python, that would be a program's mistake."""
    try:
        thread.start()
    except RuntimeError as error:
        raise BlockingIOError(errno.EAGAIN, "the system gives no more threads") from error
    return thread


_SHORTAGES: Final = frozenset({errno.EAGAIN, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.ESTALE})
"""What the system says where it lacks something for the moment, or a disk or a server of NFS has a trouble: nothing is wrong with the
configuration then."""


def may_pass(error: BaseException | None) -> bool:
    """True where something was not there in time, or the system was short of something, as for all of several plugins: it may be otherwise
    the next time, so that a unit is to start mom again."""
    if isinstance(error, PluginError) and len(error.errors) > 1:
        return all(map(may_pass, error.errors))
    if isinstance(error, DeadlineExceeded | MemoryError) or (isinstance(error, OSError) and error.errno in _SHORTAGES):
        return True
    return error is not None and may_pass(error.__cause__)


CALLERS: Final = frozenset({"mom_core", "pluggy"})
"""The packages that call foreign code: what comes before it in a traceback."""


def own_traceback(error: BaseException) -> TracebackType | None:
    """An exception's traceback from the first line of foreign code on; all of it where only our own code was on the way."""
    trace = error.__traceback__
    while trace is not None and _package(trace) in CALLERS:
        trace = trace.tb_next
    return trace or error.__traceback__


def place_of(error: BaseException) -> str:
    """The file and line of foreign code in which an exception came up, also when a library that it called raised it; empty if unknown."""
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
    """Return an exception with its traceback through foreign code, as Python prints it."""
    return "".join(traceback.format_exception(type(error), error, own_traceback(error))).rstrip()


def _package(trace: TracebackType) -> str:
    return str(trace.tb_frame.f_globals.get("__name__", "")).partition(".")[0]


def describe(error: BaseException) -> str:
    """Return an exception on one line: its type and its message, if it has one."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
