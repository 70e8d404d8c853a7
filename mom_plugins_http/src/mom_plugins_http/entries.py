"""The verbs, for `mom --help`: each is imported when it is used."""

from __future__ import annotations

from typing import Final

from mom_daemon import Verb

ADMIT: Final = Verb("mom_plugins_http.cli.admit_verb:admit_command", "Say whether another guest fits.", "Look")
EVENTS: Final = Verb(
    "mom_plugins_http.cli.looking_verbs:events_command",
    "Show the last cycle, what came of its decisions, or what happens next.",
    "Look",
)
HISTORY: Final = Verb(
    "mom_plugins_http.cli.looking_verbs:history_command", "Show what a guest, or the host, had in the last cycles.", "Look"
)
LOG_LEVEL: Final = Verb("mom_plugins_http.cli.log_level_verb:log_level_command", "Show or change how much a running mom logs.", "Operate")
PAGE: Final = Verb("mom_plugins_http.cli.page_verb:page_command", "Open the web page to one browser, through ssh.", "Look")
RESERVE: Final = Verb("mom_plugins_http.cli.reserve_verbs:reserve_command", "Have memory made and kept for a launch.", "Change")
TOP: Final = Verb("mom_plugins_http.top.verb:top_command", "Watch the host, its guests and what mom decides, live.", "Look")
POLICY_CANARY: Final = Verb(
    "mom_plugins_http.cli.policy_verbs:canary_command", "Try policies on some guests first.", "Policies of the running mom"
)
POLICY_HISTORY: Final = Verb(
    "mom_plugins_http.cli.policy_verbs:history_command", "Show the last changes of the policies.", "Policies of the running mom"
)
POLICY_LIST: Final = Verb("mom_plugins_http.cli.policy_verbs:list_command", "List the policies in force.", "Policies of the running mom")
POLICY_REMOVE: Final = Verb("mom_plugins_http.cli.policy_verbs:remove_command", "Remove policies.", "Policies of the running mom")
POLICY_RESET: Final = Verb(
    "mom_plugins_http.cli.policy_verbs:reset_command", "Forget what was changed at run time.", "Policies of the running mom"
)
POLICY_ROLLBACK: Final = Verb(
    "mom_plugins_http.cli.policy_verbs:rollback_command", "Make the policies what they were.", "Policies of the running mom"
)
POLICY_SET: Final = Verb("mom_plugins_http.cli.policy_verbs:set_command", "Set policies.", "Policies of the running mom")
POLICY_SHOW: Final = Verb(
    "mom_plugins_http.cli.policy_verbs:show_command", "Print a policy that is in force.", "Policies of the running mom"
)
