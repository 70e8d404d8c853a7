"""Installed importers for `mom config import`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import click

from mom_core import MomError, printable
from mom_core.plugins.discovery import available_plugins, how_to_install, load_plugins, suggestion
from mom_daemon import print_prose
from mom_daemon.config.imported import Importer, read_foreign
from mom_daemon.plugins.class_hooks import offered

BROUGHT_BY: Final[Mapping[str, str]] = {"ksmtuned": "mom-plugins-ksm", "momd": "mom-plugins-vdsm", "proxmox": "mom-plugins-qemu"}
"""Packages of this project with importers, keyed by kind."""


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
    """Return the importer of a kind; None means the default kind. Raise `click.UsageError`."""
    brought = installed_importers()
    meant = [importer for name, (importer, _) in brought.items() if (importer.assumed if kind is None else name == kind)]
    if len(meant) == 1:
        return meant[0]
    fault = "give the kind of the file with --from KIND" if kind is None else f"no installed plugin imports {printable(kind, 60)!r}"
    wanted_kind = "momd" if kind is None else kind
    if wanted_kind in BROUGHT_BY and wanted_kind not in brought:
        whose = "files of oVirt's MOM need" if kind is None else "it needs"
        raise click.UsageError(f"{fault}; {whose} {BROUGHT_BY[wanted_kind]}: {how_to_install(BROUGHT_BY[wanted_kind])}")
    alike = suggestion(kind or "", brought)
    if alike:
        raise click.UsageError(f"{fault} (did you mean {alike!r}?)")
    kinds = "; ".join(f"{name}, {importer.what} ({distribution})" for name, (importer, distribution) in brought.items()) or "none"
    raise click.UsageError(f"{fault} (the installed plugins import: {kinds}; `mom plugin list` shows how to install more)")


def texts_of(importer: Importer, named: Sequence[Path]) -> Mapping[str, str]:
    """Return the contents of files, keyed by path, or raise `MomError`."""
    paths = list(named)
    if importer.several:
        paths = [file for path in named for file in (sorted(path.glob(importer.several)) if path.is_dir() else [path])]
        if not paths:
            raise MomError(
                f"there is no {importer.several} in {', '.join(map(str, named))}", hint="give the paths of the files, or of their folder"
            )
    elif len(paths) > 1:
        raise click.UsageError("give the path of one file only")
    return {str(path): read_foreign(path) for path in paths}
