"""Constructs plugins, checks their hooks, and sets them up."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, partial
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

import pluggy

from mom_core import hookspecs
from mom_core.context import Declarations, PluginContext
from mom_core.errors import MomError, PluginError
from mom_core.hypervisor import Hypervisor, NoHypervisor
from mom_core.model import ControlSpec, Declaration, DefaultPolicy, FieldSpec, GuestColumn, Scope, Snapshot
from mom_core.plugins.bounded import located
from mom_core.plugins.discovery import LoadedPlugin
from mom_core.plugins.invoker import PluginWorker
from mom_core.plugins.secrets import SecretMask

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

    def error(self, message: str, hint: str = "") -> PluginError:
        """Return an error that names this plugin."""
        loaded = self.configured.loaded
        hint = hint or f"remove {self.name} from the configuration, or ask the authors of {loaded.distribution}"
        text = f"plugin {self.name} of {loaded.distribution} {loaded.version}: {message}"
        return PluginError(text, plugin=self.name, distribution=loaded.distribution, hint=hint)

    def work(self, hook: str, **arguments: object) -> Callable[[], object]:
        """Return a function that calls the hook; run it in the plugin's thread."""
        function = self.hooks[hook]
        return lambda: materialize(function(arguments))

    def call(self, hook: str, seconds: float = 0.0, **arguments: object) -> Any:
        """Return a hook's result; None without the hook. Raise any failure as a `PluginError`.

        :param seconds: time limit, if longer than the plugin's deadline
        """
        return self.run(hook, self.work(hook, **arguments), seconds) if hook in self.hooks else None

    def run(self, what: str, work: Callable[[], object], seconds: float = 0.0) -> Any:
        """Do work in the plugin's thread. Raise any failure as a `PluginError`."""
        try:
            return self.worker.call(what, work, max(seconds, self.worker.deadline), counts=False)
        except MomError as error:
            raise self.error(f"{what} failed: {error.message}", error.hint) from error
        except BaseException as error:  # a plugin may raise anything
            LOG.debug("plugin %s: %s", self.name, what, exc_info=error)
            raise self.error(f"{what} failed: {located(error)}") from error


def materialize(result: object) -> object:
    """Turn generators into lists in the plugin's thread, because iteration runs plugin code. Return other results unchanged."""
    if isinstance(result, Iterable) and not isinstance(result, (str, bytes, list, tuple, Mapping, Hypervisor)):
        return list(result)
    return result


@dataclass(slots=True)
class PluginSet:
    """All enabled plugins, in file order. After a reload, call `commits` to put the files of unchanged plugins in force."""

    config: Config
    plugins: tuple[Plugin, ...]
    manager: pluggy.PluginManager
    declarations: Declarations
    offers: Mapping[object, Sequence[Any]]
    hypervisor: Hypervisor = field(default_factory=NoHypervisor)
    hypervisor_owner: Plugin | None = None
    commits: list[Callable[[], None]] = field(default_factory=list)

    def having(self, hook: str) -> list[Plugin]:
        """Return the plugins that implement a hook: those with `tryfirst` first, then in file order."""
        named = {plugin.name: plugin for plugin in self.plugins}
        caller = getattr(self.manager.hook, hook, None)  # None: a hook for commands that no plugin implements
        return [] if caller is None else [named[implementation.plugin_name] for implementation in reversed(caller.get_hookimpls())]

    def owner(self, control: str) -> Plugin | None:
        """Return the plugin that declared a control."""
        name = self.declarations.control_owners.get(control)
        return next((plugin for plugin in self.plugins if plugin.name == name), None)

    def close(self, seconds: float) -> None:
        """Call `close_plugins` on all plugins."""
        close_plugins(self.plugins, seconds)


def close_plugins(plugins: Iterable[Plugin], seconds: float) -> None:
    """Tear down plugins, those with a hypervisor last. Log the names of late plugins."""
    begun, until, every = time.monotonic(), time.monotonic() + seconds, list(plugins)
    _tear_down([plugin for plugin in every if "mom_hypervisor" not in plugin.hooks], begun + USERS_SHARE * seconds)
    _tear_down([plugin for plugin in every if "mom_hypervisor" in plugin.hooks], until)
    for plugin in every:
        if not plugin.worker.close(until):
            LOG.warning("plugin %s did not end in time; mom no longer waits for it", plugin.name)


def stop_writing_state(plugins: Iterable[Plugin]) -> None:
    """Keep late calls of these plugins from overwriting their successors' state files."""
    for plugin in plugins:
        for file in plugin.context.state_files:
            file.left = True


