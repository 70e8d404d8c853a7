"""mom's engine on recorded snapshots, with recorded settings, and recorded or other policies."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mom_core import Clock, Decision, Declarations, Engine, MomError, PluginError, Report, Snapshot, Value, load_config
from mom_kvm import PolicyState, PolicyTexts
from mom_plugins_record.recording.cycles import RecordedSession
from mom_plugins_record.recording.plugin import RecordPlugin

WHO: Final = "replay"

_COLLECTING: Final = ("mom_collect_host", "mom_collect_guests")


class RecordedEngine:
    """mom's engine with a recorded session's settings. It applies no decisions.

    It runs the session's deciding plugins. `left_out` names plugins that cannot run, with reasons. Their decisions are not compared.

    :param policies: texts keyed by name, instead of the recorded policies
    :raises MomError: no deciding plugin is installed, or its evaluators refuse the policies
    """

    def __init__(self, session: RecordedSession, policies: Mapping[str, str] | None = None) -> None:
        self.left_out: dict[str, str] = {}
        self._session = session
        self._own_policies = policies
        self._snapshot = Snapshot()
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mom-replay-")))
            self._engine = stack.enter_context(self._open(folder))
            self.history = max(1, self._engine.config.history - 1)  # like the engine: older snapshots, and the present one
            self._texts = self._engine.service(PolicyTexts)
            self._install(session.policies if policies is None else policies)
            self._stack = stack.pop_all()

    def close(self) -> None:
        """Close the engine, and delete its files. A second call does nothing."""
        self._stack.close()

    def use(self, session: RecordedSession) -> None:
        """Use the policies of this session from now on."""
        if self._own_policies is None and session.policies != self._session.policies:
            self._install(session.policies)
        self._session = session

    def cycle(self, snapshot: Snapshot) -> Report:
        """Return mom's report for this snapshot."""
        self._snapshot = snapshot
        return self._engine.cycle(snapshot=snapshot)

    @property
    def memory(self) -> Value:
        """Values that policies remember; None without such values."""
        return None if self._texts is None else self._texts.memory()

    def remember(self, memory: Value) -> None:
        """Set the values that policies remember."""
        if self._texts is not None:
            self._texts.set_memory(memory)

    def is_compared(self, decision: Decision) -> bool:
        """Return whether the evaluator of a recorded decision is part of this replay."""
        if decision.source.line > 0:  # from a policy
            return self._texts is not None
        return decision.source.name not in self.left_out

    def _open(self, folder: Path) -> Engine:
        session = self._session
        plugins = self._deciding_plugins()
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
        raise MomError(f"no recorded plugin can be evaluated here: {reasons or 'no plugin decided anything'}")

    def _deciding_plugins(self) -> dict[str, InstalledThen]:
        installed, left_out = installed_plugins(self._session.configuration)
        self.left_out.update(left_out)
        result: dict[str, InstalledThen] = {}
        for name, plugin in installed.items():
            if not any(hasattr(plugin.plugin_class, hook) for hook in ("mom_evaluate", "mom_act", "mom_problems")):
                continue
            if plugin.plugin_class is RecordPlugin:
                continue  # the recorder would record the replay
            if hasattr(plugin.plugin_class, "mom_hypervisor"):
                self.left_out[name] = "a replay uses no hypervisor"
            elif _needs_results(plugin.plugin_class):
                self.left_out[name] = "it needs the results of its own changes, and a replay makes no changes"
            else:
                result[name] = plugin
        return result

    def _install(self, policies: Mapping[str, str]) -> None:
        if self._texts is None:
            if self._own_policies is not None:
                raise MomError("no plugin of this recording evaluates policies", hint="omit --policy")
            return
        try:
            self._texts.change(policies, who=WHO, replace_all=True)
        except PolicyState.Refused as error:
            raise MomError(f"these policies cannot be replayed: {error}", hint="run `mom policy check` for details") from error


def _needs_results(plugin_class: type) -> bool:
    # A snapshot lacks the results of a plugin's actions.
    asks = [getattr(plugin_class, hook) for hook in _COLLECTING if hasattr(plugin_class, hook)]
    everything = len(asks) == len(_COLLECTING) and all("hypervisor" in inspect.signature(hook).parameters for hook in asks)
    return everything and hasattr(plugin_class, "mom_act")


SOURCES: Final = frozenset({"directory", "file", "shadow"})
"""Settings for the sources of policies. A replay ignores them, because the recording contains the texts."""


@dataclass(frozen=True, slots=True)
class InstalledThen:
    """Recorded plugin: its installed class, and its recorded settings without `SOURCES`."""

    plugin_class: type
    settings: Mapping[str, Value]


def installed_plugins(configuration: Mapping[str, Value]) -> tuple[dict[str, InstalledThen], dict[str, str]]:
    """Return the recorded plugins that are installed, and why the others cannot be used, both keyed by name."""
    recorded = configuration.get("plugins")
    result: dict[str, InstalledThen] = {}
    left_out: dict[str, str] = {}
    for name, settings in recorded.items() if isinstance(recorded, Mapping) else ():
        own = {key: value for key, value in settings.items() if key not in SOURCES} if isinstance(settings, Mapping) else {}
        try:
            result[name] = InstalledThen(load_config({"plugins": {name: own}}).plugins[name].loaded.plugin_class, own)
        except MomError as error:
            left_out[name] = str(error)
    return result, left_out


def guest_rules(configuration: Mapping[str, Value], plugins: Mapping[str, Mapping[str, Value]]) -> dict[str, Value]:
    """Return the recorded section `guests`, restricted to the settings of these plugins."""
    if not plugins:
        return {}
    models = [plugin.loaded.guest_settings_class for plugin in load_config({"plugins": dict(plugins)}).plugins.values()]
    names = {key for model in models if model is not None for key in model.model_fields}
    section = configuration.get("guests")
    rules: dict[str, Value] = {}
    for pattern, settings in section.items() if isinstance(section, Mapping) else ():
        own = {key: value for key, value in settings.items() if key in names} if isinstance(settings, Mapping) else {}
        if own:
            rules[pattern] = own
    return rules
