"""What `mom config import` can read: importers that the installed plugins bring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import click

from mom_cli.class_hooks import offered_list
from mom_cli.imported import Importer, read_foreign
from mom_core import MomError, print_prose, printable
from mom_core.plugins.discovery import available_plugins, load_plugins, suggestion


class Brought(NamedTuple):
    """An importer, and the distribution that brings it."""

    importer: Importer
    distribution: str


def installed_importers() -> Mapping[str, Brought]:
    """All importers by kind, in the order of the kinds. About a plugin that is broken, there is a remark; the others count."""
    found: dict[str, Brought] = {}
    loaded, errors = load_plugins(list(available_plugins()))
    remarks: list[MomError] = list(errors)
    for plugin in loaded.values():
        try:
            offers = offered_list(plugin, "mom_importers", Importer)
        except MomError as error:
            remarks.append(error)
            continue
        for importer in offers:
            other = found.setdefault(importer.kind, Brought(importer, plugin.distribution))
            if other.importer is not importer:
                remarks.append(MomError(f"{plugin.distribution} imports {importer.kind!r}, which {other.distribution} does already"))
    for remark in remarks:
        print_prose(f"mom: warning: {remark}", 2, err=True)
    return dict(sorted(found.items()))


def importer_of(kind: str | None) -> Importer:
    """The importer of a kind; of the one that is assumed, for None. Raises `MomError` that says which there are."""
    found = installed_importers()
    assumed = [brought.importer for brought in found.values() if brought.importer.assumed]
    if kind is not None and kind in found:
        return found[kind].importer
    if kind is None and len(assumed) == 1:
        return assumed[0]
    what = "say what it is, with --from KIND" if kind is None else f"no installed plugin imports {printable(kind, 60)!r}"
    meant = suggestion(kind or "", found)
    if meant:
        raise MomError(what, hint=f"did you mean {meant!r}?")
    known = ", ".join(f"{name} ({brought.distribution})" for name, brought in found.items()) or "none"
    raise MomError(what, hint=f"the installed plugins import: {known}; `mom plugin list` says how to have more")


def texts_of(importer: Importer, named: Sequence[Path]) -> Mapping[str, str]:
    """The texts of the files that the operator named, by path. Raises `MomError`."""
    paths = list(named)
    if importer.several:
        paths = [file for path in named for file in (sorted(path.glob(importer.several)) if path.is_dir() else [path])]
        if not paths:
            raise MomError(f"there is no {importer.several} in {', '.join(map(str, named))}", hint="name the files, or their folder")
    elif len(paths) > 1:
        raise click.UsageError("name one file")
    return {str(path): read_foreign(path) for path in paths}
