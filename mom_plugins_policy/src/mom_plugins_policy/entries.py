"""The verbs, for `mom --help`: each is imported when it is used."""

from typing import Final

from mom_daemon import Verb

POLICY: Final = Verb("mom_plugins_policy.cli:policy_command", "Check, try, explain, test and change policies.", "Change")
