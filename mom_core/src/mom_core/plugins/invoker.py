"""Calls plugins: a thread per plugin, a deadline per call, pauses after failures."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from traceback import format_exception
from typing import Any

from mom_core.errors import DeadlineExceeded, HypervisorError, MomError
from mom_core.model import PluginReport
from mom_core.plugins.bounded import Call, CallResult, located, started

LOG = logging.getLogger("mom.plugins")

FAILURES_BEFORE_SET_ASIDE = 3
"""Consecutive failures of one hook before mom pauses it."""

FIRST_RETRY_SECONDS = 5.0

LONGEST_RETRY_SECONDS = 60.0

_SLICE_SECONDS = 0.05


@dataclass(slots=True)
class _Failures:
    in_a_row: int = 0
    retry_at: float = 0.0
    last: str = ""


class PluginWorker:
    """Thread that runs one plugin's calls. Use it only from the engine's thread.

    :param deadline: default time limit in s
    :param stopping: event set at a stop, to end all waits
    :param hide: masks secrets in a text
    :param monotonic: clock for pauses; deadlines are in real time
    """

    def __init__(
        self,
        plugin: str,
        deadline: float,
        stopping: threading.Event | None = None,
        hide: Callable[[str], str] = str,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        threaded: bool = True,
    ) -> None:
        self.plugin = plugin
        self.deadline = deadline
        self._stopping = stopping or threading.Event()
        self._hide = hide
        self._monotonic = monotonic
        self._threaded = threaded
        self._queue: SimpleQueue[Call[object] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._current: Call[object] | None = None
        self._failing: dict[str, _Failures] = {}
        self._durations: dict[str, float] = {}
        self._calls = 0
        self._failures = 0
        self._last_error = ""

    @property
    def hung_in(self) -> str:
        """Hook of an abandoned call that has not returned; empty if none."""
        call = self._current
        return call.hook if call is not None and call.abandoned and not call.done.is_set() else ""

    def why_not(self, hook: str) -> str:
        """Return why this hook cannot be called now; empty if it can."""
        if self.hung_in:
            return f"its call of {self.hung_in} has not returned"
        failures = self._failing.get(hook)
        paused = failures is not None and failures.retry_at > self._monotonic()
        return f"it failed {failures.in_a_row} times in a row" if failures is not None and paused else ""

    def begin(self, hook: str, work: Callable[[], object], deadline: float | None = None, *, counts: bool = True) -> Call[object] | None:
        """Start a call. Return None if the plugin has hung or the hook is paused.

        :param counts: False to ignore the pause, and to neither count nor log a failure
        :raises OSError: the system has no more threads
        """
        if self.hung_in or (counts and self.why_not(hook)):
            return None
        self._reap()
        if self._threaded and self._thread is None:
            self._thread = started(threading.Thread(target=self._serve, name=f"mom-{self.plugin}", daemon=True))
        call = self._current = Call(hook, work, self.deadline if deadline is None else deadline, counts)
        self._calls += 1
        if self._threaded:
            self._queue.put(call)
        else:
            call.run(Exception)
        return call

    def begin_when_free(self, hook: str, work: Callable[[], object]) -> None:
        """Queue a call that runs after the hung call, without waiting for its result."""
        self._queue.put(Call(hook, work, self.deadline))

    def finish(self, call: Call[object], *, until: float | None = None) -> CallResult[object]:
        """Wait for a call; return its result, the plugin's error, or `DeadlineExceeded`.

        :param until: monotonic time limit instead of the deadline; a stop does not shorten it
        """
        limit = call.began + call.deadline if until is None else until
        while not call.done.wait(max(0.0, min(_SLICE_SECONDS, limit - time.monotonic()))):
            stopping = until is None and self._stopping.is_set()
            if stopping:
                call.abandoned = True
                return CallResult(error=DeadlineExceeded(f"{call.hook} has not returned; mom stops without its answer"))
            if time.monotonic() >= limit:
                call.abandoned = True
                text = f"{call.hook} did not answer within {limit - call.began:.3g} s"
                return self._failed(call, DeadlineExceeded(text), text)
        self._durations[call.hook] = self._durations.get(call.hook, 0.0) + call.seconds
        self._current = None
        if call.result.error is not None:
            error = self._without_secrets(call.result.error)
            return self._failed(call, error, located(error))
        self._failing.pop(call.hook, None)
        return call.result

    def call(self, hook: str, work: Callable[[], object], deadline: float | None = None, *, counts: bool = True) -> Any:
        """Begin and finish a call. Raise its error, or `DeadlineExceeded`."""
        call = self.begin(hook, work, deadline, counts=counts)
        if call is None:
            raise DeadlineExceeded(f"{hook} was not called: {self.why_not(hook)}")
        answer = self.finish(call)
        if answer.error is not None:
            raise answer.error
        return answer.value

    def wait_until_free(self, until: float) -> bool:
        """Wait for an abandoned call. Return whether it returned by `until` (monotonic seconds)."""
        return self._current is None or self._current.done.wait(max(0.0, until - time.monotonic()))

    def close(self, until: float) -> bool:
        """End the thread; return whether it ended by `until` (monotonic seconds)."""
        if self._thread is None:
            return True
        self._queue.put(None)
        self._thread.join(0.0 if self.hung_in else max(0.0, until - time.monotonic()))
        return not self._thread.is_alive()

    def report(self) -> PluginReport:
        """Return the plugin's health, and reset the durations."""
        durations, self._durations = self._durations, {}
        waits = max((failures.retry_at - self._monotonic() for failures in self._failing.values()), default=0.0)
        state = PluginReport.State.FAILING if self._failing else PluginReport.State.OK
        if self.hung_in:
            state = PluginReport.State.HUNG
        elif waits > 0:
            state = PluginReport.State.SET_ASIDE
        return PluginReport(self.plugin, state, durations, self._calls, self._failures, self._last_error, max(0.0, waits))

    def _without_secrets(self, error: BaseException) -> BaseException:
        text = str(error)
        hidden = self._hide(text)
        if hidden == text:
            return error
        other = HypervisorError(hidden) if isinstance(error, HypervisorError) else RuntimeError(f"{type(error).__name__}: {hidden}")
        return other.with_traceback(error.__traceback__)

    def _failed(self, call: Call[object], error: BaseException, text: str) -> CallResult[object]:
        if call.counts:
            self._failures += 1
            self._last_error = text
            failures = self._failing.setdefault(call.hook, _Failures())
            failures.in_a_row += 1
            if failures.in_a_row >= FAILURES_BEFORE_SET_ASIDE:
                delay = min(LONGEST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2 ** (failures.in_a_row - FAILURES_BEFORE_SET_ASIDE))
                failures.retry_at = self._monotonic() + delay
            if error.__traceback__ is not None and failures.last != text:  # log a repeated error once
                level = logging.DEBUG if isinstance(error, MomError) else logging.ERROR
                trace = self._hide("".join(format_exception(error)).rstrip())
                LOG.log(level, "plugin %s: %s failed:\n%s", self.plugin, call.hook, trace, extra={"mom": {"plugin": self.plugin}})
            failures.last = text
        return CallResult(error=error)

    def _reap(self) -> None:
        if self._current is not None and self._current.abandoned:
            LOG.warning("plugin %s: the abandoned call of %s returned after %.1f s", self.plugin, self._current.hook, self._current.seconds)
        self._current = None

    def _serve(self) -> None:
        while (call := self._queue.get()) is not None:
            call.run(BaseException)  # containment is the purpose of this thread, even of SystemExit
            del call  # free its arguments, such as older samples, before the next call
