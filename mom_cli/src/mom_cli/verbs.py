"""The verbs, for `mom --help`: each is imported when it is used."""

from __future__ import annotations

from typing import Final

from mom_core import Verb

HERE: Final = Verb("mom_cli.here:here_command", "Say what is seen of this host, and what to type next; `mom` alone says the same.")
STATUS: Final = Verb("mom_cli.status:status_command", "Show how the host is, whether mom runs, and what it did last.")
GUESTS: Final = Verb("mom_cli.status:guests_command", "Show all guests with their memory.")
EXPLAIN: Final = Verb("mom_cli.explain:explain_command", "Say why a guest has the size that it has.")
DOCTOR: Final = Verb("mom_cli.doctor:doctor_command", "Say what on this host keeps mom from working, and the cure.")
FIELDS: Final = Verb("mom_cli.fields:fields_command", "List what policies can read and set.")
CONFIG: Final = Verb("mom_cli.config_verbs:config_command", "Write, check and show the configuration.")
PLUGIN: Final = Verb("mom_cli.plugin_verbs:plugin_command", "List the installed plugins, and look at one.")
COMPLETION: Final = Verb("mom_cli.completion:completion_command", "Print the script that makes a shell complete mom's verbs and options.")
BUGREPORT: Final = Verb("mom_cli.bugreport:bugreport_command", "Collect what a support engineer asks for, without secrets.")
