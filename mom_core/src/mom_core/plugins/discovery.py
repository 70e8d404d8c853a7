"""Which plugins are installed, and the loading of those that the configuration enables.

What is installed is read from the distributions' metadata, afresh each time: stevedore keeps a cache on disk and one in the process,
and believes both after a `pip install`. Only plugins that are asked for are imported.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import logging
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, PackageNotFoundError, distributions, requires
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mom_core import CONTRACT
from mom_core.errors import DeadlineExceeded, MomError, PluginError
from mom_core.model import printable
from mom_core.plugins.bounded import attempt, describe
from mom_core.plugins.contract import parse_contract, parse_version
from mom_core.plugins.projects import GROUP, Project, projects_in

if TYPE_CHECKING:
    from mom_core.settings import GuestSettings, PluginSettings

log = logging.getLogger("mom.discovery")

IMPORT_SECONDS: Final = 20.0
"""How long the import of one plugin may take. A cold import from a slow disk takes seconds; more means that it waits for something."""

_FOLDER: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9._]*)-([^-]+)\.dist-info")
"""The folder of an installed distribution: its name, with `_` for `-`, and its version."""

KNOWN_DISTRIBUTIONS: Final[Mapping[str, str]] = {
    **{
        name: f"mom-plugins-{name}"
        for name in ("host", "http", "libvirt", "vdsm", "guestagent", "balloon", "ksm", "qos", "cgroup", "numa", "policy", "sim")
    },
    "xmlrpc": "mom-plugins-vdsm",
}
"""mom's own plugins by name, with the distribution that brings each: what can be recommended without being installed."""


@dataclass(frozen=True, slots=True)
class AvailablePlugin:
    """A plugin as its distribution's metadata states it; nothing of it is imported. `target` is `module:Class`.

    `folder` is where its code is when it is not installed but in a folder that the caller named.
    """

    name: str
    distribution: str
    version: str
    target: str
    folder: Path | None = None


@dataclass(frozen=True, slots=True)
class LoadedPlugin:
    """A plugin whose class is imported and of the right shape, but not constructed.

    `guest_settings_class` is None when the plugin has nothing to say about single guests.
    """

    name: str
    distribution: str
    version: str
    plugin_class: type
    settings_class: type[PluginSettings]
    guest_settings_class: type[GuestSettings] | None
    folder: Path | None = None
    """Where its code is when it is not installed."""


def available_plugins(folders: Sequence[Path] = ()) -> Mapping[str, tuple[AvailablePlugin, ...]]:
    """All installed plugins by name, in the order of their names, from the metadata as it is now.

    :param folders: look for plugins in these too; whether their code can be trusted is the caller's concern

    More than one for a name means that distributions compete for it; `load_plugins` refuses such a name.
    A distribution whose metadata cannot be read is left out, with a warning in the log.
    """
    found = _installed(folders)
    for distribution, reason in found.unreadable.items():
        log.warning("the plugins of %s are not known: its entry_points.txt cannot be read: %s", distribution, reason)
    return {name: tuple(available for available, _ in entries) for name, entries in sorted(found.entries.items())}


def usual_distributions(extra: str = "kvm") -> list[str]:
    """The distributions that an extra of mom-core itself brings: what can be recommended, as they are this project's own."""
    try:
        wanted = requires("mom-core") or []
    except PackageNotFoundError:
        return []
    matches = [re.fullmatch(rf"([A-Za-z0-9._-]+).*;\s*extra == ['\"]{extra}['\"]", text) for text in wanted]
    return [match[1] for match in matches if match is not None]


def load_plugins(names: Sequence[str], folders: Sequence[Path] = ()) -> tuple[dict[str, LoadedPlugin], list[PluginError]]:
    """Import the named plugins and look at their shape.

    :param names: plugin names as in YAML; what is loaded is in this order
    :param folders: look for plugins in these too; whether their code can be trusted is the caller's concern
    :return: the plugins that are fine, by name, and an error for each of the others. Nothing that a plugin does at import ends this call
    """
    names = list(dict.fromkeys(names))
    found = _installed(folders)
    errors: dict[str, PluginError] = {}
    wanted: dict[str, tuple[AvailablePlugin, EntryPoint]] = {}
    for name in names:
        entries = found.entries.get(name, [])
        if len(entries) == 1:
            wanted[name] = entries[0]
        elif entries:
            errors[name] = _provided_twice(name, [available for available, _ in entries])
        else:
            errors[name] = _missing(name, found)
    loaded: dict[str, LoadedPlugin] = {}
    for name, result in _load(wanted).items():
        if isinstance(result, PluginError):
            errors[name] = result
        else:
            loaded[name] = result
    return loaded, [errors[name] for name in names if name in errors]


