"""`mom policy`: check, evaluate and explain policies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import click

from mom_daemon import Verb, VerbGroup

VERBS: Final[Mapping[str, Verb]] = {
    "check": Verb("mom_plugins_policy.cli.verbs:check_command", "Find mistakes in policies before they go live."),
    "eval": Verb("mom_plugins_policy.cli.verbs:eval_command", "Evaluate policies or expressions on a snapshot."),
    "explain": Verb("mom_plugins_policy.cli.verbs:explain_command", "Show decisions about a guest with their reasons."),
    "defaults": Verb("mom_plugins_policy.cli.verbs:defaults_command", "Print the default policies that installed plugins bring."),
    "snapshot": Verb("mom_plugins_policy.cli.verbs:snapshot_command", "Print a snapshot of this host, or an example, as JSON."),
}


@click.group("policy", cls=VerbGroup, verbs=VERBS)
def policy_command() -> None:
    """Check policies, evaluate them on snapshots, and explain their decisions.

    These commands change nothing, and need no running mom. Fields, controls and default policies come from the configured
    plugins, or from all installed plugins if there is no configuration.
    """
