"""The coordinator's metrics, as a file that node_exporter's textfile collector reads: it listens nowhere."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Final, NoReturn

from mom_core import replace_file
from mom_plugins_fleet.coordinator import Coordinator
from mom_plugins_fleet.targets import metrics

WRITE_SECONDS: Final = 15.0
"""How often it is written: Prometheus asks once or twice a minute."""


async def write_metrics(path: Path, coordinator: Coordinator, log: logging.Logger) -> NoReturn:
    """Keep the file up to date, once the fleet is known; at the end there is none, as nothing is known then."""
    failed, known = "", False
    try:
        while True:
            known = known or coordinator.view.current
            if known:  # also while changes are not heard of: it says so
                try:
                    replace_file(path, metrics(coordinator.view, works=coordinator.works), durable=False, mode=0o644)
                    failed = ""
                except OSError as error:
                    if not failed:
                        log.warning("the metrics cannot be written: %s: %s", path, error.strerror)
                    failed = str(error)
            await asyncio.sleep(WRITE_SECONDS)
    finally:
        path.unlink(missing_ok=True)
