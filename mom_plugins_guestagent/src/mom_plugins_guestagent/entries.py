"""Subcommands of `mom --help`, imported when they run."""

from typing import Final

from mom_daemon import Verb

GUESTD_SCRIPT: Final = Verb(
    "mom_plugins_guestagent.script:guestd_script", "Print mom-guestd, the daemon that runs inside guests.", "Operate"
)
