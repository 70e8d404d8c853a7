"""Where Prometheus finds the metrics of all hosts: pure, in the form that its HTTP service discovery takes.

Names and addresses are those that an operator has signed; a host tells its port only. It could otherwise send Prometheus, and the token
that this shows, wherever it likes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from mom_core import printable
from mom_plugins_fleet.records import HostState, Member
from mom_plugins_fleet.view import FleetView

METRICS_PATH: Final = "/metrics"


@dataclass(frozen=True, slots=True)
class HostTarget:
    """One host: its address for Prometheus, `HOST:PORT`, or why it has none."""

    host: str
    group: str
    address: str = ""
    why: str = ""
    cordoned: bool = False
    draining: bool = False

    def labels(self) -> Mapping[str, str]:
        """What Prometheus is told of it. What begins with `__` is for its own use and for relabelling, and is dropped then."""
        found = {"host": self.host, "group": self.group}
        if self.why:
            return found | {"__meta_mom_why": self.why}
        states = {"__meta_mom_cordoned": self.cordoned, "__meta_mom_draining": self.draining}
        return found | {"__scheme__": "https", "__metrics_path__": METRICS_PATH} | {name: str(so).lower() for name, so in states.items()}


def host_targets(view: FleetView) -> Iterator[HostTarget]:
    """All hosts of the fleet by name, also those that are not believed to be in it, as an operator has to see to them."""
    members = view.members.records
    for name in sorted(members.keys() | view.members.damaged.keys()):
        if name in members:
            yield _target(name, members[name][1], view.states.get(name), view.states.damaged.get(name, ""))
        else:
            yield HostTarget(name, "", why=f"it is not believed to be in the fleet: {printable(view.members.damaged[name], 200)}")


def _target(name: str, member: Member, state: HostState | None, damage: str) -> HostTarget:
    reached = member.metrics_host or (None if member.address is None else member.address.host)
    if damage:
        return HostTarget(name, member.group, why=f"what it tells cannot be read: {printable(damage, 200)}")
    if state is None:
        return HostTarget(name, member.group, why="it has told nothing yet")
    if state.metrics_port is None:
        return HostTarget(name, member.group, why="it serves no metrics to other machines: give its plugin http `tcp`")
    if reached is None:
        return HostTarget(name, member.group, why="it is enrolled without an address: `mom fleet enroll --metrics-host NAME`")
    address = f"[{reached}]:{state.metrics_port}" if ":" in reached else f"{reached}:{state.metrics_port}"
    return HostTarget(name, member.group, address, cordoned=member.cordoned, draining=member.draining)


def discovery(found: Iterable[HostTarget]) -> str:
    """As JSON for Prometheus. A host without an address is a group without targets: it is named, and nothing is scraped."""
    return json.dumps([{"targets": [one.address] if one.address else [], "labels": one.labels()} for one in found])
