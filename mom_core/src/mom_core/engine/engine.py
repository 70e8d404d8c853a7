"""Engine: runs cycles, reloads and restores."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence, Set
from concurrent.futures import Future
from dataclasses import replace
from types import TracebackType

from mom_core.config import Config
from mom_core.context import Declarations, PluginContext, Service
from mom_core.engine.collect import Collector
from mom_core.engine.cycle import CycleSteps
from mom_core.engine.problems import HeldConditions, ProblemLog
from mom_core.engine.restore import restore
from mom_core.engine.schedule import Clock, Schedule, Tick
from mom_core.errors import MomError
from mom_core.hypervisor import Hypervisor
from mom_core.ledger import Key, Ledger
from mom_core.lock import RESTORE_SECONDS, RunLock
from mom_core.model import EngineState, Outcome, Problem, Report, Snapshot, Status
from mom_core.plugins.bounded import located
from mom_core.plugins.registry import NOTHING_DECLARED, PluginSet, build_plugins, close_plugins, stop_writing_state
from mom_core.texts import count_of

LOG = logging.getLogger("mom.engine")

TEARDOWN_SECONDS = 0.4
"""Part of `stop_timeout` reserved for the plugins' teardown."""


LOGGED = 20

EXIT_SECONDS = 0.3
"""Part of `stop_timeout` reserved for the exit of the process."""

BROKEN_CYCLES = 3
"""After this number of consecutive failures of the core itself, mom undoes all changes and exits."""

PUT_BACK_AGAIN_SECONDS = 30.0
"""Time between retries of failed restores in observe mode."""


