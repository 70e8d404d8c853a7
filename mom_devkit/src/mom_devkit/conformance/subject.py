"""Plugin under test, between two companion plugins."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import ClassVar, NamedTuple, TypeVar, cast

from mom_core import (
    Config,
    ControlSpec,
    Decision,
    DefaultPolicy,
    Engine,
    FieldSpec,
    Finding,
    GuestColumn,
    Hypervisor,
    PluginContext,
    PluginError,
    PluginSettings,
    Report,
    Scope,
    Severity,
    Value,
    hookimpl,
)
from mom_core.plugins.registry import Plugin, constructed, raise_all
from mom_devkit.hypervisors import USUAL_UNITS, FakeHypervisor
from mom_devkit.runs import config_of, plugin_settings

Spec = TypeVar("Spec", FieldSpec, ControlSpec, DefaultPolicy, GuestColumn)


class Bench(NamedTuple):
    """Test host: its files, its hypervisor, and a folder for mom's state."""

    root: Path
    hypervisor: Hypervisor
    folder: Path


@dataclass(frozen=True)
class ExaminedPlugin:
    """Plugin class under test.

    :param root: folder with the host's files, copied before each use
    :param values: values to try, keyed by control, if bounds do not yield valid values
    :param may_touch: whether the checks may change the guests of the plugin's own hypervisor
    """

    plugin_class: type
    name: str
    root: Path
    folder: Path
    settings: Mapping[str, object] = field(default_factory=dict)
    values: Mapping[str, Sequence[Value]] = field(default_factory=dict)
    hypervisor: Callable[[], Hypervisor] | None = None
    may_touch: bool = False

    @property
    def settings_class(self) -> type[PluginSettings]:
        """Return the class of the plugin's settings."""
        return cast("type[PluginSettings]", getattr(self.plugin_class, "Settings", PluginSettings))

    def read_settings(self, settings: Mapping[str, object] | None = None) -> PluginSettings:
        """Validate these settings; if None, the test's. Raise `ConfigError` if they are invalid."""
        return plugin_settings(self.settings if settings is None else settings, self.name, self.settings_class)

    def new_folder(self, purpose: str) -> Path:
        """Return a new empty folder."""
        return Path(tempfile.mkdtemp(prefix=f"{purpose}-", dir=self.folder))

    def new_bench(self) -> Bench:
        """Return a fresh copy of the test host."""
        root: Path = shutil.copytree(self.root, self.new_folder("host") / "root", symlinks=True)
        return Bench(root, FakeHypervisor() if self.hypervisor is None else self.hypervisor(), self.new_folder("life"))

    def declared_as(self, kind: type[Spec]) -> list[Spec]:
        """Return declarations of one kind, or raise `PluginError`."""
        return [spec for spec in self.constructed.declared if isinstance(spec, kind)]

    @cached_property
    def constructed(self) -> Plugin:
        """Return the plugin without setup, for its declarations and services. Raise `PluginError` if it cannot declare."""
        config = config_of(self.new_folder("declare"), {self.name: self.plugin_class}, {self.name: self.settings}, root=self.root)
        errors: list[PluginError] = []
        with constructed(config, errors) as plugins:
            raise_all(errors)
            return plugins[0]

    def fault(self, message: str, cure: str = "") -> Finding:
        """Return a finding that must be fixed."""
        return Finding(Severity.ERROR, self.name, message, cure)

    def remark(self, message: str, cure: str = "") -> Finding:
        """Return a finding to consider, or a note that a check was impossible."""
        return Finding(Severity.WARNING, self.name, message, cure)


DECIDER, TEST_HOST = "conformance_decider", "conformance_host"


@dataclass(slots=True)
class Life:
    """Plugin in a real engine, one cycle at a time."""

    engine: Engine
    plugin: str
    decisions: list[Decision]

    def cycle(self, *decisions: Decision) -> Report:
        """Run a cycle. These decisions precede those of the plugin under test."""
        self.decisions[:] = decisions
        try:
            return self.engine.cycle()
        finally:
            self.decisions.clear()

    @property
    def subject(self) -> Plugin:
        """Return the engine's record of the plugin under test."""
        return next(plugin for plugin in self.engine.plugins.plugins if plugin.name == self.plugin)


@contextmanager
def alive(
    subject: ExaminedPlugin,
    bench: Bench | None = None,
    *,
    mode: str = "enforce",
    put_back: bool = True,
    settings: Mapping[str, object] | None = None,
) -> Iterator[Life]:
    """Yield the plugin in a running engine. Raise `MomError` if the setup fails.

    :param bench: test host; None for a new one
    :param put_back: False to leave all changes, as after a crash
    :param settings: settings of the plugin; None for the test's
    """
    decisions: list[Decision] = []
    if hasattr(subject.plugin_class, "mom_hypervisor") and not subject.may_touch:
        mode = "observe"  # its guests may be real
    engine = Engine(configured(subject, bench or subject.new_bench(), decisions, mode, settings), serve=subject.may_touch)
    engine.open()
    try:
        yield Life(engine, subject.name, decisions)
    finally:
        engine.close(put_back=put_back)


def configured(
    subject: ExaminedPlugin, bench: Bench, decisions: list[Decision], mode: str = "enforce", settings: Mapping[str, object] | None = None
) -> Config:
    """Return a configuration with the plugin between two companions. The first makes decisions, the last provides missing fields."""
    declared = {(spec.scope, spec.name) for spec in subject.declared_as(FieldSpec) if spec.collected}
    needed = [FieldSpec(name, unit, Scope.GUEST, "of the test host") for name, unit in USUAL_UNITS.items()]
    needed += [FieldSpec(spec.field, spec.unit, spec.scope, "of the test host") for spec in subject.declared_as(ControlSpec)]
    missing = {(spec.scope, spec.name): spec for spec in needed if (spec.scope, spec.name) not in declared}
    plugins = {
        DECIDER: type("Decider", (_Decider,), {"decisions": decisions}),
        subject.name: subject.plugin_class,
        TEST_HOST: type("TestHost", (_TestHost,), {"hypervisor": bench.hypervisor, "fields": tuple(missing.values())}),
    }
    sections = {subject.name: subject.settings if settings is None else settings}
    return config_of(bench.folder, plugins, sections, mode=mode, root=bench.root, stop_timeout=10.0)


class _Companion:
    def __init__(self, settings: PluginSettings, context: PluginContext) -> None:
        pass


class _Decider(_Companion):
    decisions: ClassVar[Sequence[Decision]]

    @hookimpl
    def mom_evaluate(self) -> Sequence[Decision]:
        return tuple(self.decisions)


class _TestHost(_Companion):
    hypervisor: ClassVar[Hypervisor]
    fields: ClassVar[Sequence[FieldSpec]]

    @hookimpl
    def mom_hypervisor(self) -> Hypervisor:
        return self.hypervisor

    @hookimpl
    def mom_declare(self) -> Sequence[FieldSpec]:
        return self.fields

    @hookimpl
    def mom_collect_guests(self) -> Mapping[str, Mapping[str, Value]]:
        names = {spec.name for spec in self.fields if spec.scope is Scope.GUEST}
        guests = self.hypervisor.known.values() if isinstance(self.hypervisor, FakeHypervisor) else ()
        return {fake.id: {name: value for name, value in fake.collected().items() if name in names} for fake in guests}
