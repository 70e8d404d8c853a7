"""Constructs plugins, checks their hooks, and sets them up."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cache, partial
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

import pluggy

from mom_core import hookspecs
from mom_core.context import Declarations, PluginContext
from mom_core.errors import MomError, PluginError
from mom_core.hypervisor import Hypervisor, NoHypervisor
from mom_core.model import ControlSpec, Declaration, DefaultPolicy, Derived, FieldSpec, GuestColumn, Scope, Snapshot
from mom_core.plugins.bounded import located
from mom_core.plugins.discovery import LoadedPlugin, suggestion
from mom_core.plugins.invoker import PluginWorker
from mom_core.plugins.secrets import SecretMask
from mom_core.units import Unit

if TYPE_CHECKING:
    from mom_core.config import Config, ConfiguredPlugin

LOG = logging.getLogger("mom.plugins")

Spec = TypeVar("Spec", FieldSpec, ControlSpec, DefaultPolicy, GuestColumn)

Hooks: TypeAlias = "Mapping[str, Callable[[Mapping[str, object]], object]]"
"""Hooks keyed by name; each takes a mapping of all arguments."""

NOTHING_DECLARED = Declarations()

LOOKING: Final = PluginContext(serves=False)
"""Context of commands that only inspect: no listening sockets, no engine."""

SETUP_SECONDS = 10.0
"""Time limit of a constructor or `mom_setup`."""


USERS_SHARE: Final = 0.75
"""Plugins without a hypervisor must end within this share of the teardown time. They may use another plugin's hypervisor."""


@dataclass(slots=True, eq=False)
class Plugin:
    """Plugin in use: instance, thread, and hooks keyed by name."""

    configured: ConfiguredPlugin
    context: PluginContext
    worker: PluginWorker
    instance: object = None
    hooks: Hooks = field(default_factory=dict)
    declared: tuple[Declaration, ...] = ()
    controls: Mapping[str, ControlSpec] = field(default_factory=dict)
    services: Mapping[object, object] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name in YAML."""
        return self.configured.name

    def declared_as(self, kind: type[Spec]) -> list[Spec]:
        """Return the plugin's declarations of one kind."""
        return [declaration for declaration in self.declared if isinstance(declaration, kind)]

    def units(self, scope: Scope) -> Mapping[str, Unit]:
        """Return the units of the fields that the plugin collects."""
        return {spec.name: spec.unit for spec in self.declared_as(FieldSpec) if spec.scope is scope and spec.collected}

    def error(self, message: str, hint: str | None = None) -> PluginError:
        """Return an error that names this plugin."""
        loaded = self.configured.loaded
        if hint is None:
            hint = f"remove {self.name} from the configuration, or ask the authors of {loaded.distribution}"
        text = f"plugin {self.name} of {loaded.distribution} {loaded.version}: {message}"
        return PluginError(text, plugin=self.name, distribution=loaded.distribution, hint=hint)

    def work(self, hook: str, **arguments: object) -> Callable[[], object]:
        """Return a function that calls the hook; run it in the plugin's thread."""
        function = self.hooks[hook]
        return lambda: materialize(function(arguments))


def materialize(result: object) -> object:
    """Turn generators into lists in the plugin's thread, because iteration runs plugin code. Return other results unchanged."""
    if isinstance(result, Iterable) and not isinstance(result, (str, bytes, list, tuple, Mapping, Hypervisor)):
        return list(result)
    return result


@dataclass(slots=True)
class PluginSet:
    """All enabled plugins, in file order."""

    plugins: tuple[Plugin, ...]
    manager: HookManager
    declarations: Declarations
    offers: Mapping[object, Sequence[Any]]
    hypervisor: Hypervisor
    hypervisor_owner: Plugin | None

    def having(self, hook: str) -> list[Plugin]:
        """Return the plugins that implement a hook: those with `tryfirst` first, then in file order."""
        named = {plugin.name: plugin for plugin in self.plugins}
        caller = getattr(self.manager.hook, hook, None)  # None: a hook for commands that no plugin implements
        return [] if caller is None else [named[implementation.plugin_name] for implementation in reversed(caller.get_hookimpls())]

    def owner(self, control: str) -> Plugin | None:
        """Return the plugin that declared a control."""
        name = self.declarations.control_owners.get(control)
        return next((plugin for plugin in self.plugins if plugin.name == name), None)

    def close(self, seconds: float) -> list[str]:
        """Call `close_plugins` on all plugins."""
        return close_plugins(self.plugins, seconds)


