"""Installed importers for `mom config import`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import click

from mom_core import MomError, printable
from mom_core.plugins.discovery import available_plugins, how_to_install, load_plugins, suggestion
from mom_daemon import print_prose
from mom_daemon.config.imported import Importer
from mom_daemon.plugins.class_hooks import offered

BROUGHT_BY: Final[Mapping[str, str]] = {"ksmtuned": "mom-plugins-ksm", "momd": "mom-plugins-vdsm", "proxmox": "mom-plugins-qemu"}
"""mom's packages with importers, keyed by kind."""


def installed_importers() -> Mapping[str, tuple[Importer, str]]:
    """Return importers with their packages, keyed by kind. Warn about broken plugins."""
    brought: dict[str, tuple[Importer, str]] = {}
    loaded, errors = load_plugins(list(available_plugins()))
    remarks: list[MomError] = list(errors)
    for plugin in loaded.values():
        try:
            for importer in offered(plugin, "mom_importers", each=Importer):
                brought.setdefault(importer.kind, (importer, plugin.distribution))
        except MomError as error:
            remarks.append(error)
    for remark in remarks:
        print_prose(f"mom: warning: {remark}", 2, err=True)
    return dict(sorted(brought.items()))


def importer_of(kind: str | None) -> Importer:
    """Return the importer of a kind; None means the default kind."""
    brought = installed_importers()
    meant = [importer for name, (importer, _) in brought.items() if (importer.assumed if kind is None else name == kind)]
    if len(meant) == 1:
        return meant[0]
    fault = "give the kind of the file with --from KIND" if kind is None else f"no installed plugin imports {printable(kind, 60)!r}"
    package = BROUGHT_BY.get(kind or "momd", "")
    alike = suggestion(kind or "", brought)
    kinds = "; ".join(f"{name}, {importer.what} ({distribution})" for name, (importer, distribution) in brought.items()) or "none"
    if package and (kind or "momd") not in brought:
        advice = f"{kind or 'momd'} comes with {package}: {how_to_install(package)}"
    else:
        advice = f"did you mean {alike!r}?" if alike else f"the installed plugins import: {kinds}"
    raise click.UsageError(f"{fault} ({advice})")


def texts_of(importer: Importer, named: Sequence[Path]) -> Mapping[str, str]:
    """Return the contents of the named files, or of the importer's files in the named folders, keyed by path."""
    paths = list(named)
    if importer.several:
        paths = [file for path in named for file in (sorted(path.glob(importer.several)) if path.is_dir() else [path])]
        if not paths:
            raise MomError(
                f"there is no {importer.several} in {', '.join(map(str, named))}", hint="give the paths of the files, or of their folder"
            )
    elif len(paths) > 1:
        raise click.UsageError("give the path of one file only")
    return {str(path): Importer.read(path) for path in paths}