class Engine:
    """Manager of one host. Runs in the caller's thread (`run`, `cycle`) or its own (`start`, `stop`). Installs no signal handlers.

    ::

        with Engine(load_config({"plugins": {"sim": {}, "policy": {}, "balloon": {}}})) as engine:
            report = engine.cycle()

    :param on_report: called after every cycle, in the engine's thread
    :param serve: False to open no sockets, for an engine beside a running mom
    :param on_progress: called in the engine's thread every few seconds, for a watchdog
    :param declared: fields and controls that replace those of plugins
    :param threaded: False to call plugins without threads and deadlines, for fast and repeatable simulations
    """

    def __init__(
        self,
        config: Config,
        clock: Clock | None = None,
        on_report: Callable[[Report], None] | None = None,
        *,
        serve: bool = True,
        on_progress: Callable[[], None] = lambda: None,
        declared: Declarations = NOTHING_DECLARED,
        threaded: bool = True,
    ) -> None:
        self.config = config
        self.report: Report | None = None
        self.started_at = 0.0
        self.number = 0
        self._clock = clock or Clock()
        self._on_report = on_report
        self._serve = serve
        self._on_progress = on_progress
        self._declared = declared
        self._threaded = threaded
        self._put_back = True
        self._stopping = threading.Event()
        self._schedule = Schedule(config.interval)
        self._lock = RunLock(config.run_directory, RESTORE_SECONDS)
        self._problems = ProblemLog()
        self._conditions = HeldConditions()
        self._history: deque[Snapshot] = deque()
        self._cycle: CycleSteps | None = None
        self._ledger: Ledger | None = None
        self._skipped = 0
        self._not_back: set[Key] = set()
        self._put_back_at = 0.0
        self._thread: threading.Thread | None = None
        self._runs_in: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._pending: tuple[Callable[[], Config], Future[None]] | None = None

    # --- life -----------------------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Take the lock, and set up all plugins. If this raises `MomError`, nothing stays open."""
        if self._cycle is not None:
            return
        self._lock.take()
        try:
            self._ledger = ledger = Ledger.open(self.config.state_directory)
            plugins = self._build(self.config)
        except BaseException:
            self._lock.release()
            self._ledger = None
            raise
        self._use(self.config, plugins, ledger)
        self.started_at = self._clock.wall()
        if self._serve and self.config.mode == "observe":  # the first cycle restores, after the hypervisor listed its guests
            self._not_back, self._put_back_at = set(ledger.entries), -math.inf
        if ledger.entries:
            LOG.info("took over %s of an earlier run", count_of(len(ledger.entries), "change"))

    def close(self, *, put_back: bool = True) -> list[Outcome]:
        """Undo all changes if `put_back`, and tear down the plugins, within `stop_timeout`. The ledger keeps entries of failed restores."""
        if self._cycle is None:
            return []
        until = time.monotonic() + self.config.stop_timeout - EXIT_SECONDS
        self._stopping.set()
        outcomes: list[Outcome] = []
        plugins, ledger = self._cycle.plugins, self._cycle.ledger
        try:
            if put_back:
                seconds = max(0.1, until - time.monotonic() - TEARDOWN_SECONDS)
                outcomes = restore(plugins, ledger, seconds, None, self._clock.sleep)
                self._log_restored(outcomes)
            plugins.close(max(0.1, until - time.monotonic()))
        finally:
            self._cycle = None
            self._lock.release()
            self._forget_stop()
        return outcomes

    def _forget_stop(self) -> None:
        self._put_back = True
        self._stopping.clear()
        self._schedule = Schedule(self.config.interval)

    def __enter__(self) -> Engine:
        if self._cycle is None:
            self._forget_stop()
        self.open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def run(self) -> None:
        """Run cycles until `stop` is called."""
        self.open()
        self._runs_in = threading.current_thread()
        try:
            broken = 0
            while (tick := self._schedule.wait(self._on_progress)) is not None:
                try:
                    self._reload_if_asked()
                    self._one(tick)
                    broken = 0
                except Exception:
                    # A bug in the core, because plugins' errors are caught earlier. A late cycle is better than none.
                    LOG.exception("cycle %d failed", self.number)
                    broken += 1
                    if broken >= BROKEN_CYCLES:
                        raise
        finally:
            self.close(put_back=self._put_back)
            self._runs_in = None

    def start(self) -> None:
        """Run cycles in the engine's own thread. Raises the errors of `open`."""
        if self._thread is not None:
            raise MomError("this engine is running already", hint="stop it first")
        self._forget_stop()  # only here: a signal may call stop() before `open` or `run`
        self.open()
        self._thread = threading.Thread(target=self._run_in_thread, name="mom-engine", daemon=True)
        self._thread.start()

    def stop(self, *, put_back: bool = True) -> None:
        """End the cycles of `run` or `start`, and undo all changes. Safe in signal handlers.

        After `start`, raise the thread's error, or `MomError` if the thread does not end in time.

        :param put_back: False to keep all changes for the next start of mom
        """
        self._put_back = put_back
        self._stopping.set()
        self._schedule.stop()
        thread = self._thread
        if thread is not None:
            thread.join(self.config.stop_timeout + 1.0)
            if thread.is_alive():
                raise MomError(
                    "the engine has not ended in time", hint="find out what blocks it, such as `on_report`, and call stop() again"
                )
            self._thread = None
            failure, self._failure = self._failure, None
            if failure is not None:
                raise failure

    def _run_in_thread(self) -> None:
        try:
            self.run()
        except BaseException as error:  # stop() raises it in the caller's thread
            LOG.exception("the engine ended")
            self._failure = error

    # --- work -----------------------------------------------------------------------------------------------------------------

    def cycle(self, woken_by: str = "", snapshot: Snapshot | None = None) -> Report:
        """Run one cycle now. Do not call this during `run` or `start`.

        :param snapshot: snapshot to use; None to collect one
        """
        if self._cycle is None:
            self._forget_stop()
        self.open()
        return self._one(Tick(0.0, 0, woken_by), snapshot)

    def wake(self, reason: str) -> None:
        """Request an early cycle, from any thread."""
        self._schedule.wake(reason)

    def reload(self, config: Config, timeout: float | None = None) -> None:
        """Change the configuration between two cycles. On any error, change nothing.

        :param timeout: if another thread runs cycles, seconds before this raises `MomError`; the engine still applies the change later.
            None: return at once and log errors
        """
        thread = self._thread if self.is_running else self._runs_in
        if thread is None or thread is threading.current_thread():
            self._change_to(config)
            return
        done = self.request_reload(lambda: config)
        if timeout is not None:
            try:
                done.result(timeout)
            except TimeoutError as error:
                hint = "the engine applies it in the next cycle"
                raise MomError("the engine did not apply the new configuration in time", hint=hint) from error

    def request_reload(self, load: Callable[[], Config]) -> Future[None]:
        """Call `load` and reload before the next cycle; log errors. Safe in signal handlers."""
        done: Future[None] = Future()
        self._pending = load, done
        self._schedule.wake("reload")
        return done

    @property
    def is_running(self) -> bool:
        """True while the engine's own thread runs cycles."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def hypervisor(self) -> Hypervisor:
        """Hypervisor in use. Raises `MomError` unless the engine is open."""
        return self._opened().plugins.hypervisor

    def service(self, kind: Callable[..., Service]) -> Service | None:
        """Return the first service of this protocol, or None. Thread-safe."""
        return next(iter(self._opened().plugins.offers.get(kind, ())), None)

    @property
    def plugins(self) -> PluginSet:
        """Plugins in use. Raises `MomError` unless the engine is open."""
        return self._opened().plugins

    def state(self) -> EngineState:
        """Return the present state. Thread-safe."""
        cycle = self._cycle
        ledger = () if self._ledger is None else self._ledger.entries.values()
        state = EngineState("", self.started_at, self.problems(), self.config.file, changes=ledger)
        if cycle is None:
            return state
        loaded = {plugin.name: plugin.configured.loaded for plugin in cycle.plugins.plugins}
        distributions = {name: (plugin.distribution, plugin.version) for name, plugin in loaded.items()}
        return replace(state, hypervisor=cycle.plugins.hypervisor.uri, distributions=distributions)

    @property
    def longest_step(self) -> float:
        """Maximum seconds between calls of `on_progress`."""
        longest = max((plugin.worker.deadline for plugin in self._opened().plugins.plugins), default=0.0)
        # In observe mode, a restore between two cycles may take as long as a stop.
        return max(longest, self.config.stop_timeout) if self.config.mode == "observe" else longest

    def problems(self) -> list[Problem]:
        """Return the present problems, each with its start and number of cycles."""
        return self._problems.standing()

    @property
    def problems_over(self) -> list[Problem]:
        """Problems that the last cycle counted as ended."""
        return self._problems.over

    # --- inside ---------------------------------------------------------------------------------------------------------------

    def _opened(self) -> CycleSteps:
        if self._cycle is None:
            raise MomError("the engine is not open", hint="call open(), or use it in a with statement")
        return self._cycle

    def _one(self, tick: Tick, snapshot: Snapshot | None = None) -> Report:
        self.number = self.number + 1 if snapshot is None else snapshot.number
        self._skipped += tick.skipped
        report = self._opened().run(self.number, tick, self._skipped, snapshot)
        self.report = report
        if self._on_report is not None:
            self._on_report(report)
        if self._not_back and self.config.mode == "observe" and self._clock.monotonic() - self._put_back_at >= PUT_BACK_AGAIN_SECONDS:
            self._restore_keys(self._not_back)
        return report

    def _build(self, config: Config, previous: PluginSet | None = None) -> PluginSet:
        template = PluginContext(wake=self.wake, monotonic=self._clock.monotonic, serves=self._serve, engine_state=self.state)
        return build_plugins(config, template, self._stopping, previous, self._declared, threaded=self._threaded)

    def _use(self, config: Config, plugins: PluginSet, ledger: Ledger) -> None:
        for commit in plugins.commits:
            commit()
        self.config = config
        self._schedule.change(config.interval)
        self._history = deque(self._history, maxlen=max(1, config.history - 1))
        self._cycle = CycleSteps(
            plugins=plugins,
            ledger=ledger,
            history=self._history,
            enforce=config.mode == "enforce",
            clock=self._clock,
            stopping=self._stopping,
            collector=Collector(plugins, config.interval, self._on_progress),
            conditions=self._conditions,
            on_report=lambda report: self._problems.note(report.problems, report.outcomes, report.number, report.time),
            on_progress=self._on_progress,
        )

    def _reload_if_asked(self) -> None:
        if self._pending is None:
            return
        (load, done), self._pending = self._pending, None  # a signal during this `load` requests another one
        try:
            self._change_to(load())
        except MomError as refused:
            LOG.error("mom rejects the new configuration and keeps the old one: %s", refused)
            done.set_exception(refused)
        except Exception as mistake:  # `load` or a plugin may raise anything; do not retry in each cycle
            error = MomError(f"mom could not apply the new configuration: {located(mistake)}")
            LOG.exception("%s", error)
            done.set_exception(error)
        else:
            done.set_result(None)

    def _change_to(self, config: Config) -> None:
        old = self._opened()
        fixed = ("state_directory", "run_directory")
        for name in fixed:
            if getattr(config, name) != getattr(self.config, name):
                raise MomError(f"{name} cannot change while mom is running", hint="restart mom to change it")
        mode = config.mode if config.mode == self.config.mode else f"{config.mode} (it was {self.config.mode})"
        plugins = self._build(config, old.plugins)
        # Restore controls without an owner; in observe mode, all.
        staying = {} if config.mode == "observe" else plugins.declarations.controls
        self._restore_keys({key for key in old.ledger.entries if key[1] not in staying})
        self._use(config, plugins, old.ledger)
        replaced = [plugin for plugin in old.plugins.plugins if plugin not in plugins.plugins]
        close_plugins(replaced, 1.0)
        stop_writing_state(plugin for plugin in replaced if plugin.name in config.plugins)
        LOG.info("the new configuration is in force: mode %s, plugins %s", mode, ", ".join(config.plugins) or "none")

    def _restore_keys(self, leaving: Set[Key]) -> None:
        cycle = self._opened()
        if leaving:
            self._log_restored(restore(cycle.plugins, cycle.ledger, self.config.stop_timeout, leaving, self._clock.sleep))
        self._not_back, self._put_back_at = {key for key in leaving if key in cycle.ledger.entries}, self._clock.monotonic()

    def _log_restored(self, outcomes: Sequence[Outcome]) -> None:
        not_back = [outcome for outcome in outcomes if outcome.status not in {Status.APPLIED, Status.UNCHANGED}]
        for outcome in not_back[:LOGGED]:
            decision = outcome.decision
            LOG.warning("%s of %s was not restored: %s %s", decision.control, decision.entity, outcome.status, outcome.error)
        if len(not_back) > LOGGED:
            LOG.warning("not undone: %s more", count_of(len(not_back) - LOGGED, "change"))
        LOG.info("undid %d of %s", len(outcomes) - len(not_back), count_of(len(outcomes), "change"))
