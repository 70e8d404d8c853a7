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
        self._handles: tuple[int, frozenset[str]] = (0, frozenset())

    def of(self, guests: Set[str]) -> Mapping[str, Record]:
        """The balloon statistics of these guests, by guest id. Raises `HypervisorError`."""
        groups = self._connection.module.VIR_DOMAIN_STATS_BALLOON
        opened, handles = self._handles
        if opened == self._connection.opened and handles >= guests:
            found = self._connection.statistics(groups, list(guests))
        else:  # a call about all guests is what the handles for the others come from
            found = self._connection.statistics(groups)
            self._handles = (self._connection.opened, frozenset(record.uuid for record in found))
        return {uuid: record for uuid, _, _, record in found if uuid in guests}

    def close(self) -> None:
        """Let the connection go."""
        self._connection.close()
