"""Verb `mom policy`, and its subcommands, imported at first use."""

from typing import Final

import click

from mom_daemon import Verb, VerbGroup

POLICY: Final = Verb("mom_plugins_policy.entries:policy_command", "Check, try, explain and change policies.", "Change")

_VERBS: Final = "mom_plugins_policy.cli.verbs"

SUBCOMMANDS: Final = {
    "check": Verb(f"{_VERBS}:check_command", "Find mistakes in policies before they go live."),
    "eval": Verb(f"{_VERBS}:eval_command", "Evaluate policies or expressions on a snapshot."),
    "explain": Verb(f"{_VERBS}:explain_command", "Show decisions about a guest with their reasons."),
    "defaults": Verb(f"{_VERBS}:defaults_command", "Print the default policies that installed plugins bring."),
    "snapshot": Verb(f"{_VERBS}:snapshot_command", "Print a snapshot of this host, or an example, as JSON."),
}


@click.group("policy", cls=VerbGroup, verbs=SUBCOMMANDS)
def policy_command() -> None:
    """Check policies, evaluate them on snapshots, and explain their decisions.

    These commands change nothing, and need no running mom. Fields, controls and default policies come from the configured
    plugins, or from all installed plugins if there is no configuration.
    """
