"""Subcommands for `mom --help`, whose code is imported when they run."""

from __future__ import annotations

from typing import Final

from mom_daemon import Verb

_CLI: Final = "mom_plugins_http.cli"

ADMIT: Final = Verb(f"{_CLI}.verbs:admit_command", "Check whether more guests fit on this host.", "Look")
EVENTS: Final = Verb(f"{_CLI}.verbs:events_command", "Show the last cycle, or the next events.", "Look")
HISTORY: Final = Verb(f"{_CLI}.verbs:history_command", "Show data of a guest or the host in the last cycles.", "Look")
HOOK: Final = Verb("mom_plugins_http.launch_hook.installed:hook_command", "Make the hypervisor ask mom before it starts a guest.", "Change")
PAGE: Final = Verb(f"{_CLI}.verbs:page_command", "Open the web page in a browser on your own computer, through ssh.", "Look")
RESERVE: Final = Verb(f"{_CLI}.verbs:reserve_command", "Reserve memory for a launch.", "Change")
TOP: Final = Verb("mom_plugins_http.top.verb:top_command", "Watch the host, its guests and mom's decisions, live.", "Look")


def _of_policies(function: str, summary: str) -> Verb:
    return Verb(f"{_CLI}.policy_verbs:{function}_command", summary, "Policies of the running mom")


POLICY_HISTORY: Final = _of_policies("history", "Show the last changes of the policies.")
POLICY_LIST: Final = _of_policies("list", "List the policies in force.")
POLICY_REMOVE: Final = _of_policies("remove", "Remove policies.")
POLICY_RESET: Final = _of_policies("reset", "Drop all changes made at run time, and read the files again.")
POLICY_ROLLBACK: Final = _of_policies("rollback", "Restore an earlier version of all policies.")
POLICY_SET: Final = _of_policies("set", "Set policies.")
POLICY_SHOW: Final = _of_policies("show", "Print a policy in force.")
