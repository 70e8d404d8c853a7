"""The coordinator's metrics, as a file that node_exporter's textfile collector reads: it listens nowhere."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from mom_core import replace_file
from mom_plugins_fleet.coordinator import Coordinator
from mom_plugins_fleet.targets import metrics

WRITE_SECONDS: Final = 15.0
"""How often it is written: Prometheus asks once or twice a minute."""


@asynccontextmanager
async def writing(path: Path | None, coordinator: Coordinator, log: logging.Logger) -> AsyncIterator[None]:
    """Keep the file up to date, once the fleet is known; at the end there is none, as nothing is known then."""

    async def write() -> None:
        failed = ""
        while path is not None:
            if coordinator.view.current:
                try:
                    replace_file(path, metrics(coordinator.view, works=coordinator.works), durable=False, mode=0o644)
                    failed = ""
                except OSError as error:
                    if not failed:
                        log.warning("the metrics cannot be written: %s: %s", path, error.strerror)
                    failed = str(error)
            await asyncio.sleep(WRITE_SECONDS)

    task = asyncio.create_task(write())
    try:
        yield
    finally:
        task.cancel()
        if path is not None:
            path.unlink(missing_ok=True)