def close_plugins(plugins: Iterable[Plugin], seconds: float) -> list[str]:
    """Tear down plugins, those with a hypervisor last. Return the names of late plugins."""
    begun, until, every = time.monotonic(), time.monotonic() + seconds, list(plugins)
    _tear_down([plugin for plugin in every if "mom_hypervisor" not in plugin.hooks], begun + USERS_SHARE * seconds)
    _tear_down([plugin for plugin in every if "mom_hypervisor" in plugin.hooks], until)
    return [plugin.name for plugin in every if not plugin.worker.close(until)]


def stop_writing_state(plugins: Iterable[Plugin]) -> None:
    """Keep late calls of these plugins from overwriting their successors' state files."""
    for plugin in plugins:
        for file in plugin.context.state_files:
            file.left = True


def _tear_down(plugins: Iterable[Plugin], until: float) -> None:
    begun = []
    for plugin in plugins:
        plugin.worker.reset_failures()
        if "mom_teardown" in plugin.hooks:
            work = plugin.work("mom_teardown")
            call = plugin.worker.begin("mom_teardown", work)
            if call is None:  # it has hung, and may hold sockets and locks that its successor needs
                plugin.worker.begin_when_free("mom_teardown", work)
            begun.append((plugin, call))
    for plugin, call in begun:
        error = plugin.worker.finish(call, until=until).error if call is not None else None
        if error is not None:
            plugin.worker.log_failure("mom_teardown", error)
            LOG.warning("plugin %s: mom_teardown: %s", plugin.name, located(error))


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """Plugins ready to take over: call `commits`, use `plugins`, then close `left_over`."""

    plugins: PluginSet
    left_over: tuple[Plugin, ...]
    commits: tuple[Callable[[], None], ...]


def build_plugins(
    config: Config,
    template: PluginContext = LOOKING,
    stopping: threading.Event | None = None,
    previous: PluginSet | None = None,
    declared: Declarations = NOTHING_DECLARED,
    *,
    threaded: bool = True,
) -> Rebuilt:
    """Construct and set up the plugins of a configuration. If this raises `MomError`, nothing has changed.

    :param previous: plugins in use. Plugins whose class and settings are unchanged stay, and prepare their reload
    """
    kept = {} if previous is None else {p.name: p for p in previous.plugins if _same(p, config)}
    left_over = () if previous is None else tuple(plugin for plugin in previous.plugins if plugin.name not in kept)
    for plugin in left_over:
        if plugin.worker.hung_in == "mom_write":
            hint = "find out what the call waits for, or restart mom"
            raise plugin.error("a call of mom_write has not returned, and may still change values: mom cannot replace the plugin now", hint)
    before = [(plugin.context, copy(plugin.context)) for plugin in kept.values()]
    new = partial(_new, config=config, template=template, stopping=stopping, threaded=threaded)
    plugins = [kept.get(name) or new(configured) for name, configured in config.plugins.items()]
    fresh = [plugin for plugin in plugins if plugin.name not in kept]
    errors: list[PluginError] = []
    commits: list[Callable[[], None]] = []
    manager = HookManager()
    try:
        for plugin in fresh:
            guarded(errors, plugin, _construct)
        raise_all(errors)
        for plugin in reversed(plugins):  # pluggy calls the last registered plugin first
            guarded(errors, plugin, partial(_register, manager))
        raise_all(errors[::-1])
        for plugin in fresh:
            guarded(errors, plugin, _declare)
        raise_all(errors)
        declarations = joined(plugins, errors, declared)
        raise_all(errors)
        offers = _services(plugins)
        _put_in_force(plugins, config, declarations, offers)
        for plugin in fresh:
            guarded(errors, plugin, _set_up)
        for plugin in kept.values():
            guarded(errors, plugin, partial(_prepare, commits))
        raise_all(errors)
        hypervisor, owner = _find_hypervisor(plugins)
        _refuse_another_hypervisor(hypervisor, previous)
    except BaseException:
        stop_writing_state(fresh)
        close_plugins(fresh, 1.0)
        for context, original in before:
            _update_in_place(context, original)
        raise
    return Rebuilt(PluginSet(tuple(plugins), manager, declarations, offers, hypervisor, owner), left_over, tuple(commits))


