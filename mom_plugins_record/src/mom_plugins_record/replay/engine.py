"""The engine of a recording: mom's own, with the recorded settings and policies or others, which goes by recorded snapshots."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from mom_core import Clock, Decision, Declarations, Engine, MomError, PluginError, Report, Snapshot, Value, load_config
from mom_kvm import PolicyRefused, PolicyTexts
from mom_plugins_record.recording.plugin import RecordPlugin
from mom_plugins_record.recording.session import RecordedSession
from mom_plugins_record.replay.installed import InstalledThen, guest_rules, installed_plugins

WHO: Final = "replay"

_COLLECTING: Final = ("mom_collect_host", "mom_collect_guests")


class RecordedEngine:
    """Mom's engine as when the daemon of this session has just started, which decides on recorded snapshots and touches nothing.

    Its plugins are those of the session that decide, and all fields and controls of the session are declared.

    :param policies: texts by name in place of the recorded ones
    Raises `MomError` when the session has no plugin that decides and is installed here, or when they refuse the policies.

    `left_out` says which of the session's plugins decide something and are not here, and why: what they decided is not compared.
    """

    def __init__(self, session: RecordedSession, policies: Mapping[str, str] | None = None) -> None:
        self.left_out: dict[str, str] = {}
        self._session = session
        self._own_policies = policies
        self._snapshot = Snapshot()
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mom-replay-")))
            self._engine = stack.enter_context(self._opened(folder))
            self.history = max(1, self._engine.config.history - 1)  # as the engine keeps: older snapshots, beside the one of the cycle
            self._texts = self._engine.service(PolicyTexts)
            self._install(session.policies if policies is None else policies)
            self._stack = stack.pop_all()

    def close(self) -> None:
        """End it, and delete what it has written. May be called twice."""
        self._stack.close()

    def use(self, session: RecordedSession) -> None:
        """From here on, the recording's policies were these."""
        if self._own_policies is None and session.policies != self._session.policies:
            self._install(session.policies)
        self._session = session

    def cycle(self, snapshot: Snapshot) -> Report:
        """Return the report of mom in the cycle in which this was known."""
        self._snapshot = snapshot
        return self._engine.cycle(snapshot=snapshot)

    @property
    def memory(self) -> Value:
        """The memory of the policies; None when no evaluator has any."""
        return None if self._texts is None else self._texts.memory()

    def remember(self, memory: Value) -> None:
        """Have the policies remember what they remembered when it was recorded."""
        if self._texts is not None:
            self._texts.set_memory(memory)

    def is_compared(self, decision: Decision) -> bool:
        """Return True if a recorded decision came from an evaluator that is here."""
        if decision.source.line > 0:  # of a policy
            return self._texts is not None
        return decision.source.name not in self.left_out

    # --- making it -----------------------------------------------------------------------------------------------------------------

    def _opened(self, folder: Path) -> Engine:
        """With all plugins that can be set up here."""
        session = self._session
        plugins = self._deciding()
        declared = Declarations({(spec.scope, spec.name): spec for spec in session.fields}, {spec.name: spec for spec in session.controls})
        while plugins:
            settings = {name: item.settings for name, item in plugins.items()}
            document = {
                "interval": session.configuration.get("interval", "5s"),
                "history": session.configuration.get("history", 10),
                "mode": "observe",
                "root": str(folder / "root"),
                "state_directory": str(folder / "state"),
                "run_directory": str(folder / "run"),
                "plugins": settings,
                "guests": guest_rules(session.configuration, settings),
            }
            clock = Clock(lambda: self._snapshot.monotonic, lambda: self._snapshot.time)
            engine = Engine(load_config(document), clock, serve=False, declared=declared)
            try:
                engine.open()
            except PluginError as error:
                for item in error.errors:
                    del plugins[item.plugin]
                    self.left_out[item.plugin] = f"it cannot be set up here: {item.message}"
                continue
            return engine
        reasons = "; ".join(f"{name}: {reason}" for name, reason in self.left_out.items())
        raise MomError(f"nothing that was recorded can be evaluated here: {reasons or 'no plugin decided anything'}")

    def _deciding(self) -> dict[str, InstalledThen]:
        """Return the recorded plugins that decide, are installed, and are neither a hypervisor nor the recorder."""
        installed, left_out = installed_plugins(self._session.configuration)
        self.left_out.update(left_out)
        result: dict[str, InstalledThen] = {}
        for name, one in installed.items():
            if not any(hasattr(one.plugin_class, hook) for hook in ("mom_evaluate", "mom_act", "mom_problems")):
                continue
            if one.plugin_class is RecordPlugin:
                continue  # it decides nothing, and would record the replay where the recording is
            if hasattr(one.plugin_class, "mom_hypervisor"):
                self.left_out[name] = "it is a hypervisor, and none is used in a replay"
            elif _goes_by_what_it_did(one.plugin_class):
                self.left_out[name] = "it goes by what it did to guests, and nothing is done in a replay"
            else:
                result[name] = one
        return result

    def _install(self, policies: Mapping[str, str]) -> None:
        if self._texts is None:
            if self._own_policies is not None:
                raise MomError("no evaluator of this recording takes policies", hint="leave --policy out")
            return
        try:
            self._texts.change(policies, who=WHO, replace_all=True)
        except PolicyRefused as error:
            raise MomError(f"these policies cannot be replayed: {error}", hint="`mom policy check` says what is wrong") from error


def _goes_by_what_it_did(plugin_class: type) -> bool:
    """Return True if it acts and asks the hypervisor for the results, which no snapshot holds."""
    asks = [getattr(plugin_class, hook) for hook in _COLLECTING if hasattr(plugin_class, hook)]
    everything = len(asks) == len(_COLLECTING) and all("hypervisor" in inspect.signature(hook).parameters for hook in asks)
    return everything and hasattr(plugin_class, "mom_act")
