"""One open connection to libvirtd, with the handles of its guests."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from mom_plugins_libvirt.api import Domain, LibvirtConnection, Record
from mom_plugins_libvirt.changes import GuestOrders, OrderedDomain
from mom_plugins_libvirt.events import EVENT_KINDS


class GuestRecord(NamedTuple):
    """One guest in the answer to a bulk call. `number` is another one each time the guest is started."""

    uuid: str
    name: str
    number: int
    record: Record


class OpenConnection:
    """An open connection. Its fields belong to the lock of the `Connection`, except `domains`, which belong to the call under way."""

    def __init__(self, connection: LibvirtConnection, callbacks: Sequence[int], helper: GuestOrders | None) -> None:
        self.connection = connection
        self.helper = helper
        """Changes guests; None: libvirt is asked to."""
        self.domains: dict[str, Domain] = {}
        """libvirt's handles by UUID, as of the last bulk call: asking for one costs a call."""
        self.nowait: bool | None = None
        """True if this driver knows the flag not to wait for guests; None before the first answer."""
        self.busy = False
        self.given_up = False
        self._callbacks = callbacks

    def changeable(self, uuid: str, start: Hashable) -> Domain:
        """Return what stands for this guest, which the helper changes where there is one."""
        domain = self.domain(uuid)
        if self.helper is None:
            return domain
        return OrderedDomain(domain, self.helper, start if isinstance(start, int) else None).as_domain()

    def domain(self, uuid: str) -> Domain:
        """Return the handle for this guest."""
        handle = self.domains.get(uuid)
        if handle is None:
            handle = self.domains[uuid] = self.connection.lookupByUUIDString(uuid)
        return handle

    def close(self) -> None:
        """End it. While a callback is registered, or a handle exists, libvirt keeps the connection open."""
        for callback in self._callbacks:
            with suppress(Exception):  # it is given up, whatever it says
                self.connection.domainEventDeregisterAny(callback)
        self.domains = {}
        with suppress(Exception):  # as above; there is none where no plugin wanted to hear of it
            self.connection.unregisterCloseCallback()
        if self.helper is not None:
            self.helper.close()
        with suppress(Exception):  # as above
            self.connection.close()


def register_events(module: Any, connection: LibvirtConnection, callback: Callable[..., None]) -> Sequence[int]:
    """Register for all guests' events that this libvirt knows, and return the numbers of the callbacks."""
    callbacks = []
    for kind, constant in EVENT_KINDS.items():
        number = getattr(module, f"VIR_DOMAIN_EVENT_ID_{constant}", None)  # an old binding lacks some
        if number is not None:
            with suppress(module.libvirtError):  # as does an old libvirtd: then mom notices in the next cycles
                callbacks.append(connection.domainEventRegisterAny(None, number, callback, kind))
    return callbacks


def is_running(module: Any, domain: Domain) -> bool:
    """Tell whether the guest runs; False where libvirt cannot say."""
    try:
        return bool(domain.isActive())
    except module.libvirtError:
        return False
