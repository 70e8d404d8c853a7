"""Subcommands in `mom --help`, imported at first use."""

from typing import Final

from mom_daemon import Verb

FLEET: Final = Verb("mom_plugins_fleet.verbs.fleet:fleet", "Manage many hosts: policies, state, draining.", "Operate")