def _put_in_force(plugins: Iterable[Plugin], config: Config, declarations: Declarations, offers: Mapping[object, tuple[Any, ...]]) -> None:
    configuration = cache(config.in_force)  # called in each cycle, and slow with many guest patterns
    new = PluginContext(declarations=declarations, offers=offers, interval=config.interval, configuration=configuration)
    for plugin in plugins:
        _update_in_place(plugin.context, replace(new, guest_settings=config.guest_settings(plugin.name)))


def _update_in_place(context: PluginContext, other: PluginContext) -> None:
    # Plugins keep the context object at a reload.
    context.declarations, context.offers, context.interval = other.declarations, other.offers, other.interval
    context.guest_settings, context.configuration = other.guest_settings, other.configuration


@contextmanager
def constructed(config: Config, errors: list[PluginError]) -> Iterator[list[Plugin]]:
    """Yield plugins without setting them up; append faults to `errors`."""
    plugins = [_new(configured, config) for configured in config.plugins.values()]
    steps = (_construct, partial(_register, HookManager()), _declare)
    try:
        yield [plugin for plugin in plugins if all(guarded(errors, plugin, step) for step in steps)]
    finally:
        for plugin in plugins:
            plugin.worker.close(0.0)


class HookManager(pluggy.PluginManager):
    """pluggy's manager: it checks and orders implementations; mom calls them itself."""

    def __init__(self, specs: ModuleType = hookspecs) -> None:
        super().__init__(hookspecs.PROJECT)
        self.add_hookspecs(specs)
        self._specs = specs.__name__

    def register(self, plugin: object, name: str | None = None) -> str | None:
        """Register a plugin. Raise `MomError` if a hook is invalid."""
        try:
            return super().register(plugin, name)
        except pluggy.PluginValidationError as error:
            raise MomError(" ".join(str(error).split()), hint=f"compare its hooks with {self._specs}") from error


def register(manager: HookManager, instance: object, name: str) -> Hooks:
    """Register a plugin and return its hooks. Raise `MomError` if a hook is invalid."""
    manager.register(instance, name)
    hooks: dict[str, Callable[[Mapping[str, object]], object]] = {}
    for caller in manager.get_hookcallers(instance) or ():
        (implementation,) = (candidate for candidate in caller.get_hookimpls() if candidate.plugin is instance)
        if not caller.has_spec() and caller.name not in hookspecs.OF_VERBS:
            meant = suggestion(caller.name, [*vars(hookspecs), *hookspecs.OF_VERBS])
            raise MomError(f"there is no hook {caller.name}", hint=f"did you mean {meant}?" if meant else "see mom_core.hookspecs")
        hooks[caller.name] = partial(_call, implementation)
    unmarked = [name for name in dir(type(instance)) if name.startswith("mom_") and name not in hooks]
    if unmarked:
        raise MomError(f"{unmarked[0]} is not marked as a hook", hint="put @hookimpl above it")
    return hooks


def _call(implementation: pluggy.HookImpl, arguments: Mapping[str, object]) -> object:
    return implementation.function(*[arguments[name] for name in implementation.argnames])


def _same(plugin: Plugin, config: Config) -> bool:
    new = config.plugins.get(plugin.name)
    context = plugin.context
    return (
        new is not None
        and new.loaded.plugin_class is plugin.configured.loaded.plugin_class
        and new.settings == plugin.configured.settings
        and (context.root, context.state_directory, context.run_directory) == (config.root, config.state_directory, config.run_directory)
    )


