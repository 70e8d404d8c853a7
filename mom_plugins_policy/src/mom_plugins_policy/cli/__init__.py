"""`mom policy`: check policies, try them, have them explained and tested, and lay them out. Verbs are imported when they are used."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Final, NamedTuple

import click


class Verb(NamedTuple):
    """Where a verb's command is, and what `mom policy --help` says of it without importing it."""

    target: str
    summary: str


VERBS: Final[Mapping[str, Verb]] = {
    "check": Verb("check:check_command", "Find mistakes in policies, and prove that they keep bounds."),
    "eval": Verb("evaluate:eval_command", "Evaluate policies or expressions on a snapshot."),
    "explain": Verb("explain:explain_command", "Say why a policy decides what it decides, or decides nothing."),
    "test": Verb("test:test_command", "Run tests of policies: given fields, expected decisions."),
    "repl": Verb("repl:repl_command", "Try the language line by line."),
    "fmt": Verb("fmt:fmt_command", "Lay policies out, comments kept."),
    "defaults": Verb("defaults:defaults_command", "Print the default policies that installed plugins bring."),
    "snapshot": Verb("snapshot:snapshot_command", "Print a snapshot of this host, or an example, as JSON."),
}
"""In the order in which `mom policy --help` shows them."""


class PolicyGroup(click.Group):
    """The group of all verbs about policies."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All verbs, in the order of `VERBS`, and then those that other plugins bring."""
        return [*VERBS, *self.commands]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb's command, imported now."""
        verb = VERBS.get(cmd_name)
        if verb is None:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = verb.target.partition(":")
        command: click.Command = getattr(import_module(f"{__name__}.{module}"), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of verbs, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, verb.summary) for name, verb in VERBS.items()])
        if self.commands:
            with formatter.section("Commands for a running mom"):
                formatter.write_dl([(name, command.get_short_help_str(limit=90)) for name, command in self.commands.items()])


@click.group("policy", cls=PolicyGroup)
def policy_command() -> None:
    """Check policies, try them on snapshots, have their decisions explained, test them, lay them out.

    Nothing here changes anything on the host or needs a running mom, but what stands below as for one: that is the plugin http's.
    """