def load_project(project: Project, name: str) -> LoadedPlugin:
    """A plugin of a project that is being worked on, whether or not it is installed too: the project's own files come first.

    :raises PluginError: as `load_plugins` gives it
    """
    point = next(point for point in project.entries if point.name == name)
    available = AvailablePlugin(name, project.name, project.version or "in a folder", point.value, project.imports)
    sys.path.insert(0, str(project.imports))
    result = _load({name: (available, point)})[name]
    if isinstance(result, PluginError):
        raise result
    return result


def suggestion(name: str, known: Iterable[str]) -> str:
    """The known name that was probably meant, or nothing."""
    if len(name) > 60:  # nobody misspells that; comparing it would only take time
        return ""
    close = difflib.get_close_matches(name.lower(), list(known), n=1)
    return close[0] if close else ""


# --- the metadata --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Installed:
    """Entry points of the group by name, and the distributions whose list of entry points cannot be read, with the reason."""

    entries: Mapping[str, list[tuple[AvailablePlugin, EntryPoint]]]
    unreadable: Mapping[str, str]


def _installed(folders: Sequence[Path] = ()) -> _Installed:
    importlib.invalidate_caches()  # a running daemon reloads: what was installed since it started counts
    entries: dict[str, list[tuple[AvailablePlugin, EntryPoint]]] = {}
    unreadable: dict[str, str] = {}
    for folder in folders:
        try:
            projects = projects_in(folder)
        except (MomError, OSError) as error:
            unreadable[str(folder)] = describe(error)
            continue
        for project in projects:
            for point in project.entries:
                plugin = AvailablePlugin(point.name, project.name, project.version or "in a folder", point.value, project.imports)
                entries.setdefault(point.name, []).append((plugin, point))
    seen: set[str] = set()
    for distribution in distributions():
        path = getattr(distribution, "_path", None)
        if _ADDED and str(getattr(path, "parent", "")) in _ADDED:
            continue
        folder_name = _FOLDER.fullmatch(getattr(path, "name", ""))
        try:
            # The folder's name first: it is there without parsing METADATA, which costs ten times as much as all the rest.
            name = folder_name[1].replace("_", "-") if folder_name else str(distribution.metadata["Name"])
            normalised = re.sub(r"[-_.]+", "-", name).lower()
            if normalised in seen:
                continue  # as with imports, the first on the path hides those behind it
            seen.add(normalised)
            # Most distributions have no plugins; a broken list of entry points matters only where it speaks of the group.
            if GROUP not in (distribution.read_text("entry_points.txt") or ""):
                continue
            version = folder_name[2] if folder_name else distribution.version
            points = list(distribution.entry_points.select(group=GROUP))
        except Exception as error:  # noqa: BLE001  # importlib.metadata raises anything on broken metadata; the others still count
            unreadable[folder_name[1].replace("_", "-") if folder_name else "a distribution without a name"] = describe(error)
            continue
        for point in points:
            entries.setdefault(point.name, []).append((AvailablePlugin(point.name, name, version, point.value), point))
    return _Installed(entries, unreadable)


_ADDED: Final[set[str]] = set()
"""The folders that this process has put on the path of imports for plugins that are not installed: what is in them is not installed."""


def _can_import(folder: Path) -> None:
    """Let modules be imported from a folder, after all others: what is in it never hides what is installed."""
    text = str(folder)
    if text not in sys.path:
        sys.path.append(text)
        _ADDED.add(text)


# --- loading -------------------------------------------------------------------------------------------------------------------


class _ContainedEntryPoint(EntryPoint):
    """An entry point whose import ends in time, and fails with an ordinary exception if it fails.

    stevedore lets `KeyboardInterrupt`, `AssertionError` and `SystemExit` pass; here they are the plugin's failure like any other.
    """

    def load(self) -> object:
        made = attempt(super().load, seconds=IMPORT_SECONDS, what=f"importing {self.value}")
        if made.error is not None:
            raise _LoadError from made.error
        return made.value


class _LoadError(Exception):
    """Its cause is what the import raised."""