def _tear_down(plugins: Iterable[Plugin], until: float) -> None:
    begun = []
    for plugin in plugins:
        if "mom_teardown" in plugin.hooks:
            work = plugin.work("mom_teardown")
            call = plugin.worker.begin("mom_teardown", work, counts=False)
            if call is not None:
                begun.append((plugin, call))
            else:  # it has hung, and may hold sockets and locks that its successor needs
                plugin.worker.begin_when_free("mom_teardown", work)
    for plugin, call in begun:
        error = plugin.worker.finish(call, until=until).error
        if error is not None:
            LOG.warning("plugin %s: mom_teardown: %s", plugin.name, located(error))


def build_plugins(
    config: Config,
    template: PluginContext = LOOKING,
    stopping: threading.Event | None = None,
    previous: PluginSet | None = None,
    declared: Declarations = NOTHING_DECLARED,
    *,
    threaded: bool = True,
) -> PluginSet:
    """Construct and set up the plugins of a configuration. If this raises `MomError`, nothing has changed.

    :param previous: plugins in use. Plugins whose class and settings are unchanged stay, and prepare their reload
    """
    kept = {} if previous is None else {plugin.name: plugin for plugin in previous.plugins if _same(plugin, config)}
    for plugin in () if previous is None else previous.plugins:
        if plugin.name not in kept and plugin.worker.hung_in == "mom_write":
            hint = "find out what the call waits for, or restart mom"
            raise plugin.error("a call of mom_write has not returned, and may still change values: mom cannot replace the plugin now", hint)
    new = partial(_new, config=config, template=template, stopping=stopping, threaded=threaded)
    plugins = [kept.get(name) or new(configured) for name, configured in config.plugins.items()]
    fresh = [plugin for plugin in plugins if plugin.name not in kept]
    manager = hook_manager()
    try:
        each(fresh, _construct)
        each(plugins[::-1], partial(_register, manager))  # pluggy calls the last registered plugin first
        each(fresh, _declare)
        errors: list[PluginError] = []
        declarations = joined(plugins, errors, declared)
        raise_all(errors)
        result = PluginSet(config, tuple(plugins), manager, declarations, _services(plugins))
        _put_in_force(result)
        each(fresh, lambda plugin: plugin.call("mom_setup", SETUP_SECONDS, context=plugin.context))
        each(kept.values(), partial(_prepare, result.commits))
        _find_hypervisor(result, previous)
    except BaseException:
        stop_writing_state(fresh)
        close_plugins(fresh, 1.0)
        if previous is not None:
            _put_in_force(previous)
        raise
    return result


def _put_in_force(plugins: PluginSet) -> None:
    config = plugins.config
    configuration = cache(config.in_force)  # called in each cycle, and slow with many guest patterns
    for plugin in plugins.plugins:
        context = plugin.context  # plugins keep this object at a reload
        context.declarations, context.offers, context.interval = plugins.declarations, plugins.offers, config.interval
        context.guest_settings, context.configuration = config.guest_settings(plugin.name), configuration


@contextmanager
def constructed(config: Config, errors: list[PluginError]) -> Iterator[list[Plugin]]:
    """Yield plugins without setting them up; append faults to `errors`."""
    plugins, manager = [_new(configured, config) for configured in config.plugins.values()], hook_manager()

    def prepare(plugin: Plugin) -> None:
        _construct(plugin)
        _register(manager, plugin)
        _declare(plugin)

    try:
        yield [plugin for plugin in plugins if guarded(errors, plugin, prepare)]
    finally:
        for plugin in plugins:
            plugin.worker.close(0.0)