def _new(
    configured: ConfiguredPlugin,
    config: Config,
    template: PluginContext = LOOKING,
    stopping: threading.Event | None = None,
    *,
    threaded: bool = True,
) -> Plugin:
    context = replace(
        template,
        name=configured.name,
        **{name: getattr(config, name) for name in ("root", "state_directory", "run_directory", "interval")},
        guest_settings=config.guest_settings(configured.name),
        configuration=config.in_force,
        state_files=[],
    )
    hide = SecretMask([configured.settings])
    worker = PluginWorker(configured.name, configured.settings.deadline, stopping, hide, template.monotonic, threaded=threaded)
    return Plugin(configured, context, worker)


def guarded(errors: list[PluginError], plugin: Plugin, step: Callable[[Plugin], None]) -> bool:
    """Run a step. Return whether it succeeded; if not, append its error."""
    try:
        step(plugin)
    except PluginError as error:
        errors.append(error)
        return False
    return True


def raise_all(errors: list[PluginError]) -> None:
    """Raise the collected errors, if any."""
    if errors:
        raise PluginError.of(errors)


def called(plugin: Plugin, hook: str, work: Callable[[], object], what: str, seconds: float) -> Any:
    """Call a plugin; raise any failure as a `PluginError`."""
    try:
        return plugin.worker.call(hook, work, seconds, asked=True)
    except MomError as error:
        raise plugin.error(f"{what}: {error.message}", error.hint) from error
    except BaseException as error:  # a plugin may raise anything
        LOG.debug("plugin %s: %s", plugin.name, what, exc_info=error)
        raise plugin.error(f"{what}: {located(error)}") from error


def _construct(plugin: Plugin) -> None:
    make = partial(plugin.configured.loaded.plugin_class, plugin.configured.settings, plugin.context)
    plugin.instance = called(plugin, "constructor", make, "its constructor failed", SETUP_SECONDS)


def _register(manager: HookManager, plugin: Plugin) -> None:
    try:
        plugin.hooks = register(manager, plugin.instance, plugin.name)
    except MomError as error:
        raise plugin.error(error.message, error.hint) from error


def _declare(plugin: Plugin) -> None:
    if "mom_declare" in plugin.hooks:
        answer = called(plugin, "mom_declare", plugin.work("mom_declare"), "mom_declare failed", plugin.worker.deadline)
        plugin.declared = tuple(answer) if isinstance(answer, Iterable) else ()
    controls = plugin.declared_as(ControlSpec)
    plugin.controls = {spec.name: spec for spec in controls}
    if len(plugin.controls) < len(controls):
        raise plugin.error("mom_declare declares a control twice")
    if controls and not {"mom_read", "mom_write"} <= plugin.hooks.keys():
        raise plugin.error(
            "it declares controls but lacks mom_read or mom_write", "mom must be able to read and restore each control: implement both"
        )
    if "mom_services" in plugin.hooks:
        answer = called(plugin, "mom_services", plugin.work("mom_services"), "mom_services failed", plugin.worker.deadline)
        plugin.services = answer if isinstance(answer, Mapping) else {}


def joined(plugins: Iterable[Plugin], errors: list[PluginError], declared: Declarations = NOTHING_DECLARED) -> Declarations:
    """Join the plugins' declarations; those in `declared` win. Append conflicts to `errors`."""
    fields = dict(declared.fields)
    controls = dict(declared.controls)
    owners: dict[str, Plugin] = {}
    policies: dict[str, str] = {}
    field_owners: dict[tuple[Scope, str], str] = {}
    for plugin in plugins:
        for spec in plugin.declared_as(FieldSpec):
            key = (spec.scope, spec.name)
            other = fields.setdefault(key, spec)
            if other.unit is not spec.unit:
                errors.append(plugin.error(f"it declares the field {spec.name} in {spec.unit}, another plugin in {other.unit}"))
            elif spec.collected:
                field_owners.setdefault(key, plugin.name)
                fields[key] = other if other.collected else spec
        for name, control in plugin.controls.items():
            if name in owners:
                message = f"the control {name} is declared by the plugins {owners[name].name} and {plugin.name}"
                errors.append(plugin.error(message, "enable only one of them"))
            owners.setdefault(name, plugin)
            controls.setdefault(name, control)
        for policy in plugin.declared_as(DefaultPolicy):
            policies.setdefault(policy.name, policy.text)
    for name, control in controls.items():
        if (control.scope, control.field) not in fields and name in owners:
            missing = f"no plugin declares the {control.scope} field {control.field}, which holds the present value of {name}"
            errors.append(owners[name].error(missing, "enable the plugin that collects it"))
    explainers = explainers_of(plugin.configured.loaded for plugin in plugins)
    derivations = [partial(_derived, plugin) for plugin in plugins if "mom_derive" in plugin.hooks]
    names = {control: owner.name for control, owner in owners.items()}
    return Declarations(fields, controls, names, policies, field_owners, explainers, derivations, _columns(plugins))


