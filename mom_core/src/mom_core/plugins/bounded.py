"""Calls plugin code outside the engine with a time limit, and describes its errors."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
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


@dataclass(slots=True, eq=False)
class Call(Generic[T]):
    """Call of plugin code; `result` is valid once `done` is set. `counts`: a failure changes the plugin's health."""

    hook: str
    work: Callable[[], T]
    deadline: float
    counts: bool = True
    began: float = field(default_factory=time.monotonic)
    done: threading.Event = field(default_factory=threading.Event)
    result: CallResult[T] = field(default_factory=CallResult)
    seconds: float = 0.0
    abandoned: bool = False

    def run(self, contained: type[BaseException]) -> None:
        """Do the work, and keep its result or error."""
        began = time.monotonic()
        try:
            self.result = CallResult(self.work())
        except contained as error:
            self.result = CallResult(error=error)
        self.seconds = time.monotonic() - began
        self.done.set()


LONGEST_CALL_SECONDS: Final = 20.0


def attempt(work: Callable[[], T]) -> CallResult[T]:
    """Call plugin code in a new thread. Return its result or exception; `DeadlineExceeded` after `LONGEST_CALL_SECONDS`."""
    call = Call("the call", work, LONGEST_CALL_SECONDS)
    try:
        started(threading.Thread(target=call.run, args=(BaseException,), daemon=True))  # also SystemExit, which would end only the thread
    except OSError as error:
        return CallResult(error=error)
    if call.done.wait(call.deadline):
        return call.result
    return CallResult(error=DeadlineExceeded(f"{call.hook} did not end within {call.deadline:g} s"))


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
