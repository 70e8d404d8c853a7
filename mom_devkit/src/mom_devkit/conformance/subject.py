"""What is checked, and its life on a test host: the real engine, with the plugin between two companions that stand in for all else."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mom_cli.declared import declared_by
from mom_core import (
    Config,
    ControlSpec,
    Decision,
    Engine,
    FieldSpec,
    Finding,
    Guest,
    Hypervisor,
    Outcome,
    PluginContext,
    PluginSettings,
    Report,
    Scope,
    Severity,
    Unit,
    Value,
    hookimpl,
)
from mom_core.config.document import mapping_document
from mom_core.config.loader import plugin_settings
from mom_core.plugins.registry import Plugin
from mom_devkit.engines import config_of
from mom_devkit.hosts import copy_host
from mom_devkit.hypervisors import FakeHypervisor
from mom_devkit.projects import Project

USUAL_UNITS: Mapping[str, Unit] = {
    "balloon_cur": Unit.KIB,
    "balloon_max": Unit.KIB,
    "balloon_min": Unit.KIB,
    "mem_available": Unit.KIB,
    "mem_unused": Unit.KIB,
    "mem_usable": Unit.KIB,
    "swap_in": Unit.PAGES_PER_SECOND,
    "swap_out": Unit.PAGES_PER_SECOND,
    "stats_age": Unit.SECONDS,
}
"""The fields that the test host has for its guests, unless the plugin under test collects them itself."""


@dataclass(frozen=True, slots=True)
class ExaminedPlugin:
    """A plugin class under test.

    `root` is a host of files, copied before each use; `values` are values that make sense for its controls, where bounds do not tell.
    `may_touch` allows setting its controls where the plugin brings a hypervisor of its own. `project` is its source tree or distribution.
    """

    plugin_class: type
    name: str
    root: Path
    folder: Path
    settings: Mapping[str, object] = field(default_factory=dict)
    values: Mapping[str, Sequence[Value]] = field(default_factory=dict)
    hypervisor: Callable[[], Hypervisor] | None = None
    may_touch: bool = False
    project: Project | None = None

    @property
    def settings_class(self) -> type[PluginSettings]:
        """Its own settings, or those that every plugin has."""
        found: type[PluginSettings] = getattr(self.plugin_class, "Settings", PluginSettings)
        return found

    def read_settings(self, settings: Mapping[str, object] | None = None) -> PluginSettings:
        """These settings, or the subject's own, as a configuration would have them. Raises `ConfigError`."""
        said = mapping_document(self.settings if settings is None else settings, f"settings of {self.name}")
        return plugin_settings(said, self.name, self.settings_class)

    def new_folder(self, purpose: str) -> Path:
        """An empty folder of its own."""
        return Path(tempfile.mkdtemp(prefix=f"{purpose}-", dir=self.folder))

    def new_host(self) -> Path:
        """A fresh copy of the test host."""
        return copy_host(self.root, self.new_folder("host") / "root")

    def fresh_hypervisor(self) -> Hypervisor:
        """What stands in where the plugin brings no hypervisor."""
        return FakeHypervisor() if self.hypervisor is None else self.hypervisor()

    def declared(self) -> tuple[tuple[FieldSpec, ...], tuple[ControlSpec, ...]]:
        """What it declares. Raises `PluginError`."""
        config = config_of(self.new_folder("declare"), {self.name: self.plugin_class}, {self.name: self.settings}, root=self.root)
        return declared_by(config)[self.name]

    def fault(self, message: str, cure: str = "") -> Finding:
        """Something that must be put right."""
        return Finding(Severity.ERROR, self.name, message, cure)

    def remark(self, message: str, cure: str = "") -> Finding:
        """Something to think about, or that could not be checked."""
        return Finding(Severity.WARNING, self.name, message, cure)


DECIDER, TEST_HOST = "conformance_decider", "conformance_host"


@dataclass(slots=True)
class Life:
    """The plugin at work: an engine of real parts, one cycle at a time."""

    engine: Engine
    plugin: str
    hypervisor: Hypervisor
    wanted: list[Decision] = field(default_factory=list)

    def cycle(self, *wanted: Decision) -> Report:
        """One cycle in which these decisions are made, before those of the plugin itself."""
        self.wanted[:] = wanted
        try:
            return self.engine.cycle()
        finally:
            self.wanted.clear()

    @property
    def subject(self) -> Plugin:
        """The plugin under test, as the engine has it."""
        return next(plugin for plugin in self.engine.plugins.plugins if plugin.name == self.plugin)


