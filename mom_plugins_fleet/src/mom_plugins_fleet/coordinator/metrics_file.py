"""Coordinator's metrics as a file for node_exporter's textfile collector: it opens no port."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import Final, NoReturn

from mom_core import replace_file
from mom_plugins_fleet.coordinator.coordinator import Coordinator
from mom_plugins_fleet.verbs.targets import metrics

WRITE_SECONDS: Final = 15.0
"""How often it is written: Prometheus asks once or twice a minute."""

LOOK_SECONDS: Final = 1.0
"""How soon it is written when the fleet becomes known, or this coordinator begins or ends to work."""


async def write_metrics(path: Path, coordinator: Coordinator, log: logging.Logger) -> NoReturn:
    """Keep the file up to date, once the fleet is known; at the end there is none, as nothing is known then."""
    failed, works, at = "", False, float("-inf")
    complete = False
    try:
        while True:
            complete = complete or coordinator.view.current
            if complete and (coordinator.works != works or time.monotonic() - at >= WRITE_SECONDS):  # also while changes are not heard of
                works, at = coordinator.works, time.monotonic()
                until = time.time() + 2 * WRITE_SECONDS if works else 0.0
                try:
                    replace_file(path, metrics(coordinator.view, until), durable=False, mode=0o644)
                    failed = ""
                except OSError as error:
                    if not failed:
                        log.warning("the metrics cannot be written: %s: %s", path, error.strerror)
                    failed = str(error)
            await asyncio.sleep(LOOK_SECONDS)
    finally:
        path.unlink(missing_ok=True)
