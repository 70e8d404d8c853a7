"""Hooks that are called on a plugin's class, by `mom` and not by the daemon: without settings, engine or host."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any, TypeVar

from mom_core import MomError, PluginError, attempt
from mom_core.plugins.bounded import describe
from mom_core.plugins.discovery import IMPORT_SECONDS, LoadedPlugin, available_plugins, load_plugins

Kind = TypeVar("Kind")


def offered(plugin: LoadedPlugin, hook: str, *arguments: object) -> Any:
    """The offer of a plugin's class by a hook; None: nothing. Raises `MomError`, whatever goes wrong in there."""
    offer = getattr(plugin.plugin_class, hook, None)
    if offer is None:
        return None
    made = attempt(partial(offer, *arguments), seconds=IMPORT_SECONDS, what=hook)
    if made.error is None:
        return made.value
    if isinstance(made.error, MomError):
        raise made.error
    raise mistake(plugin, f"{hook} failed: {describe(made.error)}")


def offered_list(plugin: LoadedPlugin, hook: str, kind: type[Kind], *arguments: object) -> list[Kind]:
    """The same, of a hook that gives any number of one kind. Raises `MomError`, also when one is of another kind."""

    def listed() -> list[object]:
        offer = getattr(plugin.plugin_class, hook, None)
        found: Iterable[object] = () if offer is None else offer(*arguments)
        return list(found)

    made = attempt(listed, seconds=IMPORT_SECONDS, what=hook)
    if made.error is not None:
        raise mistake(plugin, f"{hook} failed: {describe(made.error)}")
    result = []
    for one in made.value or ():
        if not isinstance(one, kind):
            raise mistake(plugin, f"{hook} gave a {type(one).__name__} that is no {kind.__name__}")
        result.append(one)
    return result


def having(hook: str) -> dict[str, LoadedPlugin]:
    """The installed plugins whose class has a hook, by name. Those that are broken are left out; `mom plugin list` tells of them."""
    loaded, _ = load_plugins(list(available_plugins()))
    return {name: plugin for name, plugin in loaded.items() if hasattr(plugin.plugin_class, hook)}


def mistake(plugin: LoadedPlugin, what: str) -> PluginError:
    """An error that names the plugin, and whose it is to mend."""
    text = f"plugin {plugin.name!r} of {plugin.distribution} {plugin.version}: {what}"
    return PluginError(text, plugin=plugin.name, distribution=plugin.distribution, hint=f"tell the authors of {plugin.distribution}")
