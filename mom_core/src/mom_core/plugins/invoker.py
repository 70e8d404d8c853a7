"""Calls plugins so that none harms another: a thread for each, a deadline for each call, never two at once, back-off after failures."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue

from mom_core.errors import DeadlineExceeded, HypervisorError, MomError
from mom_core.model import PluginReport, PluginState, printable
from mom_core.plugins.bounded import CallResult, place_of, started, traceback_of

LOG = logging.getLogger("mom.plugins")

FAILURES_BEFORE_SET_ASIDE = 3
"""Failures of one hook in a row before it is left out for a while. One or two may be bad luck (a restart in between); more are a state."""

FIRST_RETRY_SECONDS = 5.0
"""How long a hook is left out at first: about one cycle at the default interval, so a short trouble costs little."""

LONGEST_RETRY_SECONDS = 60.0
"""Back-off doubles up to this: an operator who cured the trouble sees the plugin back within a minute."""

LONGEST_TRACEBACK = 10_000
"""Characters of a traceback that are logged, the last ones."""

_SLICE_SECONDS = 0.05
"""How often a thread that waits for a slow plugin looks whether everything is to stop."""


@dataclass(slots=True, eq=False)
class Call:
    """One call under way or done: either `result` or `error` is meaningful once `done` is set."""

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
    """Whether the operator has asked for it: a failure is the answer, and says nothing of the plugin's health."""


@dataclass(slots=True)
class _Health:
    """How one hook of one plugin has fared lately."""

    in_a_row: int = 0
    retry_at: float = 0.0


