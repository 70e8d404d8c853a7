"""Calls hooks on a plugin's class, without settings, engine or host."""

from __future__ import annotations

from itertools import chain
from typing import Any

from mom_core import MomError, PluginError
from mom_core.plugins.bounded import attempt, describe
from mom_core.plugins.discovery import LoadedPlugin, available_plugins, load_plugins
from mom_core.plugins.registry import add, hook_manager
from mom_daemon import hookspecs


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
