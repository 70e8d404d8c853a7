"""Log of a running mom. A full disk or a flood of lines does not delay a cycle."""

from mom_daemon.logs.log import Log as Log
