"""The bulk call: statistics of many guests in one answer of libvirtd."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence, Set
from contextlib import suppress
from typing import Any

from mom_plugins_libvirt.api import Domain, Record
from mom_plugins_libvirt.failures import INVALID_ARGUMENT, error_numbers
from mom_plugins_libvirt.open_connection import GuestRecord, OpenConnection


class BulkStatistics:
    """Statistics from bulk calls, without guests whose start is delayed by a hook.

    :param module: libvirt's Python binding
    """

    def __init__(self, module: Any, blocked_in_start_hook: Callable[[], Set[str]]) -> None:
        self.module = module
        self.blocked_in_start_hook = blocked_in_start_hook
        self.events = 0
        """Number of events since the last call for all guests."""
        self._listed: set[str] | None = None
        """Guests of the last call for all guests, and guests started since then."""

    def started(self, uuid: str) -> None:
        """Add a started guest."""
        if self._listed is not None:
            self._listed.add(uuid)

    def read(self, live: OpenConnection, groups: int, uuids: Collection[str] | None) -> Sequence[GuestRecord]:
        """Return the statistics of all active guests, or of these. Raise libvirt's error on failure."""
        module = self.module
        nowait = 0 if live.nowait is False else module.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
        try:
            answer = self._ask(live, groups, uuids, nowait)
        except module.libvirtError as error:
            if live.nowait is not None or error_numbers(error)[0] != INVALID_ARGUMENT:
                raise
            nowait = 0  # a driver without this flag, whose calls do not wait for guests
            answer = self._ask(live, groups, uuids, nowait)
        live.nowait = nowait != 0
        records = [GuestRecord(domain.UUIDString(), domain.name(), domain.ID(), record) for domain, record in answer]
        # A pod's tenant controls its daemon, which may answer with other tenants' guests.
        return records if uuids is None else [record for record in records if record.uuid in uuids]

    def _ask(self, live: OpenConnection, groups: int, uuids: Collection[str] | None, flags: int) -> Sequence[tuple[Domain, Record]]:
        ids, active = None if uuids is None else frozenset(uuids), self.module.VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE
        if ids is not None and live.domains.keys() >= ids:
            return live.connection.domainListGetStats([live.domains[uuid] for uuid in ids], groups, flags) if ids else ()
        blocked = self.blocked_in_start_hook()
        known_ids = self._listed if ids is None else ids
        if blocked and known_ids is not None:
            handles = self._handles(live, known_ids - blocked)
            return live.connection.domainListGetStats(handles, groups, flags | active) if handles else ()
        # Handles of single guests come from calls for all guests.
        answer = live.connection.getAllDomainStats(groups, flags | active)
        live.domains = {domain.UUIDString(): domain for domain, _ in answer}
        self._listed, self.events = set(live.domains), 0
        return answer

    def _handles(self, live: OpenConnection, uuids: Collection[str]) -> Sequence[Domain]:
        handles = []
        for uuid in uuids:
            with suppress(self.module.libvirtError):
                handles.append(live.domain(uuid))
        return handles
