"""Hooks that are called on a plugin's class, by `mom` and not by the daemon: without settings, engine or host."""

from __future__ import annotations

from typing import Any

from mom_core import MomError, PluginError
from mom_core.errors import DeadlineExceeded
from mom_core.plugins.bounded import attempt, describe
from mom_core.plugins.discovery import IMPORT_SECONDS, LoadedPlugin, available_plugins, load_plugins


def offered(plugin: LoadedPlugin, hook: str, *arguments: object, each: type[object] | None = None, seconds: float = IMPORT_SECONDS) -> Any:
    """The offer of a plugin's class by a hook; None: nothing. Raises `MomError`, whatever goes wrong in there.

    :param each: the hook gives any number of this kind, of which this makes a list
    :param seconds: how long it may take
    """

    def asked() -> Any:
        offer = getattr(plugin.plugin_class, hook, None)
        found = None if offer is None else offer(*arguments)
        return found if each is None else list(found or ())

    made = attempt(asked, seconds=seconds, what=hook)
    if isinstance(made.error, DeadlineExceeded):
        raise mistake(plugin, made.error.message)
    if isinstance(made.error, MomError):
        raise made.error
    if made.error is not None:
        raise mistake(plugin, f"{hook} failed: {describe(made.error)}")
    wrong = [] if each is None else [type(one).__name__ for one in made.value or () if not isinstance(one, each)]
    if each is not None and wrong:
        raise mistake(plugin, f"{hook} gave a {wrong[0]} that is no {each.__name__}")
    return made.value


def having(hook: str) -> dict[str, LoadedPlugin]:
    """The installed plugins whose class has a hook, by name. Those that are broken are left out; `mom plugin list` tells of them."""
    loaded, _ = load_plugins(list(available_plugins()))
    return {name: plugin for name, plugin in loaded.items() if hasattr(plugin.plugin_class, hook)}


def mistake(plugin: LoadedPlugin, what: str) -> PluginError:
    """An error that names the plugin, and whose it is to mend."""
    text = f"plugin {plugin.name!r} of {plugin.distribution} {plugin.version}: {what}"
    return PluginError(text, plugin=plugin.name, distribution=plugin.distribution, hint=f"tell the authors of {plugin.distribution}")
