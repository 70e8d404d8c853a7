"""One look at a host without a running mom: plugins are set up, everything is read once, nothing is touched."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from mom_core.config import Config
from mom_core.engine.collect import Collector, host_properties
from mom_core.model import Problem, Snapshot
from mom_core.plugins.registry import PluginSet, build_plugins


@contextmanager
def plugins_at_work(config: Config) -> Iterator[PluginSet]:
    """The plugins of a configuration, set up without a lock or ledger, and torn down at the end."""
    plugins = build_plugins(config).plugins
    try:
        yield plugins
    finally:
        plugins.close(2.0)


def look(config: Config) -> tuple[Snapshot, list[Problem]]:
    """One snapshot, and what could not be read."""
    with plugins_at_work(config) as plugins:
        return Collector(plugins).snapshot(1, time.time(), time.monotonic(), host_properties(config.interval))