@contextmanager
def alive(
    subject: ExaminedPlugin,
    *,
    root: Path | None = None,
    folder: Path | None = None,
    hypervisor: Hypervisor | None = None,
    mode: str = "enforce",
    put_back: bool = True,
    settings: Mapping[str, object] | None = None,
) -> Iterator[Life]:
    """The plugin set up, and torn down at the end. Raises `MomError` when it cannot be set up.

    :param root: the host of files that it sees; a fresh copy of the test host when left out
    :param folder: where its ledger is; another one when left out
    :param put_back: at the end, put everything back; otherwise leave it as after a crash
    :param settings: instead of the subject's own
    """
    stand_in = hypervisor or subject.fresh_hypervisor()
    wanted: list[Decision] = []
    if hasattr(subject.plugin_class, "mom_hypervisor") and not subject.may_touch:
        mode = "observe"  # its guests may be real ones
    config = configured(subject, wanted, stand_in, root or subject.new_host(), folder or subject.new_folder("life"), mode, settings)
    engine = Engine(config, serve=subject.may_touch)
    engine.open()
    try:
        yield Life(engine, subject.name, stand_in, wanted)
    finally:
        engine.close(put_back=put_back)


def configured(
    subject: ExaminedPlugin,
    wanted: list[Decision],
    hypervisor: Hypervisor,
    root: Path,
    folder: Path,
    mode: str = "enforce",
    settings: Mapping[str, object] | None = None,
) -> Config:
    """A configuration of the plugin between its companions: first who decides what a check wants, last who has all that is missing."""
    fields, controls = subject.declared()
    plugins = {
        DECIDER: _decider(wanted),
        subject.name: subject.plugin_class,
        TEST_HOST: _test_host(hypervisor, _missing_fields(fields, controls)),
    }
    said = {subject.name: subject.settings if settings is None else settings}
    config = config_of(folder, plugins, said, mode=mode, root=root)
    return dataclasses.replace(config, stop_timeout=10.0)


def _missing_fields(fields: Sequence[FieldSpec], controls: Sequence[ControlSpec]) -> tuple[FieldSpec, ...]:
    declared = {(spec.scope, spec.name) for spec in fields}
    usual = [FieldSpec(name, unit, Scope.GUEST, "of the test host") for name, unit in USUAL_UNITS.items()]
    needed = [FieldSpec(spec.field, spec.unit, spec.scope, "of the test host") for spec in controls]
    made: dict[tuple[Scope, str], FieldSpec] = {}
    for spec in (*usual, *needed):
        if (spec.scope, spec.name) not in declared:
            made.setdefault((spec.scope, spec.name), spec)
    return tuple(made.values())


def _decider(wanted: list[Decision]) -> type:
    class Decider:
        """Decides what a check wants."""

        def __init__(self, settings: PluginSettings, context: PluginContext) -> None:
            pass

        @hookimpl
        def mom_evaluate(self) -> Sequence[Decision]:
            """What is wanted in this cycle."""
            return tuple(wanted)

    return Decider


def _test_host(hypervisor: Hypervisor, fields: Sequence[FieldSpec]) -> type:
    names = {spec.name for spec in fields if spec.scope is Scope.GUEST}

    class TestHost:
        """The hypervisor where the plugin has none, and the usual fields of its guests."""

        def __init__(self, settings: PluginSettings, context: PluginContext) -> None:
            pass

        @hookimpl
        def mom_hypervisor(self) -> Hypervisor:
            """The stand-in."""
            return hypervisor

        @hookimpl
        def mom_fields(self) -> Sequence[FieldSpec]:
            """What the plugin under test does not declare itself."""
            return fields

        @hookimpl
        def mom_collect_guests(self, guests: Sequence[Guest]) -> Mapping[str, Mapping[str, Value]]:
            """The usual fields, of guests that are the stand-in's."""
            if not isinstance(hypervisor, FakeHypervisor):
                return {}
            known = {one.id: one for one in hypervisor.known.values()}
            return {
                guest.id: {name: value for name, value in known[guest.id].collected().items() if name in names}
                for guest in guests
                if guest.id in known
            }

    return TestHost


def outcome_of(outcomes: Sequence[Outcome], decision: Decision) -> Outcome | None:
    """What came of a decision, or of putting back what it changed."""
    for outcome in outcomes:
        if (outcome.decision.entity.id, outcome.decision.control) == (decision.entity.id, decision.control):
            return outcome
    return None
