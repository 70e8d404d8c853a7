"""The verbs, for `mom --help`: each is imported when it is used."""

from __future__ import annotations

from typing import Final

from mom_daemon import Verb

ADMIT: Final = Verb("mom_plugins_http.cli.admit_verb:admit_command", "Say whether another guest fits.", "Look")
EVENTS: Final = Verb(
    "mom_plugins_http.cli.looking_verbs:events_command", "Show the last cycle, what came of its decisions, or what happens next.", "Look"
)
HISTORY: Final = Verb(
    "mom_plugins_http.cli.looking_verbs:history_command", "Show what a guest, or the host, had in the last cycles.", "Look"
)
HOOK: Final = Verb("mom_plugins_http.cli.hook_verbs:hook_command", "Have the hypervisor ask mom before a guest starts.", "Change")
PAGE: Final = Verb("mom_plugins_http.cli.page_verb:page_command", "Open the web page to one browser, through ssh.", "Look")
RESERVE: Final = Verb("mom_plugins_http.cli.reserve_verbs:reserve_command", "Have memory made and kept for a launch.", "Change")
TOP: Final = Verb("mom_plugins_http.top.verb:top_command", "Watch the host, its guests and what mom decides, live.", "Look")


def _of_policies(function: str, summary: str) -> Verb:
    return Verb(f"mom_plugins_http.cli.policy_verbs:{function}_command", summary, "Policies of the running mom")


POLICY_HISTORY: Final = _of_policies("history", "Show the last changes of the policies.")
POLICY_LIST: Final = _of_policies("list", "List the policies in force.")
POLICY_REMOVE: Final = _of_policies("remove", "Remove policies.")
POLICY_RESET: Final = _of_policies("reset", "Forget what was changed at run time.")
POLICY_ROLLBACK: Final = _of_policies("rollback", "Make the policies what they were.")
POLICY_SET: Final = _of_policies("set", "Set policies.")
POLICY_SHOW: Final = _of_policies("show", "Print a policy that is in force.")
