"""Declarations of plugins and faults in their settings, without setup."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from mom_core import Config, Declaration, Declarations, Finding, MomError, PluginError, Severity, load_config
from mom_core.config import ConfiguredPlugin
from mom_core.plugins.discovery import available_plugins
from mom_core.plugins.registry import SETUP_SECONDS, Plugin, constructed, guarded, joined, raise_all


def declared_by(config: Config, left_out: list[PluginError] | None = None) -> dict[str, tuple[Declaration, ...]]:
    """Return each configured plugin's declarations.

    :param left_out: collects errors of unusable plugins; without it, `PluginError` is raised
    """
    errors: list[PluginError] = [] if left_out is None else left_out
    with constructed(config, errors) as plugins:
        if left_out is None:
            raise_all(errors)
        return {plugin.name: plugin.declared for plugin in plugins}


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
