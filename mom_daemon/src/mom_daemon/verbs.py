"""Verbs for `mom --help`, each imported when used."""

from typing import Final

from mom_daemon import Verb

RESTORE: Final = Verb("mom_daemon.restore:restore_command", "Restore values that an earlier run of mom changed.", "Operate")
RUN: Final = Verb("mom_daemon.run:run_command", "Manage this host until SIGTERM, then restore all values.", "Operate")
STATUS: Final = Verb("mom_daemon.look.status:status_command", "Show the state of the host and of mom, and mom's last cycle.", "Look")
GUESTS: Final = Verb("mom_daemon.look.status:guests_command", "Show all guests with their memory.", "Look")
EXPLAIN: Final = Verb("mom_daemon.explain.verb:explain_command", "Explain the size of a guest.", "Look")
DOCTOR: Final = Verb("mom_daemon.doctor:doctor_command", "Examine this host and print its faults with their fixes.", "Operate")
FIELDS: Final = Verb("mom_daemon.plugins.verbs:fields_command", "List the fields and controls that policies can use.", "Look")
CONFIG: Final = Verb("mom_daemon.config.verbs:config_command", "Write, check and show the configuration.", "Change")
PLUGIN: Final = Verb("mom_daemon.plugins.verbs:plugin_command", "List, show, create and check plugins.", "Write plugins")
