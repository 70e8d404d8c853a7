"""Write a manual page for each command: `python packaging/manual.py FOLDER VERSION PROGRAM…`.

Needs an environment with mom and click-man.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Final

import click
from click_man.core import write_man_pages

COMMANDS: Final = {"mom": ("mom_daemon.cli.frame", "mom"), "momd": ("mom_plugins_vdsm.momd.daemon", "momd")}
"""Module and name of the command of each program."""


def main(folder: str, version: str, *programs: str) -> None:
    """Write the manual pages of these programs."""
    for program in programs:
        module, attribute = COMMANDS[program]
        command: click.Command = getattr(import_module(module), attribute)
        name = command.name or ""
        _import_commands(command, click.Context(command, info_name=name))
        write_man_pages(name, command, version=f"mom {version}", target_dir=folder)
    for page in Path(folder).iterdir():
        page.write_text(_escape_for_groff(page.read_text()))


def _import_commands(group: click.Command, context: click.Context) -> None:
    """Import all commands below a group. mom imports commands when they are used, but click-man needs all of them."""
    if isinstance(group, click.Group):
        for name in group.list_commands(context):
            verb = group.get_command(context, name)
            if verb is not None:
                group.commands[name] = verb
                _import_commands(verb, click.Context(verb, parent=context, info_name=name))


def _escape_for_groff(text: str) -> str:
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
        # click-man writes only these requests. Other lines with a leading dot are text, such as "./policies".
        request = line.split(" ")[0] in {".TH", ".SH", ".PP", ".B", ".TP"}
        lines.append(line if request or not line.startswith((".", "'")) else rf"\&{line}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(*sys.argv[1:])
