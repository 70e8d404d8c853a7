"""Calls plugins: a thread per plugin, a deadline per call, pauses after failures."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue
from traceback import format_exception
from typing import Any

from mom_core.errors import DeadlineExceeded, HypervisorError, MomError
from mom_core.model import PluginReport
from mom_core.plugins.bounded import CallResult, located, started

LOG = logging.getLogger("mom.plugins")

FAILURES_BEFORE_SET_ASIDE = 3
"""Consecutive failures of one hook before mom pauses it."""

FIRST_RETRY_SECONDS = 5.0

LONGEST_RETRY_SECONDS = 60.0

_SLICE_SECONDS = 0.05


@dataclass(slots=True, eq=False)
class Call:
    """Call of a hook; `result` and `error` are valid once `done` is set."""

    hook: str
    work: Callable[[], object]
    deadline: float
    began: float = field(default_factory=time.monotonic)
    done: threading.Event = field(default_factory=threading.Event)
    result: object = None
    error: BaseException | None = None
    seconds: float = 0.0
    abandoned: bool = False
    asked: bool = False


@dataclass(slots=True)
class _Health:
    in_a_row: int = 0
    retry_at: float = 0.0


class PluginWorker:
    """Thread that runs one plugin's calls. Use it only from the engine's thread.

    :param deadline: default time limit in s
    :param stopping: event set at a stop, to end all waits
    :param monotonic: clock for pauses; deadlines are in real time
    """

    def __init__(
        self,
        plugin: str,
        deadline: float,
        stopping: threading.Event | None = None,
        hide: Callable[[str], str] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        threaded: bool = True,
    ) -> None:
        self.plugin = plugin
        self._threaded = threaded
        self._monotonic = monotonic
        self._hide = hide
        self.deadline = deadline
        self._stopping = stopping or threading.Event()
        self._queue: SimpleQueue[Call | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._current: Call | None = None
        self._health: dict[str, _Health] = {}
        self._durations: dict[str, float] = {}
        self._calls = 0
        self._failures = 0
        self._last_error = ""
        self._logged: dict[str, str] = {}

    @property
    def hung(self) -> bool:
        """True while an abandoned call has not returned."""
        return bool(self.hung_in)

    @property
    def hung_in(self) -> str:
        """Hook of the abandoned call; empty if none."""
        call = self._current
        return call.hook if call is not None and call.abandoned and not call.done.is_set() else ""

    def why_not(self, hook: str) -> str:
        """Return why this hook cannot be called now; empty if it can."""
        if self.hung and self._current is not None:
            return f"its call of {self._current.hook} has not returned"
        health = self._health.get(hook)
        if health is not None and health.retry_at > self._monotonic():
            return f"it failed {health.in_a_row} times in a row"
        return ""

    def begin(
        self, hook: str, work: Callable[[], object], deadline: float | None = None, *, always: bool = False, asked: bool = False
    ) -> Call | None:
        """Start a call. Return None if the plugin has hung or the hook is paused.

        :param always: ignore the pause
        :param asked: True for an operator's call: ignore the pause, and do not count failures
        :raises OSError: the system has no more threads
        """
        if self.hung or (not (always or asked) and self.why_not(hook)):
            return None
        self._reap()
        if self._threaded and self._thread is None:
            self._thread = started(threading.Thread(target=self._serve, name=f"mom-{self.plugin}", daemon=True))
        call = Call(hook, work, self.deadline if deadline is None else deadline, asked=asked)
        self._current = call
        self._calls += 1
        if self._threaded:
            self._queue.put(call)
        else:
            _run(call, Exception)
        return call

    def finish(self, call: Call, *, until: float | None = None) -> CallResult[object]:
        """Wait for a call; return its result, the plugin's error, or `DeadlineExceeded`.

        :param until: monotonic time limit instead of the deadline; a stop does not shorten it
        """
        limit = call.began + call.deadline if until is None else until
        while not call.done.wait(max(0.0, min(_SLICE_SECONDS, limit - time.monotonic()))):
            stopping = until is None and self._stopping.is_set()
            if not stopping and time.monotonic() < limit:
                continue
            call.abandoned = True
            text = f"{call.hook} has not returned; mom stops without its answer"
            if not stopping:
                text = f"{call.hook} did not answer within {limit - call.began:.3g} s"
                self._failed(call, text)
            return CallResult(error=DeadlineExceeded(text))
        self._durations[call.hook] = self._durations.get(call.hook, 0.0) + call.seconds
        self._current = None
        if call.error is not None:
            error = self._without_secrets(call.error)
            self._failed(call, located(error))
            return CallResult(error=error)
        self._health.pop(call.hook, None)
        self._logged.pop(call.hook, None)
        return CallResult(call.result)

    def log_failure(self, hook: str, error: BaseException) -> None:
        """Log an error with its traceback, unless it repeats the hook's last error."""
        text = located(error)
        if error.__traceback__ is None or self._logged.get(hook) == text:
            return
        self._logged[hook] = text
        trace = "".join(format_exception(error)).rstrip()
        level = logging.DEBUG if isinstance(error, MomError) else logging.ERROR
        about = {"mom": {"plugin": self.plugin}}
        LOG.log(level, "plugin %s: %s failed:\n%s", self.plugin, hook, trace if self._hide is None else self._hide(trace), extra=about)

    def call(self, hook: str, work: Callable[[], object], deadline: float | None = None, *, asked: bool = False) -> Any:
        """Begin and finish a call. Raise its error, or `DeadlineExceeded`."""
        call = self.begin(hook, work, deadline, asked=asked)
        if call is None:
            raise DeadlineExceeded(f"{hook} was not called: {self.why_not(hook)}")
        answer = self.finish(call)
        if answer.error is not None:
            raise answer.error
        return answer.value

    def begin_when_free(self, hook: str, work: Callable[[], object]) -> None:
        """Queue a call that runs after the hung call, without waiting for its result."""
        self._queue.put(Call(hook, work, self.deadline))

    def wait_until_free(self, until: float) -> bool:
        """Wait for an abandoned call. Return whether it returned by `until` (monotonic seconds)."""
        current = self._current
        if current is not None and not current.done.wait(max(0.0, until - time.monotonic())):
            return False
        self._reap()
        return True

    def reset_failures(self) -> None:
        """End all pauses, because mom must try each restore."""
        self._health.clear()

    def close(self, until: float) -> bool:
        """End the thread; return whether it ended by `until` (monotonic seconds)."""
        if self._thread is None:
            return True
        self._queue.put(None)
        self._thread.join(0.0 if self.hung else max(0.0, until - time.monotonic()))
        return not self._thread.is_alive()

    def report(self) -> PluginReport:
        """Return the plugin's health, and reset the durations."""
        now = self._monotonic()
        durations, self._durations = self._durations, {}
        waiting = [health.retry_at - now for health in self._health.values() if health.retry_at > now]
        if self.hung:
            state = PluginReport.State.HUNG
        elif waiting:
            state = PluginReport.State.SET_ASIDE
        elif any(health.in_a_row for health in self._health.values()):
            state = PluginReport.State.FAILING
        else:
            state = PluginReport.State.OK
        return PluginReport(self.plugin, state, durations, self._calls, self._failures, self._last_error, max(waiting, default=0.0))

    def _without_secrets(self, error: BaseException) -> BaseException:
        text = str(error)
        hidden = text if self._hide is None else self._hide(text)
        if hidden == text:
            return error
        other = HypervisorError(hidden) if isinstance(error, HypervisorError) else RuntimeError(f"{type(error).__name__}: {hidden}")
        return other.with_traceback(error.__traceback__)

    def _reap(self) -> None:
        if self._current is not None and self._current.done.is_set():
            if self._current.abandoned:
                LOG.warning(
                    "plugin %s: the abandoned call of %s returned after %.1f s", self.plugin, self._current.hook, self._current.seconds
                )
            self._current = None

    def _failed(self, call: Call, error: str) -> None:
        if call.asked:
            return
        self._failures += 1
        self._last_error = error
        health = self._health.setdefault(call.hook, _Health())
        health.in_a_row += 1
        if health.in_a_row >= FAILURES_BEFORE_SET_ASIDE:
            delay = min(LONGEST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2 ** (health.in_a_row - FAILURES_BEFORE_SET_ASIDE))
            health.retry_at = self._monotonic() + delay

    def _serve(self) -> None:
        while (call := self._queue.get()) is not None:
            _run(call, BaseException)  # containment is the purpose of this thread, even of SystemExit
            del call  # free its arguments, such as older samples, before the next call


def _run(call: Call, contained: type[BaseException]) -> None:
    began = time.monotonic()
    try:
        call.result = call.work()
    except contained as error:
        call.error = error
    call.seconds = time.monotonic() - began
    call.done.set()
