"""`mom config import`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from mom_daemon import as_caller, print_text
from mom_plugins_vdsm.momd.imported import read_text
from mom_plugins_vdsm.momd.importer import import_momd

HOW_TO_ACT: Final = "`mom status` shows what mom would do. To make mom act, write enforce here, then: systemctl reload mom"


@click.command("import")
@click.argument("old", type=click.Path(path_type=Path))
@click.option(
    "--observe/--enforce",
    "observe",
    default=None,
    help="Mode in the new file. With observe, mom decides and reports, but changes nothing. Default: enforce if oVirt's MOM was active with"
    " the imported file, otherwise observe.",
)
@as_caller
def import_command(old: Path, observe: bool | None) -> None:
    """Convert the configuration of oVirt's MOM to mom's, and print it. Comments explain the result for each setting.

    \b
      mom config import /etc/vdsm/mom.conf > /etc/mom/mom.yaml
    """
    imported = import_momd(read_text(old), str(old))
    if imported.log.file:
        imported.notes.append(
            f"log: {imported.log.file}, max-bytes, backup-count: `mom run` writes to standard error, which systemd stores in its journal; "
            "`momd` writes to that file, and rotates it, as before"
        )
    observe = imported.top.settings.get("mode") != "enforce" if observe is None else observe
    imported.top.set("mode", "observe" if observe else "enforce", HOW_TO_ACT if observe else "")
    print_text(imported.yaml())
