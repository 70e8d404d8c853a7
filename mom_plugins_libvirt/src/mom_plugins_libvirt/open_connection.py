"""One open connection to libvirtd, with handles of guests."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from mom_plugins_libvirt.api import Domain, LibvirtConnection, Record
from mom_plugins_libvirt.changes import GuestOrders, OrderedDomain
from mom_plugins_libvirt.events import EVENT_KINDS


class GuestRecord(NamedTuple):
    """Guest in a bulk call's answer. `number` differs for each start."""

    uuid: str
    name: str
    number: int
    record: Record


class OpenConnection:
    """Open connection, protected by the lock of `Connection`, except `domains`."""

    def __init__(self, connection: LibvirtConnection, callbacks: Sequence[int], helper: GuestOrders | None) -> None:
        self.connection = connection
        self.helper = helper
        """Helper that changes guests; None if libvirt does."""
        self.domains: dict[str, Domain] = {}
        """libvirt's handles, keyed by UUID: each look-up is a call."""
        self.nowait: bool | None = None
        """Whether the driver knows the flag not to wait for guests."""
        self.busy = False
        self.given_up = False
        self._callbacks = callbacks

    def changeable(self, uuid: str, start: Hashable) -> Domain:
        """Return the guest's handle for changes."""
        domain = self.domain(uuid)
        if self.helper is None:
            return domain
        return OrderedDomain(domain, self.helper, start if isinstance(start, int) else None).as_domain()

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
        with suppress(Exception):  # as above; there may be no callback
            self.connection.unregisterCloseCallback()
        if self.helper is not None:
            self.helper.close()
        with suppress(Exception):  # as above
            self.connection.close()


def register_events(module: Any, connection: LibvirtConnection, callback: Callable[..., None]) -> Sequence[int]:
    """Register for all known events; return the callbacks' numbers."""
    callbacks = []
    for kind, constant in EVENT_KINDS.items():
        number = getattr(module, f"VIR_DOMAIN_EVENT_ID_{constant}", None)  # old bindings lack some events
        if number is not None:
            with suppress(module.libvirtError):  # old daemons lack some events; then the next cycles notice changes
                callbacks.append(connection.domainEventRegisterAny(None, number, callback, kind))
    return callbacks


def is_running(module: Any, domain: Domain) -> bool:
    """Return whether the guest is running; False if unknown."""
    try:
        return bool(domain.isActive())
    except module.libvirtError:
        return False
