"""Plugins in folders that are not installed: a project with its `pyproject.toml`, or what `pip install --target` has filled."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import Distribution, EntryPoint, distributions, entry_points
from pathlib import Path
from typing import Final

from mom_core import MomError, PluginError
from mom_core.plugins.discovery import GROUP, AvailablePlugin, Entry, LoadedPlugin, load_entries, on_core

LARGEST_PYPROJECT: Final = 1 << 20
"""Bytes. No pyproject.toml is that large; something else of that name is not read into memory."""


@dataclass(frozen=True, slots=True)
class Project:
    """A distribution as its files state it, without importing anything of it.

    `entries` are its plugins; `imports` is the folder from which they are imported. `version` is empty where the build computes it.
    """

    folder: Path
    name: str
    version: str
    summary: str
    requires: tuple[str, ...]
    entries: tuple[EntryPoint, ...]
    imports: Path

    @property
    def core(self) -> list[str]:
        """What it requires of mom-core."""
        return on_core(self.requires)


def projects_in(folder: Path) -> list[Project]:
    """The project that a folder is, or the distributions that were installed into it. Raises `MomError` when it is neither."""
    if not folder.is_dir():
        raise MomError(f"{folder} is no folder", hint="name the folder that holds the plugin's pyproject.toml")
    if (folder / "pyproject.toml").is_file():
        return [read_project(folder)]
    found = [_of_distribution(one, folder) for one in distributions(path=[str(folder)])]
    found = [project for project in found if project.entries]
    if not found:
        hint = 'it needs a pyproject.toml with [project.entry-points."mom.plugins"], or must be filled by `pip install --target`'
        raise MomError(f"{folder} holds no plugin", hint=hint)
    return found


def read_project(folder: Path) -> Project:
    """The project in a folder with a pyproject.toml. Raises `MomError` when it names no plugin."""
    path = folder / "pyproject.toml"
    try:
        if path.stat().st_size > LARGEST_PYPROJECT:
            raise MomError(f"{path} is too large to be one")
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MomError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise MomError(f"{path} cannot be read: {error}", hint="compare it with one that `mom plugin new` writes") from error
    project = _mapping(content.get("project"))
    entries = _mapping(_mapping(project.get("entry-points")).get(GROUP))
    if not entries:
        raise MomError(f"{path} names no plugin", hint=f'add [project.entry-points."{GROUP}"] with a line `name = "module:Class"`')
    dependencies = project.get("dependencies")
    return Project(
        folder,
        str(project.get("name", folder.name)),
        str(project.get("version", "")),
        str(project.get("description", "")),
        tuple(map(str, dependencies)) if isinstance(dependencies, list) else (),
        tuple(EntryPoint(str(name), str(value), GROUP) for name, value in entries.items()),
        folder / "src" if (folder / "src").is_dir() else folder,
    )


def load_project(project: Project, name: str) -> LoadedPlugin:
    """A plugin of a project that is being worked on, whether or not it is installed too: the project's own files come first.

    :raises PluginError: as `load_plugins` gives it
    """
    point = next(point for point in project.entries if point.name == name)
    available = AvailablePlugin(name, project.name, project.version or "in a folder", point.value)
    sys.path.insert(0, str(project.imports))
    result = load_entries({name: Entry(available, point, lambda: project.core)})[name]
    if isinstance(result, PluginError):
        raise result
    return result


def project_above(path: Path) -> Project | None:
    """The project to whose files this one belongs, if it names plugins."""
    for folder in path.parents:
        if (folder / "pyproject.toml").is_file():
            try:
                return read_project(folder)
            except MomError:
                return None
    return None


def installed_project(names: Callable[[str], bool]) -> Project | None:
    """The installed distribution that has a plugin of mom's whose target these are the names of, such as `mom_acme:AcmePlugin`."""
    for entry in entry_points(group=GROUP):
        if entry.dist is not None and names(entry.value):
            return _of_distribution(entry.dist, Path(str(entry.dist.locate_file(""))))
    return None


def _of_distribution(one: Distribution, folder: Path) -> Project:
    about = one.metadata
    entries = tuple(one.entry_points.select(group=GROUP))
    return Project(folder, about["Name"], one.version, about["Summary"] or "", tuple(one.requires or ()), entries, folder)


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}
