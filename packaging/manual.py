"""Writes a page of the manual for each verb: `python packaging/manual.py FOLDER VERSION PROGRAM…`.

Where mom and click-man can be imported.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Final

import click
from click_man.core import write_man_pages

COMMANDS: Final = {"mom": ("mom_daemon.cli.frame", "mom"), "momd": ("mom_plugins_vdsm.momd.daemon", "momd")}
"""By program, the module of its command, and how it is called there."""


def main(folder: str, version: str, *programs: str) -> None:
    """Write the manual pages of these programs."""
    for program in programs:
        module, attribute = COMMANDS[program]
        command: click.Command = getattr(import_module(module), attribute)
        name = command.name or ""
        _find_verbs(command, click.Context(command, info_name=name))
        write_man_pages(name, command, version=f"mom {version}", target_dir=folder)
    for page in Path(folder).iterdir():
        page.write_text(_as_groff_reads_it(page.read_text()))


def _find_verbs(group: click.Command, context: click.Context) -> None:
    """Verbs are imported when they are used, and click-man looks for those that are there."""
    if isinstance(group, click.Group):
        for name in group.list_commands(context):
            verb = group.get_command(context, name)
            if verb is not None:
                group.commands[name] = verb
                _find_verbs(verb, click.Context(verb, parent=context, info_name=name))


def _as_groff_reads_it(text: str) -> str:
    r"""Translate click's mark (\b: do not wrap this paragraph) and lines that look like requests for groff."""
    lines: list[str] = []
    unwrapped = False
    for line in text.splitlines():
        if line == "\b":
            unwrapped = True
            lines.append(".nf")
            continue
        if unwrapped and (line == ".PP" or line.startswith(".SH")):
            unwrapped = False
            lines.append(".fi")
        # click-man writes requests of these kinds only; any other line that begins so is a text's, such as "./policies".
        request = line.split(" ")[0] in {".TH", ".SH", ".PP", ".B", ".TP"}
        lines.append(line if request or not line.startswith((".", "'")) else rf"\&{line}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(*sys.argv[1:])
