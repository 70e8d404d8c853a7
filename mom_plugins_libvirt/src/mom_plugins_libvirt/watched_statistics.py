"""What the watch asks libvirt: the balloon statistics of few guests, many times a minute."""

from __future__ import annotations

from collections.abc import Mapping, Set

from mom_guests import Record
from mom_plugins_libvirt.connection import Connection


class WatchedStatistics:
    """Balloon statistics by bulk calls.

    :param connection: one of its own, as a connection serves one call at a time, and none after one that hangs
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def of(self, guests: Set[str]) -> Mapping[str, Record]:
        """The balloon statistics of these guests, by guest id. Raises `HypervisorError`."""
        found = self._connection.statistics(self._connection.module.VIR_DOMAIN_STATS_BALLOON, list(guests))
        return {uuid: record for uuid, _, _, record in found}

    def close(self) -> None:
        """Let the connection go."""
        self._connection.close()
