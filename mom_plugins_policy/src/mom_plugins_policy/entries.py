"""Verbs of `mom --help`, imported at first use."""

from typing import Final

from mom_daemon import Verb

POLICY: Final = Verb("mom_plugins_policy.cli:policy_command", "Check, try, explain, test and change policies.", "Change")
