"""Finds installed plugins, anew at each reload, and imports the enabled ones."""

from __future__ import annotations

import difflib
import importlib
import json
import logging
import re
import shlex
import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.metadata import EntryPoint, PackageNotFoundError, distribution, distributions, requires
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import unquote, urlsplit

from mom_core._version import __version__
from mom_core.errors import PluginError
from mom_core.plugins.bounded import attempt, describe, located
from mom_core.texts import printable

if TYPE_CHECKING:
    from mom_core.settings import GuestSettings, PluginSettings

LOG = logging.getLogger("mom.discovery")

GROUP: Final = "mom.plugins"

CLONE_CONSTRAINTS: Final = "packaging/clone.txt"
"""Constraints file for `pip install` in a clone of mom."""


@dataclass(frozen=True, slots=True)
class AvailablePlugin:
    """Installed plugin: entry point of a distribution, not imported."""

    point: EntryPoint
    distribution: str
    version: str

    @property
    def name(self) -> str:
        """Name of the entry point."""
        return self.point.name

    @property
    def target(self) -> str:
        """Value of the entry point: `module:Class`."""
        return self.point.value

    def error(self, what: str, hint: str = "") -> PluginError:
        """Return an error that names this plugin."""
        message = f"plugin '{printable(self.name)}' of {self.distribution} {self.version} {what}"
        hint = hint or f"install {self.distribution} and its dependencies again, or report the error to its authors"
        return PluginError(message, plugin=self.name, distribution=self.distribution, hint=hint)


@dataclass(frozen=True, slots=True)
class LoadedPlugin:
    """Imported plugin with a valid class, not constructed."""

    name: str
    distribution: str
    version: str
    plugin_class: type
    settings_class: type[PluginSettings]
    guest_settings_class: type[GuestSettings] | None


class CatalogEntry(NamedTuple):
    """Distribution and summary of a plugin."""

    distribution: str
    summary: str


@cache
def catalog() -> Mapping[str, CatalogEntry]:
    """Return this project's plugins, installed or not, keyed by name."""
    text = resources.files("mom_core.plugins").joinpath("catalog.toml").read_text(encoding="utf-8")
    return {name: CatalogEntry(**entry) for name, entry in tomllib.loads(text).items()}


def available_plugins() -> Mapping[str, Sequence[AvailablePlugin]]:
    """Return all installed plugins, keyed and sorted by name."""
    return dict(sorted(installed(GROUP).items()))


def own_distributions(extra: str = "all") -> list[str]:
    """Return mom's own distributions in an extra of mom-core."""
    try:
        requirements = requires("mom-core") or []
    except PackageNotFoundError:
        return []
    matches = [re.fullmatch(rf"([A-Za-z0-9._-]+).*;\s*extra == ['\"]{extra}['\"]", text) for text in requirements]
    return [match[1] for match in matches if match is not None]


def absent(extra: str = "all") -> list[str]:
    """Return mom's own distributions that are not installed."""
    present = {_normalised(candidate.name or "") for candidate in distributions()}
    return [name for name in own_distributions(extra) if name not in present]


def how_to_install(*names: str) -> str:
    """Return the command that installs these distributions, or a sentence if no command is known."""
    # Install from a clone only: on PyPI, anyone could register these names.
    clone = Path(_origin("mom-core")).parent
    if clone.is_absolute() and (clone / CLONE_CONSTRAINTS).is_file() and all((clone / name.replace("-", "_")).is_dir() for name in names):
        return f"`cd {shlex.quote(str(clone))} && {pip_install()} -c {CLONE_CONSTRAINTS} {' '.join(names)}`"
    return f"install {', '.join(names)} from the same source as mom-core"


def pip_install() -> str:
    """Return the start of a `pip install` command."""
    return f"{shlex.quote(sys.executable)} -m pip install"


def _origin(name: str) -> str:
    # pip records the source of an installation (PEP 610).
    try:
        url = str(json.loads(distribution(name).read_text("direct_url.json") or "{}").get("url", ""))
    except (PackageNotFoundError, ValueError, AttributeError):
        return ""
    return unquote(urlsplit(url).path) if url.startswith("file:") else url