def _load(wanted: Mapping[str, tuple[AvailablePlugin, EntryPoint]]) -> dict[str, LoadedPlugin | PluginError]:
    from stevedore.named import NamedExtensionManager

    class EnabledPlugins(NamedExtensionManager):  # type: ignore[type-arg]  # older releases of stevedore are not generic
        """stevedore's manager, on entry points that are read afresh."""

        def list_entry_points(self) -> list[EntryPoint]:
            return [_ContainedEntryPoint(point.name, point.value, point.group) for _, point in wanted.values()]

    failures: dict[str, BaseException] = {}
    for available, _ in wanted.values():
        if available.folder is not None:
            _can_import(available.folder)

    def on_failure(_: object, point: EntryPoint, error: BaseException) -> None:
        failures[point.name] = error.__cause__ or error

    enabled = EnabledPlugins(
        GROUP, list(wanted), name_order=True, on_load_failure_callback=on_failure, on_missing_entrypoints_callback=None
    )
    results: dict[str, LoadedPlugin | PluginError] = {}
    classes = {extension.name: extension.plugin for extension in enabled.extensions}
    for name, (available, _) in wanted.items():
        if name in failures:
            results[name] = _not_importable(available, failures[name])
        else:
            results[name] = _examined(available, classes[name])
    return results


def _examined(available: AvailablePlugin, target: object) -> LoadedPlugin | PluginError:
    """The loaded plugin, or what about its shape is wrong. In a bounded call: looking at a class may run its own code."""
    made = attempt(lambda: _examine(available, target), seconds=IMPORT_SECONDS, what=f"looking at {available.target}")
    if made.value is not None:
        return made.value
    if isinstance(made.error, PluginError):
        return made.error
    return _error(available, f"cannot be looked at: {describe(made.error or RuntimeError())}", _ask_author(available), made.error)


def _examine(available: AvailablePlugin, target: object) -> LoadedPlugin:
    from mom_core.settings import GuestSettings, PluginSettings

    if not isinstance(target, type):
        raise _error(
            available,
            f"is no class: {available.target} is of type {type(target).__name__}",
            f"its entry point must name a class; {_ask_author(available)}",
        )
    _check_origin(available, target)
    _check_contract(available, target)
    try:
        inspect.signature(target).bind(None, None)
    except TypeError:
        raise _error(
            available,
            f"cannot be constructed: {target.__name__} does not take (settings, context)",
            f"write `def __init__(self, settings, context)`; {_ask_author(available)}",
        ) from None
    except ValueError:
        pass  # a class whose signature Python does not know, as one written in C; constructing it will tell
    settings = getattr(target, "Settings", PluginSettings)
    if not (isinstance(settings, type) and issubclass(settings, PluginSettings)):
        raise _error(
            available, f"has an inner Settings that is no subclass of mom_core.PluginSettings: {settings!r:.80}", _ask_author(available)
        )
    guest_settings = getattr(target, "GuestSettings", None)
    if guest_settings is not None and not (isinstance(guest_settings, type) and issubclass(guest_settings, GuestSettings)):
        raise _error(
            available,
            f"has an inner GuestSettings that is no subclass of mom_core.GuestSettings: {guest_settings!r:.80}",
            _ask_author(available),
        )
    for kind in (settings, guest_settings) if guest_settings else (settings,):
        try:
            kind.model_rebuild()
        except Exception as error:  # pydantic evaluates the plugin's annotations, which may raise anything
            raise _error(
                available, f"has settings with a type that cannot be resolved: {describe(error)}", _ask_author(available)
            ) from error
    if guest_settings is not None:
        required = [name for name, field in guest_settings.model_fields.items() if field.is_required()]
        if required:
            raise _error(
                available,
                f"has GuestSettings without a default for {', '.join(required)}",
                f"a guest that no pattern matches needs them; {_ask_author(available)}",
            )
    return LoadedPlugin(available.name, available.distribution, available.version, target, settings, guest_settings, available.folder)


def _check_origin(available: AvailablePlugin, target: type) -> None:
    """That what was imported for a folder's plugin is that folder's, and not something installed of the same name."""
    if available.folder is None:
        return
    module = sys.modules.get(target.__module__)
    file = Path(getattr(module, "__file__", None) or "/")
    if available.folder.resolve() not in file.resolve().parents:
        raise _error(
            available,
            f"is in {available.folder}, but its module {target.__module__} was imported from {file}",
            "give its package another name, or uninstall the other",
        )


def _check_contract(available: AvailablePlugin, target: type) -> None:
    stated = getattr(target, "contract", None)
    if stated is None:
        raise _error(
            available,
            f"does not say which contract it was built for; this is mom-core with contract {CONTRACT}",
            f'its class must state it, as `contract = "{CONTRACT}"`; {_ask_author(available)}',
        )
    if not isinstance(stated, str):
        raise _error(available, f"states the contract {stated!r:.40}, which is no text", f"{_CONTRACT_FORM}; {_ask_author(available)}")
    try:
        wanted = parse_contract(stated)
    except ValueError as error:
        text = f"states the contract {stated!r:.40}, which cannot be used: {error}"
        raise _error(available, text, f"{_CONTRACT_FORM}; {_ask_author(available)}", error) from None
    ours = parse_version(CONTRACT)
    if ours in wanted:
        return
    behind = "mom-core" if ours < wanted.least else available.distribution
    raise _error(available, f"was built for contract {stated}, this mom-core has contract {CONTRACT}", f"`pip install --upgrade {behind}`")


