"""The log of a running mom; a full disk or a flood of lines harms no cycle."""

from mom_daemon.logs.log import Log as Log