def load_plugins(names: Sequence[str]) -> tuple[dict[str, LoadedPlugin], list[PluginError]]:
    """Import the named plugins. Return valid plugins by name, and the errors of the others."""
    from stevedore.named import NamedExtensionManager

    names = list(dict.fromkeys(names))
    present = installed(GROUP)
    errors: dict[str, PluginError] = {}

    class InstalledPlugins(NamedExtensionManager):  # type: ignore[type-arg]  # older releases of stevedore are not generic
        def list_entry_points(self) -> list[Any]:  # stevedore's own list is cached on disk
            return [_Enabled(name, entries) for name, entries in present.items()]

    def failed(manager: object, point: _Enabled, error: Exception) -> None:
        errors[point.name] = error if isinstance(error, PluginError) else point.entries[0].error(describe(error))

    def missing(unloaded: Iterable[str]) -> None:  # also those that failed
        errors.update({name: _missing(name, present) for name in unloaded if name not in errors})

    callbacks: Any = {"on_load_failure_callback": failed, "on_missing_entrypoints_callback": missing}
    manager: Any = InstalledPlugins(GROUP, names, name_order=True, **callbacks)
    return {extension.name: extension.plugin for extension in manager}, [errors[name] for name in names if name in errors]


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return the known name that was probably meant; empty if none."""
    if len(name) > 60:  # no misspelling, and slow to compare
        return ""
    close = difflib.get_close_matches(name.lower(), list(known), n=1)
    return close[0] if close else ""


# --- the metadata --------------------------------------------------------------------------------------------------------------


def installed(group: str) -> Mapping[str, list[AvailablePlugin]]:
    """Return all entries in an entry-point group, keyed by name. Log and skip distributions with broken metadata."""
    importlib.invalidate_caches()  # a running daemon reloads: find new distributions too
    entries: dict[str, list[AvailablePlugin]] = {}
    names: set[str] = set()
    for candidate in distributions():
        try:
            points = candidate.entry_points.select(group=group)
            if not points:
                continue
            # Each access to `metadata` parses the file METADATA. Without the file, both are None.
            name, version = str((metadata := candidate.metadata)["Name"]), str(metadata["Version"])
        except Exception as error:  # noqa: BLE001  # broken metadata may raise anything
            LOG.warning("the plugins in %s are unknown: %s", getattr(candidate, "_path", "a distribution"), describe(error))
            continue
        if _normalised(name) not in names:  # as with imports, the first on the path counts
            names.add(_normalised(name))
            for point in points:
                entries.setdefault(point.name, []).append(AvailablePlugin(point, name, version))
    return entries


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def on_core(requirements: Iterable[str]) -> list[str]:
    """Return the requirements on mom-core, for example `mom-core>=0.1,<1`."""
    return [text.strip() for text in requirements if re.match(r"\s*mom[-_.]core(?![-_.]*\w)", text, re.IGNORECASE)]


# --- loading -------------------------------------------------------------------------------------------------------------------


class _Enabled(NamedTuple):
    """Plugin that YAML names, in place of an entry point: stevedore loads it."""

    name: str
    entries: Sequence[AvailablePlugin]

    def load(self) -> LoadedPlugin:
        if len(self.entries) > 1:
            raise _provided_twice(self.name, self.entries)
        available = self.entries[0]
        if wanted := _other_core(available):
            what = f"was built for another mom-core: it requires {wanted}, and this is mom-core {__version__}"
            raise available.error(what, f"install versions of mom-core and {available.distribution} that fit")
        result = attempt(lambda: _examined(available, available.point.load()))
        if result.value is not None:
            return result.value
        error = result.error or TypeError()
        if isinstance(error, PluginError):
            raise error
        raise available.error(f"cannot be loaded from {available.target}: {located(error)}") from error


def _other_core(available: AvailablePlugin) -> str:
    dependencies = available.point.dist.requires if available.point.dist is not None else None
    stated = [text for text in on_core(dependencies or []) if text != f"mom-core=={__version__}"]
    if not stated:
        return ""  # mom's own plugins: do not import a parser of versions
    from packaging.requirements import InvalidRequirement, Requirement

    with suppress(InvalidRequirement):
        for requirement in map(Requirement, stated):
            applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if applies and not requirement.specifier.contains(__version__, prereleases=True):
                return str(requirement)
    return ""


def _examined(available: AvailablePlugin, target: object) -> LoadedPlugin:
    from mom_core.settings import PluginSettings

    if not isinstance(target, type):
        raise available.error(f"is not a class: {available.target} is of type {type(target).__name__}")
    settings = getattr(target, "Settings", PluginSettings)
    guest_settings = getattr(target, "GuestSettings", None)
    settings.model_rebuild()
    if guest_settings:
        guest_settings.model_rebuild()
        guest_settings()  # guests without a matching pattern need the defaults
    return LoadedPlugin(available.name, available.distribution, available.version, target, settings, guest_settings)


# --- errors --------------------------------------------------------------------------------------------------------------------


def _missing(name: str, present: Iterable[str]) -> PluginError:
    own = catalog()
    meant = name if name in own else suggestion(name, [*present, *own])
    question = f"did you mean {meant!r}? " if meant != name else ""
    if meant in own and meant not in present:
        hint = f"{question}It comes with {own[meant].distribution}: {how_to_install(own[meant].distribution)}"
    elif meant:
        hint = question.strip()
    else:
        hint = f"no distribution in {sys.prefix} has a {GROUP!r} entry point of this name; `mom plugin list` shows the installed plugins"
    return PluginError(f"plugin '{printable(name)}' is not installed", plugin=name, hint=hint)


def _provided_twice(name: str, entries: Sequence[AvailablePlugin]) -> PluginError:
    providers = [f"{entry.distribution} {entry.version} ({entry.target})" for entry in entries]
    several = list(dict.fromkeys(entry.distribution for entry in entries))
    message = f"plugin '{printable(name)}' is provided by {' and by '.join(providers)}"
    hint = "keep one: " + " or ".join(f"`pip uninstall {distribution}`" for distribution in several)
    return PluginError(message, plugin=name, distribution=", ".join(several), hint=hint)