_CONTRACT_FORM: Final = f'it must be like "{CONTRACT}" or ">=1.0,<2"'


# --- what is wrong, and what to do ---------------------------------------------------------------------------------------------


def _error(available: AvailablePlugin, what: str, hint: str, cause: BaseException | None = None) -> PluginError:
    error = PluginError(
        f"plugin '{printable(available.name)}' of {available.distribution} {available.version} {what}",
        plugin=available.name,
        distribution=available.distribution,
        hint=hint,
    )
    error.__cause__ = cause
    return error


def _ask_author(available: AvailablePlugin) -> str:
    return f"`pip install --upgrade {available.distribution}`, or tell its authors"


def _not_importable(available: AvailablePlugin, error: BaseException) -> PluginError:
    module = available.target.partition(":")[0].strip()
    reinstall = f"`pip install --force-reinstall {available.distribution}`"
    if isinstance(error, DeadlineExceeded):
        hint = f"remove it from the configuration until it does; {_ask_author(available)}"
        return _error(available, f"cannot be imported: {error.message}", hint, error)
    if isinstance(error, ModuleNotFoundError) and error.name and module.partition(".")[0] == error.name.partition(".")[0]:
        return _error(available, f"is installed incompletely: there is no module {error.name!r}", reinstall, error)
    if isinstance(error, ModuleNotFoundError) and error.name:
        hint = f"{reinstall} brings what it depends on; `pip check` shows what is missing"
        return _error(available, f"cannot be imported: {describe(error)}", hint, error)
    if isinstance(error, AttributeError) and error.name and error.name in available.target.partition(":")[2].split("."):
        return _error(available, f"names a class that does not exist: {available.target}", f"{reinstall}, or tell its authors", error)
    hint = f"MOM_DEBUG=1 shows where; {_ask_author(available)}"
    return _error(available, f"cannot be imported: {module} raised {describe(error)}", hint, error)


def _missing(name: str, found: _Installed) -> PluginError:
    shown = printable(name)
    meant = suggestion(name, found.entries)
    known = KNOWN_DISTRIBUTIONS.get(name)
    if known:
        hint = f"`pip install {known}`"
    elif meant:
        hint = f"did you mean {meant!r}?"
    elif meant := suggestion(name, KNOWN_DISTRIBUTIONS):
        hint = f"did you mean {meant!r}? `pip install {KNOWN_DISTRIBUTIONS[meant]}`"
    elif len(name) <= 40 and re.fullmatch(r"[a-z0-9]+(?:[-_][a-z0-9]+)*", name):
        hint = f"`pip install mom-plugins-{name}`, or the distribution that provides it; `mom plugin list` shows what is installed"
    else:
        hint = "`pip install` the distribution that provides it; `mom plugin list` shows what is installed"
    folders = [text for path, text in found.unreadable.items() if path.startswith("/")]
    if folders:
        hint += "; " + "; ".join(folders)
    broken = ", ".join(name for name in found.unreadable if not name.startswith("/"))
    if broken:
        hint += f"; the plugins of {broken} are not known, as the metadata cannot be read: `pip install --force-reinstall {broken}`"
    return PluginError(f"plugin '{shown}' is not installed", plugin=name, hint=hint)


def _provided_twice(name: str, entries: Sequence[AvailablePlugin]) -> PluginError:
    providers = list(dict.fromkeys(_provider(entry) for entry in entries))
    if len(providers) == 1:
        targets = " and ".join(entry.target for entry in entries)
        return PluginError(
            f"plugin '{printable(name)}' of {providers[0]} is declared twice, as {targets}",
            plugin=name,
            distribution=entries[0].distribution,
            hint=_ask_author(entries[0]),
        )
    return PluginError(
        f"plugin '{printable(name)}' is provided by {' and by '.join(providers)}",
        plugin=name,
        distribution=", ".join(entry.distribution for entry in entries),
        hint="keep one: "
        + " or ".join(
            f"`pip uninstall {entry.distribution}`" if entry.folder is None else f"take {entry.folder} out of plugin-path"
            for entry in entries
        ),
    )


def _provider(entry: AvailablePlugin) -> str:
    return f"{entry.distribution} {entry.version}" if entry.folder is None else f"{entry.distribution} in {entry.folder}"