def hook_manager(specs: ModuleType = hookspecs) -> pluggy.PluginManager:
    """Return a manager that checks and orders hooks; mom calls them itself."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(specs)
    return manager


def add(manager: pluggy.PluginManager, plugin: object, name: str) -> None:
    """Register a plugin or its class. Raise `MomError` if a hook differs from its specification."""
    try:
        manager.register(plugin, name)
    except pluggy.PluginValidationError as error:
        raise MomError(" ".join(str(error).split()), hint="compare its hooks with docs/hooks.md") from error


def register(manager: pluggy.PluginManager, instance: object, name: str) -> Hooks:
    """Register a plugin and return its hooks. Raise `MomError` if a hook is invalid."""
    add(manager, instance, name)
    hooks: dict[str, Callable[[Mapping[str, object]], object]] = {}
    for caller in manager.get_hookcallers(instance) or ():
        if not caller.has_spec() and caller.name not in hookspecs.OF_VERBS:
            raise MomError(f"there is no hook {caller.name}", hint="see docs/hooks.md")
        (implementation,) = (candidate for candidate in caller.get_hookimpls() if candidate.plugin is instance)
        hooks[caller.name] = partial(_call, implementation)
    if unmarked := [name for name in dir(type(instance)) if name.startswith("mom_") and name not in hooks]:
        raise MomError(f"{unmarked[0]} is not marked as a hook", hint="put @hookimpl above it")
    return hooks


def _call(implementation: pluggy.HookImpl, arguments: Mapping[str, object]) -> object:
    return implementation.function(*[arguments[name] for name in implementation.argnames])


def _same(plugin: Plugin, config: Config) -> bool:
    new, context = config.plugins.get(plugin.name), plugin.context
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


def guarded(errors: list[PluginError], plugin: Plugin, step: Callable[[Plugin], object]) -> bool:
    """Run a step. Return whether it succeeded; if not, append its error."""
    try:
        step(plugin)
    except PluginError as error:
        errors.append(error)
        return False
    return True


def each(plugins: Iterable[Plugin], step: Callable[[Plugin], object]) -> None:
    """Run a step for each plugin, then raise all errors together."""
    errors: list[PluginError] = []
    for plugin in plugins:
        guarded(errors, plugin, step)
    raise_all(errors)


def raise_all(errors: list[PluginError]) -> None:
    """Raise the collected errors, if any."""
    if errors:
        raise PluginError.of(errors)


def _construct(plugin: Plugin) -> None:
    make = partial(plugin.configured.loaded.plugin_class, plugin.configured.settings, plugin.context)
    plugin.instance = plugin.run("its constructor", make, SETUP_SECONDS)


def _register(manager: pluggy.PluginManager, plugin: Plugin) -> None:
    try:
        plugin.hooks = register(manager, plugin.instance, plugin.name)
    except MomError as error:
        raise plugin.error(error.message, error.hint) from error


def _declare(plugin: Plugin) -> None:
    plugin.declared = tuple(plugin.call("mom_declare") or ())
    plugin.controls = {spec.name: spec for spec in plugin.declared_as(ControlSpec)}
    if plugin.controls and not {"mom_read", "mom_write"} <= plugin.hooks.keys():
        hint = "mom must be able to read and restore each control: implement both"
        raise plugin.error("it declares controls but lacks mom_read or mom_write", hint)
    plugin.services = plugin.call("mom_services") or {}


def joined(plugins: Iterable[Plugin], errors: list[PluginError], declared: Declarations = NOTHING_DECLARED) -> Declarations:
    """Join the plugins' declarations; those in `declared` win. Append conflicts to `errors`."""
    plugins = list(plugins)
    fields, controls = dict(declared.fields), dict(declared.controls)
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
            if owners.setdefault(name, plugin) is not plugin:
                message = f"the control {name} is declared by the plugins {owners[name].name} and {plugin.name}"
                errors.append(plugin.error(message, "enable only one of them"))
            controls.setdefault(name, control)
        for policy in plugin.declared_as(DefaultPolicy):
            policies.setdefault(policy.name, policy.text)
    for name, owner in owners.items():
        control = controls[name]
        if (control.scope, control.field) not in fields:
            missing = f"no plugin declares the {control.scope} field {control.field}, which holds the present value of {name}"
            errors.append(owner.error(missing, "enable the plugin that collects it"))
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


def _derived(plugin: Plugin, snapshot: Snapshot) -> Snapshot.Derived:
    result = plugin.work("mom_derive", snapshot=snapshot, history=())()
    return result if isinstance(result, Snapshot.Derived) else Snapshot.Derived()


def explainers_of(plugins: Iterable[LoadedPlugin]) -> Mapping[str, Callable[[], object]]:
    """Return factories of explainers, keyed by plugin."""
    return {plugin.name: make for plugin in plugins if (make := getattr(plugin.plugin_class, "mom_explainer", None)) is not None}


def _prepare(commits: list[Callable[[], None]], plugin: Plugin) -> None:
    commit = plugin.call("mom_reload", SETUP_SECONDS)
    if callable(commit):
        commits.append(partial(_commit, plugin, commit))


def _commit(plugin: Plugin, commit: Callable[[], object]) -> None:
    try:
        plugin.run("the function that mom_reload returned", commit)
    except PluginError as error:  # it is too late to refuse the reload
        LOG.error("%s", error)


def _services(plugins: Iterable[Plugin]) -> dict[object, tuple[Any, ...]]:
    services: dict[object, tuple[Any, ...]] = {}
    for plugin in plugins:
        for kind, offer in plugin.services.items():
            services[kind] = (*services.get(kind, ()), offer)
    return services


def _find_hypervisor(plugins: PluginSet, previous: PluginSet | None) -> None:
    for plugin in plugins.plugins:
        hypervisor = plugin.call("mom_hypervisor", SETUP_SECONDS)
        if hypervisor is not None:
            plugins.hypervisor, plugins.hypervisor_owner = hypervisor, plugin
            break
    if previous is not None and plugins.hypervisor.uri != previous.hypervisor.uri:
        # mom could not restore guests that the new hypervisor does not list.
        message = f"the hypervisor cannot change from {previous.hypervisor.uri} to {plugins.hypervisor.uri} while mom is running"
        raise MomError(message, hint="restart mom to change it")
