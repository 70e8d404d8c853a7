"""A plugin under test, and its life on a test host: the real engine, with the plugin between two companions that stand in for all else."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import ClassVar, NamedTuple, TypeVar

from mom_core import (
    Config,
    ControlSpec,
    Decision,
    DefaultPolicy,
    Engine,
    FieldSpec,
    Finding,
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

Spec = TypeVar("Spec", FieldSpec, ControlSpec, DefaultPolicy)


class Bench(NamedTuple):
    """What is there before and after a life of a plugin: a host of files, the hypervisor where the plugin brings none, and where mom keeps
    its ledger."""

    root: Path
    hypervisor: Hypervisor
    folder: Path


@dataclass(frozen=True)
class ExaminedPlugin:
    """A plugin class under test.

    `root` is a host of files, copied before each use; `values` are values that make sense for its controls, where bounds do not tell.
    `may_touch` allows setting its controls where the plugin brings a hypervisor of its own.
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
        """Its own settings, or those that every plugin has."""
        found: type[PluginSettings] = getattr(self.plugin_class, "Settings", PluginSettings)
        return found

    def read_settings(self, settings: Mapping[str, object] | None = None) -> PluginSettings:
        """These settings, or the subject's own, as a configuration would have them. Raises `ConfigError`."""
        return plugin_settings(self.settings if settings is None else settings, self.name, self.settings_class)

    def new_folder(self, purpose: str) -> Path:
        """An empty folder of its own."""
        return Path(tempfile.mkdtemp(prefix=f"{purpose}-", dir=self.folder))

    def new_bench(self) -> Bench:
        """A fresh copy of the test host, with a new hypervisor and an empty ledger."""
        root: Path = shutil.copytree(self.root, self.new_folder("host") / "root", symlinks=True)
        return Bench(root, FakeHypervisor() if self.hypervisor is None else self.hypervisor(), self.new_folder("life"))

    def declared_as(self, kind: type[Spec]) -> list[Spec]:
        """Its declarations of one kind. Raises `PluginError`."""
        return [spec for spec in self.declared if isinstance(spec, kind)]

    @property
    def declared(self) -> Sequence[object]:
        """What its `mom_declare` gives. Raises `PluginError`."""
        return self._stated[0]

    @property
    def offered(self) -> Mapping[object, object]:
        """What its `mom_services` gives. Raises `PluginError`."""
        return self._stated[1]

    @cached_property
    def _stated(self) -> tuple[Sequence[object], Mapping[object, object]]:
        config = config_of(self.new_folder("declare"), {self.name: self.plugin_class}, {self.name: self.settings}, root=self.root)
        errors: list[PluginError] = []
        with constructed(config, errors) as plugins:
            raise_all(errors)
            return plugins[0].declared, plugins[0].services

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
    wanted: list[Decision]

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
    bench: Bench | None = None,
    *,
    mode: str = "enforce",
    put_back: bool = True,
    settings: Mapping[str, object] | None = None,
) -> Iterator[Life]:
    """The plugin set up, and torn down at the end. Raises `MomError` when it cannot be set up.

    :param bench: a new one when left out
    :param put_back: at the end, put everything back; otherwise leave it as after a crash
    :param settings: instead of the subject's own
    """
    wanted: list[Decision] = []
    if hasattr(subject.plugin_class, "mom_hypervisor") and not subject.may_touch:
        mode = "observe"  # its guests may be real ones
    engine = Engine(configured(subject, bench or subject.new_bench(), wanted, mode, settings), serve=subject.may_touch)
    engine.open()
    try:
        yield Life(engine, subject.name, wanted)
    finally:
        engine.close(put_back=put_back)


def configured(
    subject: ExaminedPlugin, bench: Bench, wanted: list[Decision], mode: str = "enforce", settings: Mapping[str, object] | None = None
) -> Config:
    """A configuration of the plugin between its companions: first who decides what a check wants, last who has all that is missing."""
    declared = {(spec.scope, spec.name) for spec in subject.declared_as(FieldSpec) if spec.collected}
    needed = [FieldSpec(name, unit, Scope.GUEST, "of the test host") for name, unit in USUAL_UNITS.items()]
    needed += [FieldSpec(spec.field, spec.unit, spec.scope, "of the test host") for spec in subject.declared_as(ControlSpec)]
    missing = {(spec.scope, spec.name): spec for spec in needed if (spec.scope, spec.name) not in declared}
    plugins = {
        DECIDER: type("Decider", (_Decider,), {"wanted": wanted}),
        subject.name: subject.plugin_class,
        TEST_HOST: type("TestHost", (_TestHost,), {"hypervisor": bench.hypervisor, "fields": tuple(missing.values())}),
    }
    said = {subject.name: subject.settings if settings is None else settings}
    return config_of(bench.folder, plugins, said, mode=mode, root=bench.root, stop_timeout=10.0)


class _Companion:
    def __init__(self, settings: PluginSettings, context: PluginContext) -> None:
        pass


class _Decider(_Companion):
    """Decides what a check wants."""

    wanted: ClassVar[Sequence[Decision]]

    @hookimpl
    def mom_evaluate(self) -> Sequence[Decision]:
        """The decisions of this cycle."""
        return tuple(self.wanted)


class _TestHost(_Companion):
    """The hypervisor where the plugin has none, and the usual fields of its guests."""

    hypervisor: ClassVar[Hypervisor]
    fields: ClassVar[Sequence[FieldSpec]]

    @hookimpl
    def mom_hypervisor(self) -> Hypervisor:
        """The stand-in."""
        return self.hypervisor

    @hookimpl
    def mom_declare(self) -> Sequence[FieldSpec]:
        """Fields that the plugin under test does not declare itself."""
        return self.fields

    @hookimpl
    def mom_collect_guests(self) -> Mapping[str, Mapping[str, Value]]:
        """The usual fields, of guests that are the stand-in's."""
        names = {spec.name for spec in self.fields if spec.scope is Scope.GUEST}
        guests = self.hypervisor.known.values() if isinstance(self.hypervisor, FakeHypervisor) else ()
        return {one.id: {name: value for name, value in one.collected().items() if name in names} for one in guests}
