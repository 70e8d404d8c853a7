"""Open connection to libvirtd, and bulk calls, which read many guests' statistics at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Sequence, Set
from contextlib import suppress
from typing import Any, NamedTuple

from mom_kvm import StatisticsRecord
from mom_plugins_libvirt.api import Domain
from mom_plugins_libvirt.changes import GuestOrders, OrderedDomain
from mom_plugins_libvirt.events import EVENT_KINDS


class GuestRecord(NamedTuple):
    """One guest's part of a bulk call's answer. `number` is libvirt's domain ID, which is new at each start."""

    uuid: str
    name: str
    number: int
    record: StatisticsRecord


class OpenConnection:
    """Open connection to libvirtd. `Connection`'s lock protects all attributes except `domains`."""

    def __init__(self, connection: Any, callbacks: Sequence[int], helper: GuestOrders | None) -> None:
        self.connection = connection
        self.helper = helper
        """Connection to the helper that changes guests; None if mom changes them itself."""
        self.domains: dict[str, Domain] = {}
        """Cache of libvirt's handles, keyed by UUID."""
        self.busy = False
        self.given_up = False
        self._callbacks = callbacks

    def changeable(self, uuid: str, start: Hashable) -> Domain:
        """Return a handle for changing the guest, through the helper if there is one."""
        domain = self.domain(uuid)
        if self.helper is None:
            return domain
        return OrderedDomain(domain, self.helper, start if isinstance(start, int) else None)

    def domain(self, uuid: str) -> Domain:
        """Return the guest's handle."""
        handle = self.domains.get(uuid)
        if handle is None:
            handle = self.domains[uuid] = self.connection.lookupByUUIDString(uuid)
        return handle

    def close(self) -> None:
        """Close the connection."""
        # libvirt keeps the connection open while a callback or handle exists.
        for callback in self._callbacks:
            with suppress(Exception):  # no longer needed
                self.connection.domainEventDeregisterAny(callback)
        self.domains = {}
        if self.helper is not None:
            self.helper.close()
        with suppress(Exception):  # as above
            self.connection.close()


def register_events(module: Any, connection: Any, callback: Callable[..., None]) -> Sequence[int]:
    """Register a callback for all events that both libvirt and mom know. Return the callback IDs."""
    callbacks = []
    for kind in EVENT_KINDS:
        number = getattr(module, f"VIR_DOMAIN_EVENT_ID_{kind}", None)  # old bindings lack some events
        if number is not None:
            with suppress(module.libvirtError):  # old daemons lack some events; then the next cycles notice changes
                callbacks.append(connection.domainEventRegisterAny(None, number, callback, kind))
    return callbacks


def is_running(module: Any, domain: Domain) -> bool:
    """Return whether the guest is active; False if libvirt gives no answer."""
    try:
        return bool(domain.isActive())
    except module.libvirtError:
        return False


class BulkStatistics:
    """Reader of statistics by bulk calls. Leaves out guests whose start a hook delays."""

    def __init__(self, module: Any, blocked_in_start_hook: Callable[[], Set[str]]) -> None:
        self.module = module
        self.blocked_in_start_hook = blocked_in_start_hook
        self.events = 0
        """Number of events since the last call for all guests."""
        self._listed: set[str] | None = None
        """UUIDs of the guests in the last call for all guests, and of guests started since; None before the first call."""

    def started(self, uuid: str) -> None:
        """Record that a guest has started."""
        if self._listed is not None:
            self._listed.add(uuid)

    def read(self, live: OpenConnection, groups: int, uuids: Collection[str] | None) -> Sequence[GuestRecord]:
        """Return the statistics of the guests in `uuids`, or of all active guests if None. Raise libvirt's error on failure."""
        module = self.module
        # Skip busy guests. libvirt's test driver does not know the flag.
        nowait = module.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT if live.connection.getType() == "QEMU" else 0
        answer = self._ask(live, groups, uuids, nowait)
        records = [GuestRecord(domain.UUIDString(), domain.name(), domain.ID(), record) for domain, record in answer]
        # A tenant controls libvirtd in its pod. This libvirtd may list other tenants' guests.
        return records if uuids is None else [record for record in records if record.uuid in uuids]

    def _ask(
        self, live: OpenConnection, groups: int, uuids: Collection[str] | None, flags: int
    ) -> Sequence[tuple[Domain, StatisticsRecord]]:
        ids, active = None if uuids is None else frozenset(uuids), self.module.VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE
        if ids is not None and live.domains.keys() >= ids:
            return live.connection.domainListGetStats([live.domains[uuid] for uuid in ids], groups, flags) if ids else ()
        blocked = self.blocked_in_start_hook()
        known_ids = self._listed if ids is None else ids
        if blocked and known_ids is not None:
            handles = self._handles(live, known_ids - blocked)
            return live.connection.domainListGetStats(handles, groups, flags | active) if handles else ()
        # Later calls for single guests use this answer's handles.
        answer: Sequence[tuple[Domain, StatisticsRecord]] = live.connection.getAllDomainStats(groups, flags | active)
        live.domains = {domain.UUIDString(): domain for domain, _ in answer}
        self._listed, self.events = set(live.domains), 0
        return answer

    def _handles(self, live: OpenConnection, uuids: Collection[str]) -> Sequence[Domain]:
        handles = []
        for uuid in uuids:
            with suppress(self.module.libvirtError):
                handles.append(live.domain(uuid))
        return handles
