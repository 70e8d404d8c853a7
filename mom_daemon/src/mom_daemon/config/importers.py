"""Installed importers for `mom config import`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import click

from mom_core import MomError, printable
from mom_core.plugins.discovery import available_plugins, how_to_install, load_plugins
from mom_daemon import print_prose
from mom_daemon.config.imported import Importer
from mom_daemon.plugins.class_hooks import offered

BROUGHT_BY: Final[Mapping[str, str]] = {"momd": "mom-plugins-vdsm"}
"""mom's packages with importers, keyed by kind."""


def installed_importers() -> Mapping[str, Importer]:
    """Return importers keyed by kind. Warn about broken plugins."""
    importers: dict[str, Importer] = {}
    loaded, errors = load_plugins(list(available_plugins()))
    remarks: list[MomError] = list(errors)
    for plugin in loaded.values():
        try:
            importers |= {importer.kind: importer for importer in offered(plugin, "mom_importers", each=Importer)}
        except MomError as error:
            remarks.append(error)
    for remark in remarks:
        print_prose(f"mom: warning: {remark}", 2, err=True)
    return importers


def importer_of(kind: str) -> Importer:
    """Return the importer of a kind."""
    importers = installed_importers()
    if kind in importers:
        return importers[kind]
    if package := BROUGHT_BY.get(kind):
        advice = f"{kind} comes with {package}: {how_to_install(package)}"
    else:
        advice = f"the installed plugins import: {'; '.join(f'{name}, {importer.what}' for name, importer in importers.items()) or 'none'}"
    raise click.UsageError(f"no installed plugin imports {printable(kind, 60)!r} ({advice})")
