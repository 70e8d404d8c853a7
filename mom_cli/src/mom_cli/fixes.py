"""`mom doctor --fix`: the commands that put right what was found, shown first, and run when the operator has said yes.

mom runs as root on machines full of other people's guests, so: no shell, no program from a PATH that another user could have set, no
words but those that stand in mom's own code, and a limit on how long each may take.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import click

from mom_core import Config, Finding, Fix, print_prose, printable_lines
from mom_core.plugins.discovery import own_distributions

WRITE_CONFIGURATION: Final = Fix((("mom", "config", "init"),), "writes /etc/mom/mom.yaml; nothing is overwritten", harmless=True)
ADD_WHAT_FITS: Final = Fix((("mom", "config", "add"),), "adds the plugins that fit this host to /etc/mom/mom.yaml, where all else stays")
PUT_BACK: Final = Fix((("mom", "restore"),), "puts back what an earlier mom has changed: guests and KSM are then as they were before it")

PATH: Final = "/usr/sbin:/usr/bin:/sbin:/bin"
SECONDS: Final = 300.0
"""How long one command may take: a `mom restore` with a slow hypervisor, or a unit that stops."""

SHOWN_OUTPUT: Final = 4000
"""Characters of what a command says: more than any of these says when all is well."""


def fixes(findings: Iterable[tuple[str, Finding]], config: Config) -> Iterator[tuple[Finding, Fix]]:
    """What may be run: fixes that mom's own distributions name, each once, where what was looked at is this host and no copy of one.

    :param findings: each with the plugin that says it, or `core`
    """
    own = {"mom-core", *own_distributions()}
    seen: set[Fix] = set()
    for name, finding in findings:
        distribution = config.plugins[name].loaded.distribution if name in config.plugins else "mom-core"
        if finding.fix is not None and finding.fix not in seen and distribution in own and config.root == Path("/"):
            seen.add(finding.fix)
            yield finding, finding.fix


def offer_fixes(offered: Iterable[tuple[Finding, Fix]], *, yes: bool) -> bool:
    """Show each fix, ask, and run it; whether one was run.

    :param yes: do not ask about what is harmless
    """
    ran, shown = False, False
    for finding, fix in offered:
        shown = True
        print_prose(f"\n{finding.subject}: {finding.message}", 2)
        for command in fix.commands:
            print_prose(f"    {shlex.join(command)}", 6)
        print_prose(f"  {fix.effect}", 2)
        if (fix.harmless and yes) or _agreed():
            ran = True
            _run(fix)
    if not shown:
        print_prose("\nThere is nothing that commands alone would put right.")
    return ran


def _agreed() -> bool:
    """What the operator says, at a terminal; no, where none asks and answers."""
    if not sys.stdin.isatty():
        print_prose("  not run: there is no terminal to ask at", 2)
        return False
    return click.confirm("  run this?", default=False)


def _run(fix: Fix) -> None:
    """Run its commands one after the other, until one fails."""
    for command in fix.commands:
        said = _outcome(command)
        print_prose(f"  {said or 'done'}: {shlex.join(command)}", 4)
        if said:
            return


def _outcome(command: tuple[str, ...]) -> str:
    """Why it failed; empty when it did not."""
    program = shutil.which(command[0], path=PATH)
    words = [sys.executable, "-I", "-m", "mom_core"] if command[0] == "mom" else [program] if program else []
    if not words:
        return f"not run: there is no {command[0]} in {PATH}"
    environment = {"PATH": PATH, "LANG": "C.UTF-8", "HOME": os.environ.get("HOME", "/")}
    done = None
    try:
        done = subprocess.run(
            [*words, *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=SECONDS,
            env=environment,
            cwd="/",
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"stopped, as it did not end within {SECONDS:g} s"
    except OSError as error:
        return f"cannot be run: {error.strerror}"
    for line in printable_lines(done.stdout.decode("utf-8", "backslashreplace")[:SHOWN_OUTPUT]).splitlines():
        print_prose(f"    {line}", 6)
    return f"failed with {done.returncode}" if done.returncode else ""
