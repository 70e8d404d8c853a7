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

from mom_core import printable, replace_file
from mom_plugins_fleet.view import FleetView

if TYPE_CHECKING:
    from mom_plugins_fleet.coordinator.coordinator import Coordinator

WRITE_SECONDS: Final = 15.0

LOOK_SECONDS: Final = 1.0

UNTIL: Final = "mom_fleet_coordinates_until_timestamp_seconds"
"""Metric with the lease's end, which reveals a file that a killed coordinator left behind."""

METRICS_PATH: Final = "/metrics"
WHY: Final = "__meta_mom_why"
"""Label for why a host has no metrics."""


def targets(view: FleetView) -> Sequence[Mapping[str, Any]]:
    """Return all hosts, each with its address or the reason why it has no metrics."""
    groups = []
    for name in sorted(view.members.records.keys() | view.members.damaged.keys()):
        member = view.members.get(name)
        labels = {"host": name, "group": "" if member is None else member.group}
        why, address = _address(view, name)
        if why:
            labels[WHY] = why
        elif member is not None:
            labels |= {"__scheme__": "https", "__metrics_path__": METRICS_PATH}
            labels |= {"__meta_mom_cordoned": str(member.cordoned).lower(), "__meta_mom_draining": str(member.draining).lower()}
        groups.append({"targets": [address] if address else [], "labels": labels})
    return groups


def _address(view: FleetView, name: str) -> tuple[str, str]:
    # Returns why a host has no metrics (empty if it has metrics), and `HOST:PORT`.
    member, state = view.members.get(name), view.states.get(name)
    if member is None:
        return f"its entry in the fleet is not trusted: {printable(view.members.damaged[name], 200)}", ""
    if name in view.states.damaged:
        return f"its report cannot be read: {printable(view.states.damaged[name], 200)}", ""
    if state is None:
        return "it has not reported yet", ""
    if state.metrics_port is None:
        return "it serves no metrics to other machines: set `tcp` of its http plugin", ""
    reached = member.metrics_host or (None if member.address is None else member.address.host)
    if reached is None:
        return "it is enrolled without an address: set one with `mom fleet enroll --metrics-host NAME`", ""
    return "", f"[{reached}]:{state.metrics_port}" if ":" in reached else f"{reached}:{state.metrics_port}"


def metrics(view: FleetView, active_until: float) -> str:
    """Return a coordinator's metrics as text.

    :param active_until: end of the coordinator's lease, in seconds since the epoch; 0 without a lease
    """
    labels = [entry["labels"] for entry in targets(view)]
    hosts = [{"host": entry["host"], "group": entry["group"]} for entry in labels]
    without = [{**host, "why": entry[WHY]} for host, entry in zip(hosts, labels, strict=True) if WHY in entry]
    heard = [(entry, view.is_fresh(entry["host"])) for entry in hosts]
    lines = [
        *_family(UNTIL, "Time until which this coordinator is active; a time in the past means that it is not.", [({}, int(active_until))]),
        *_family("mom_fleet_view_current", "1: this coordinator receives all changes of the fleet.", [({}, view.current)]),
        *_family("mom_fleet_hosts", "Hosts that are enrolled.", [({}, len(hosts))]),
        *_family("mom_fleet_host_heard", "1: the host has reported within the last 75 s.", heard),
        *_family("mom_fleet_host_without_metrics", "Hosts whose metrics Prometheus cannot read.", [(entry, 1) for entry in without]),
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
