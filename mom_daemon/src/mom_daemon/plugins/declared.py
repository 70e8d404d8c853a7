"""What plugins say without setup: declarations, hooks on their classes, faults in their settings, and missing tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Final, NamedTuple

from mom_core import Config, Declaration, Declarations, Finding, MomError, PluginError, Severity, load_config
from mom_core.config import ConfiguredPlugin
from mom_core.plugins.bounded import attempt, describe
from mom_core.plugins.discovery import LoadedPlugin, available_plugins, load_plugins
from mom_core.plugins.registry import SETUP_SECONDS, Plugin, add, constructed, guarded, hook_manager, joined, raise_all
from mom_daemon import hookspecs


def declared_by(config: Config) -> tuple[dict[str, tuple[Declaration, ...]], list[PluginError]]:
    """Return each configured plugin's declarations, and errors of unusable plugins."""
    errors: list[PluginError] = []
    with constructed(config, errors) as plugins:
        return {plugin.name: plugin.declared for plugin in plugins}, errors


def declarations_of(config: Config | None = None) -> Declarations:
    """Return fields, controls and default policies without setting up plugins.

    :param config: None for all usable plugins, with default settings; if two declare the same name, the first declaration counts
    """
    errors: list[PluginError] = []
    with constructed(replace(config or everything_installed()[0], state_directory=_EMPTY), errors) as plugins:
        declarations = joined(plugins, errors)
    if config is not None:
        raise_all(errors)
    return declarations


_EMPTY: Final = Path("/nonexistent")


def everything_installed() -> tuple[Config, Mapping[str, MomError]]:
    """Return all installed plugins with default settings, and errors of unusable ones."""
    names = sorted(available_plugins())
    with suppress(MomError):  # otherwise load each plugin separately, which takes longer
        return Config(plugins=load_config({"plugins": {name: {} for name in names}}).plugins), {}
    plugins: dict[str, ConfiguredPlugin] = {}
    left_out: dict[str, MomError] = {}
    for name in names:
        try:
            plugins.update(load_config({"plugins": {name: {}}}).plugins)
        except MomError as error:
            left_out[name] = error
    return Config(plugins=plugins), left_out


class Checked(NamedTuple):
    """Errors that prevent setup; if there are none, findings on the configuration."""

    errors: list[PluginError]
    findings: list[tuple[str, Finding]]


def check_plugins(config: Config) -> Checked:
    """Check constructors, hooks, declarations and conflicts, and plugins' own checks."""
    checked = Checked([], [])
    with constructed(config, checked.errors) as plugins:
        declarations = Declarations() if checked.errors else joined(plugins, checked.errors)
        for plugin in [] if checked.errors else plugins:
            plugin.context.declarations = declarations
            guarded(checked.errors, plugin, partial(_ask_for_findings, checked.findings))
    return checked


def _ask_for_findings(findings: list[tuple[str, Finding]], plugin: Plugin) -> None:
    findings.extend((plugin.name, item) for item in findings_in("mom_check", plugin.call("mom_check", SETUP_SECONDS)))


def findings_in(hook: str, answer: object) -> list[Finding]:
    """Return a hook's findings. An invalid result becomes an error."""
    items = answer if isinstance(answer, list | tuple) else [] if answer is None else [answer]
    cure = "tell the plugin's authors; the lost finding may be about a fault of this host"
    return [
        item
        if isinstance(item, Finding)
        else Finding(Severity.ERROR, "plugin", f"{hook} returned {type(item).__name__} instead of Finding", cure)
        for item in items
    ]


# --- hooks on classes ----------------------------------------------------------------------------------------------------------


def offered(plugin: LoadedPlugin, hook: str, *, each: type = object, **arguments: object) -> list[Any]:
    """Return the results of a `mom_daemon.hookspecs` hook on a plugin's class.

    :raises MomError: the hook differs from its specification, fails, or returns an object of a type other than `each`
    """

    if not hasattr(plugin.plugin_class, hook):
        return []

    def call() -> list[object]:
        caller = getattr(registered(plugin.plugin_class, plugin.name), hook)
        answer = caller(**arguments)
        if caller.spec.opts["firstresult"]:
            return [] if answer is None else [answer]
        return list(chain.from_iterable(answer))

    made = attempt(call)
    if isinstance(made.error, MomError):
        raise made.error
    if made.error is not None:
        raise mistake(plugin, f"{hook} failed: {describe(made.error)}")
    offers = made.value or []
    wrong = next((type(offer).__name__ for offer in offers if not isinstance(offer, each)), None)
    if wrong is not None:
        raise mistake(plugin, f"{hook} returned {wrong} instead of {each.__name__}")
    return offers


def registered(plugin_class: type, name: str) -> Any:
    """Return pluggy's callers of a class's hooks. Raise `MomError` if a hook is invalid."""
    manager = hook_manager(hookspecs)
    add(manager, plugin_class, name)
    return manager.hook


def having(hook: str) -> dict[str, LoadedPlugin]:
    """Return working plugins with this hook, keyed by name."""
    loaded, _ = load_plugins(list(available_plugins()))
    return {name: plugin for name, plugin in loaded.items() if hasattr(plugin.plugin_class, hook)}


def mistake(plugin: LoadedPlugin, fault: str) -> PluginError:
    """Return an error that names plugin and package."""
    text = f"plugin {plugin.name!r} of {plugin.distribution} {plugin.version}: {fault}"
    return PluginError(text, plugin=plugin.name, distribution=plugin.distribution, hint=f"tell the authors of {plugin.distribution}")


# --- tasks of enabled plugins --------------------------------------------------------------------------------------------------


class Lack(NamedTuple):
    """Necessary hook that no enabled plugin has, with the consequence."""

    subject: str
    message: str
    hook: str


_NEEDED = (
    Lack("hypervisor", "no enabled plugin provides a hypervisor: mom sees no guests", "mom_hypervisor"),
    Lack("evaluators", "no enabled plugin evaluates policies: mom decides nothing", "mom_evaluate"),
)


def lacking(config: Config) -> Iterator[Lack]:
    """Yield the necessary hooks that no enabled plugin has."""
    return (lack for lack in _NEEDED if not config.having(lack.hook))


def about_enabled(config: Config) -> Iterator[Finding]:
    """Report several hypervisors or evaluators, and tasks that no plugin does."""
    hypervisors, evaluators = list(config.having("mom_hypervisor")), config.having("mom_evaluate")
    if len(hypervisors) > 1:
        names, first = ", ".join(hypervisors), hypervisors[0]
        text = f"several plugins provide a hypervisor: {names}; mom uses the first available one, and sees no guests of the others"
        yield Finding(Severity.WARNING, "hypervisors", text, f"enable only one of them; at present {first} takes precedence")
    for subject, message, hook in lacking(config):
        yield Finding(Severity.WARNING, subject, message, f"installed plugins for this task: {', '.join(having(hook)) or 'none'}")
    if len(evaluators) > 1:
        order = ", then ".join(evaluators)
        text = f"several plugins decide: {order}; if two of them set the same control, mom ignores the later one"
        cure = "disable plugins that you do not need, or list the preferred plugin first in `plugins`"
        yield Finding(Severity.WARNING, "evaluators", text, cure)
