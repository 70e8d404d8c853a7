"""Many hosts for mom: policies by group, the state of all hosts, and hosts that are drained."""

from mom_plugins_fleet.plugin import FleetPlugin as FleetPlugin
