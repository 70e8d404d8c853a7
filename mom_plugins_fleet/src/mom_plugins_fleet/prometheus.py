"""Metrics of a coordinator for Prometheus."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from mom_core import replace_file
from mom_plugins_fleet.view import FleetView

if TYPE_CHECKING:
    from mom_plugins_fleet.coordinator.coordinator import Coordinator

WRITE_SECONDS: Final = 15.0

UNTIL: Final = "mom_fleet_coordinates_until_timestamp_seconds"
"""Metric with the lease's end, which reveals a file that a killed coordinator left behind."""


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
    try:
        while True:
            until = time.time() + 2 * WRITE_SECONDS if coordinator.is_active else 0.0
            try:
                replace_file(path, metrics(coordinator.view, until), durable=False, mode=0o644)
            except OSError as error:
                log.warning("the metrics cannot be written: %s: %s", path, error.strerror)
            await asyncio.sleep(WRITE_SECONDS)
    finally:
        path.unlink(missing_ok=True)