class PluginWorker:
    """One plugin's own thread, and the record of how its calls went. Used from the engine's thread only, except where said.

    :param plugin: its name in YAML
    :param deadline: seconds that a call may take unless the caller says otherwise
    :param stopping: set when everything is to end: no thread waits for this plugin any longer than it takes to notice
    :param hide: masks the plugin's secrets in a text
    :param monotonic: the clock that cycles go by, and so back-off: an hour that is simulated in a second has seen a minute's back-off end.
        Deadlines are always in real time
    """

    def __init__(
        self,
        plugin: str,
        deadline: float,
        stopping: threading.Event | None = None,
        hide: Callable[[str], str] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.plugin = plugin
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
        """By hook, the failure whose traceback was logged last."""

    @property
    def hung(self) -> bool:
        """True if a call that was given up on has not come back yet."""
        return bool(self.hung_in)

    @property
    def hung_in(self) -> str:
        """The hook of that call; empty: there is none."""
        call = self._current
        return call.hook if call is not None and call.abandoned and not call.done.is_set() else ""

    def why_not(self, hook: str) -> str:
        """Why this hook cannot be called now, or an empty text."""
        if self.hung and self._current is not None:
            return f"its call of {self._current.hook} has not come back"
        health = self._health.get(hook)
        waits = 0.0 if health is None else health.retry_at - self._monotonic()
        if health is not None and waits > 0:
            return f"it failed {health.in_a_row} times in a row and is tried again in {waits:.0f} s"
        return ""

    def begin(
        self, hook: str, work: Callable[[], object], deadline: float | None = None, *, always: bool = False, asked: bool = False
    ) -> Call | None:
        """Start a call in the plugin's thread; None if the plugin is hung or set aside.

        :param always: call it even if it was set aside for having failed
        :param asked: the same, as the operator has asked for it; if it fails, it is not set aside for that
        :raises OSError: it is the first call, and the system gives no thread for it
        """
        if self.hung or (not (always or asked) and self.why_not(hook)):
            return None
        self._reap()
        if self._thread is None:
            self._thread = started(threading.Thread(target=self._serve, name=f"mom-{self.plugin}", daemon=True))
        call = Call(hook, work, self.deadline if deadline is None else deadline, asked=asked)
        self._current = call
        self._calls += 1
        self._queue.put(call)
        return call

    def finish(self, call: Call, *, until: float | None = None) -> CallResult[object]:
        """Wait for a call; its error is `DeadlineExceeded` when it took too long, else what the plugin raised.

        :param until: monotonic time at which to give up, instead of the call's own deadline; then a stop does not cut it short
        """
        limit = call.began + call.deadline if until is None else until
        while not call.done.wait(max(0.0, min(_SLICE_SECONDS, limit - time.monotonic()))):
            stopping = until is None and self._stopping.is_set()
            if not stopping and time.monotonic() < limit:
                continue
            call.abandoned = True
            text = f"{call.hook} was left behind because mom stops"
            if not stopping:
                text = f"{call.hook} did not answer within {limit - call.began:.3g} s"
                self._failed(call, text)
            return CallResult(error=DeadlineExceeded(text))
        self._durations[call.hook] = self._durations.get(call.hook, 0.0) + call.seconds
        self._current = None
        if call.error is not None:
            error = self._without_secrets(call.error)
            self._failed(call, describe(error))
            return CallResult(error=error)
        self._health.pop(call.hook, None)
        self._logged.pop(call.hook, None)
        return CallResult(call.result)

    def log_failure(self, hook: str, error: BaseException) -> None:
        """Log an error that `finish` gave, with its traceback, unless it is the one of the call before.

        What a plugin raises on purpose (a `MomError`, such as a hypervisor that is away) is told in one line elsewhere: of that, the
        traceback is for the debug level.
        """
        text = describe(error)
        if error.__traceback__ is None or self._logged.get(hook) == text:
            return
        self._logged[hook] = text
        trace = traceback_of(error)[-LONGEST_TRACEBACK:]
        level = logging.DEBUG if isinstance(error, MomError) else logging.ERROR
        about = {"mom": {"plugin": self.plugin}}
        LOG.log(level, "plugin %s: %s failed:\n%s", self.plugin, hook, trace if self._hide is None else self._hide(trace), extra=about)

    def call(self, hook: str, work: Callable[[], object], deadline: float | None = None, *, asked: bool = False) -> object:
        """Begin and finish in one, and raise what went wrong; `DeadlineExceeded` also if the plugin is hung or set aside.

        :param asked: as for `begin`
        """
        call = self.begin(hook, work, deadline, asked=asked)
        if call is None:
            raise DeadlineExceeded(f"{hook} was not called: {self.why_not(hook)}")
        answer = self.finish(call)
        if answer.error is not None:
            raise answer.error
        return answer.value

    def begin_when_free(self, hook: str, work: Callable[[], object]) -> None:
        """Have a call made as soon as the one that hangs has come back, if it ever does. Nobody waits for it; what it raises is logged."""

        def logged() -> None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001  # containment: it is the plugin's code, and nobody waits for what it raises
                LOG.warning("plugin %s: %s: %s", self.plugin, hook, describe(self._without_secrets(error)))

        self._queue.put(Call(hook, logged, self.deadline))

    def wait_until_free(self, until: float) -> bool:
        """True if an abandoned call has come back by the monotonic time `until`."""
        current = self._current
        if current is not None and not current.done.wait(max(0.0, until - time.monotonic())):
            return False
        self._reap()
        return True

    def reset_failures(self) -> None:
        """Forget failures, so that the next call is made whatever went before: putting things back is always tried."""
        self._health.clear()

    def close(self, until: float) -> bool:
        """End the thread; whether it ended by the monotonic time `until`. A hung one is not waited for: it is a daemon."""
        if self._thread is None:
            return True
        self._queue.put(None)
        self._thread.join(0.0 if self.hung else max(0.0, until - time.monotonic()))
        return not self._thread.is_alive()

    def report(self) -> PluginReport:
        """How the plugin is; starts the next cycle's durations afresh."""
        now = self._monotonic()
        durations, self._durations = self._durations, {}
        waiting = [health.retry_at - now for health in self._health.values() if health.retry_at > now]
        if self.hung:
            state = PluginState.HUNG
        elif waiting:
            state = PluginState.SET_ASIDE
        elif any(health.in_a_row for health in self._health.values()):
            state = PluginState.FAILING
        else:
            state = PluginState.OK
        return PluginReport(self.plugin, state, durations, self._calls, self._failures, self._last_error, max(waiting, default=0.0))

    def _without_secrets(self, error: BaseException) -> BaseException:
        """The error; where a secret of the plugin stands in it, another one that says the same without it."""
        text = str(error)
        hidden = text if self._hide is None else self._hide(text)
        if hidden == text:
            return error
        other = HypervisorError(hidden) if isinstance(error, HypervisorError) else RuntimeError(f"{type(error).__name__}: {hidden}")
        return other.with_traceback(error.__traceback__)

    def _reap(self) -> None:
        """Take note of an abandoned call that has come back since."""
        if self._current is not None and self._current.done.is_set():
            if self._current.abandoned:
                LOG.warning("plugin %s: the call of %s came back after %.1f s", self.plugin, self._current.hook, self._current.seconds)
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
        """The thread: one call after the other, whatever they raise."""
        while (call := self._queue.get()) is not None:
            began = time.monotonic()
            try:
                call.result = call.work()
            except BaseException as error:  # noqa: BLE001  # containment is what this thread is for; SystemExit of a plugin included
                call.error = error
            call.seconds = time.monotonic() - began
            call.done.set()
            del call  # what it was given, such as older samples, must not be kept until the next one


def describe(error: BaseException) -> str:
    """An exception in one printable line, with the file and line where a plugin's mistake is."""
    text = str(error)
    said = printable(f"{type(error).__name__}: {text}" if text else type(error).__name__, 300)
    place = "" if isinstance(error, MomError) else place_of(error)
    return f"{said} (at {printable(place, 300)})" if place else said
