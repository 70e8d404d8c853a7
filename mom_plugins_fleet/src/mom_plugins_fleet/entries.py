"""The verbs, for `mom --help`: each is imported when it is used."""

from typing import Final

from mom_daemon import Verb

FLEET: Final = Verb("mom_plugins_fleet.verbs.fleet:fleet", "Many hosts: policies, state, draining.", "Operate")
