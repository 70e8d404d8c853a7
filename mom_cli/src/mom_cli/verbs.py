"""The verbs, for `mom --help`: each is imported when it is used."""

from typing import Final

from mom_daemon import Verb

HERE: Final = Verb("mom_cli.here:here_command", "")
STATUS: Final = Verb("mom_cli.status:status_command", "Show how the host is, whether mom runs, and what it did last.", "Look")
GUESTS: Final = Verb("mom_cli.status:guests_command", "Show all guests with their memory.", "Look")
EXPLAIN: Final = Verb("mom_cli.explain:explain_command", "Say why a guest has the size that it has.", "Look")
DOCTOR: Final = Verb("mom_cli.doctor:doctor_command", "Say what on this host keeps mom from working, and the cure.", "Operate")
FIELDS: Final = Verb("mom_cli.fields:fields_command", "List what policies can read and set.", "Look")
CONFIG: Final = Verb("mom_cli.config_verbs:config_command", "Write, check and show the configuration.", "Change")
PLUGIN: Final = Verb(
    "mom_cli.plugin_verbs:plugin_command", "List the installed plugins, look at one, begin one, check one.", "Write plugins"
)
COMPLETION: Final = Verb("mom_cli.completion:completion_command", "")
BUGREPORT: Final = Verb("mom_cli.bugreport:bugreport_command", "Collect what a support engineer asks for, without secrets.", "Operate")
