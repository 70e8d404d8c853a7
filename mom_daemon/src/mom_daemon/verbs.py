"""The verbs that a daemon's unit needs, as help shows them: their modules are imported when they are used."""

from typing import Final

from mom_daemon import Verb

RESTORE: Final = Verb("mom_daemon.restore:restore_command", "Put back what an earlier run has left changed.", "Operate")
RUN: Final = Verb("mom_daemon.run:run_command", "Manage this host until SIGTERM, then put everything back.", "Operate")
