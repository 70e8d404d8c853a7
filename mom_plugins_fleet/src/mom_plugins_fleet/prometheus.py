"""Fleet metrics for Prometheus: addresses of hosts, and the coordinator's own metrics.

Hosts report only a port, so that they cannot redirect Prometheus and its token.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from mom_core import replace_file
from mom_plugins_fleet.view import FleetView

if TYPE_CHECKING:
    from mom_plugins_fleet.coordinator.coordinator import Coordinator

WRITE_SECONDS: Final = 15.0

LOOK_SECONDS: Final = 1.0

UNTIL: Final = "mom_fleet_coordinates_until_timestamp_seconds"
"""Metric with the lease's end, which reveals a file that a killed coordinator left behind."""


def targets(view: FleetView) -> tuple[Sequence[Mapping[str, Any]], Sequence[str]]:
    """Return the hosts with metrics for Prometheus, and the names of the other hosts.

    A host's name in Prometheus is the name in its address or, without an address, its name in the fleet.
    """
    groups, without = [], []
    for name, (_, member) in sorted(view.members.records.items()):
        state = view.states.get(name)
        if state is None or state.metrics_port is None:
            without.append(name)
            continue
        reached = (None if member.address is None else member.address.host) or name
        address = f"[{reached}]" if ":" in reached else reached
        labels = {"host": name, "group": member.group, "__scheme__": "https", "__metrics_path__": "/metrics"}
        groups.append({"targets": [f"{address}:{state.metrics_port}"], "labels": labels})
    return groups, without


def metrics(view: FleetView, active_until: float) -> str:
    """Return a coordinator's metrics as text.

    :param active_until: end of the coordinator's lease, in seconds since the epoch; 0 without a lease
    """
    members = sorted(view.members.records.items())
    heard = [({"host": name, "group": member.group}, view.is_fresh(name)) for name, (_, member) in members]
    lines = [
        *_family(UNTIL, "Time until which this coordinator is active; a time in the past means that it is not.", [({}, int(active_until))]),
        *_family("mom_fleet_view_current", "1: this coordinator receives all changes of the fleet.", [({}, view.current)]),
        *_family("mom_fleet_hosts", "Hosts that are enrolled.", [({}, len(members))]),
        *_family("mom_fleet_host_heard", "1: the host has reported within the last 75 s.", heard),
    ]
    return "".join(lines)


def _family(name: str, doc: str, samples: Iterable[tuple[Mapping[str, str], int]]) -> Iterator[str]:
    yield f"# HELP {name} {doc}\n# TYPE {name} gauge\n"
    for labels, value in samples:
        written = ",".join(f"{key}={json.dumps(text, ensure_ascii=False)}" for key, text in labels.items())
        yield f"{name}{{{written}}} {int(value)}\n" if written else f"{name} {int(value)}\n"


async def write_metrics(path: Path, coordinator: Coordinator, log: logging.Logger) -> NoReturn:
    """Write metrics for node_exporter until cancelled. Remove the file at the end."""
    failed = known = False
    try:
        while True:
            known = known or coordinator.view.current
            if known:  # also while the view is outdated
                until = time.time() + 2 * WRITE_SECONDS if coordinator.is_active else 0.0
                try:
                    replace_file(path, metrics(coordinator.view, until), durable=False, mode=0o644)
                    failed = False
                except OSError as error:
                    if not failed:
                        log.warning("the metrics cannot be written: %s: %s", path, error.strerror)
                    failed = True
            await asyncio.sleep(WRITE_SECONDS if known else LOOK_SECONDS)
    finally:
        path.unlink(missing_ok=True)
