"""How a running mom logs: what a line holds, who writes it down, and that neither a full disk nor a flood of errors harms a cycle."""

from mom_daemon.logs.log import Log as Log