def _columns(plugins: Iterable[Plugin]) -> list[GuestColumn]:
    columns: dict[object, GuestColumn] = {}
    metrics: set[str] = set()
    for plugin in plugins:
        for column in plugin.declared_as(GuestColumn):
            key = (plugin.name, column.name) if column.name == GuestColumn.REMARKS else column.name
            if key not in columns:
                columns[key] = replace(column, metric="" if column.metric in metrics else column.metric)
                metrics.add(column.metric)
    return list(columns.values())


def _derived(plugin: Plugin, snapshot: Snapshot) -> Derived:
    result = plugin.work("mom_derive", snapshot=snapshot, history=())()
    return result if isinstance(result, Derived) else Derived()


def explainers_of(plugins: Iterable[LoadedPlugin]) -> Mapping[str, Callable[[], object]]:
    """Return factories of explainers, keyed by plugin."""
    return {plugin.name: make for plugin in plugins if (make := getattr(plugin.plugin_class, "mom_explainer", None)) is not None}


def _set_up(plugin: Plugin) -> None:
    if "mom_setup" in plugin.hooks:
        seconds = max(SETUP_SECONDS, plugin.worker.deadline)
        called(plugin, "mom_setup", plugin.work("mom_setup", context=plugin.context), "mom_setup failed", seconds)


def _prepare(commits: list[Callable[[], None]], plugin: Plugin) -> None:
    if "mom_reload" in plugin.hooks:
        commit = called(plugin, "mom_reload", plugin.work("mom_reload"), "mom_reload failed", SETUP_SECONDS)
        if callable(commit):
            commits.append(partial(_commit, plugin, commit))


def _commit(plugin: Plugin, commit: Callable[[], object]) -> None:
    try:
        called(plugin, "mom_reload", commit, "the function that mom_reload returned failed", plugin.worker.deadline)
    except PluginError as error:  # it is too late to refuse the reload
        LOG.error("%s", error)


def _services(plugins: Iterable[Plugin]) -> dict[object, tuple[Any, ...]]:
    services: dict[object, tuple[Any, ...]] = {}
    for plugin in plugins:
        for kind, offer in plugin.services.items():
            services[kind] = (*services.get(kind, ()), offer)
    return services


def _refuse_another_hypervisor(hypervisor: Hypervisor, previous: PluginSet | None) -> None:
    # mom could not restore guests that the new hypervisor does not list.
    if previous is not None and hypervisor.uri != previous.hypervisor.uri:
        message = f"the hypervisor cannot change from {previous.hypervisor.uri} to {hypervisor.uri} while mom is running"
        raise MomError(message, hint="restart mom to change it")


def _find_hypervisor(plugins: Iterable[Plugin]) -> tuple[Hypervisor, Plugin | None]:
    for plugin in plugins:
        if "mom_hypervisor" in plugin.hooks:
            hypervisor = called(plugin, "mom_hypervisor", plugin.work("mom_hypervisor"), "mom_hypervisor failed", SETUP_SECONDS)
            if isinstance(hypervisor, Hypervisor):
                return hypervisor, plugin
            if hypervisor is not None:
                raise plugin.error(f"mom_hypervisor returned a {type(hypervisor).__name__} without `uri` or `guests()`")
    return NoHypervisor(), None
