"""Findings of `mom doctor` about vdsm and its guests."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from mom_core import Finding, HypervisorError, Severity, count_of, first_names
from mom_plugins_vdsm.hypervisor import VdsmHypervisor
from mom_plugins_vdsm.statistics import UP

SUBJECT = "vdsm"

_EXPIRES_SOON_SECONDS = 30 * 86400.0


def examined(hypervisor: VdsmHypervisor) -> Iterable[Finding]:
    """Yield findings about the connection, the certificates and the guests."""
    connection, settings = hypervisor.connection, hypervisor.connection.settings
    try:
        connection.call("Host.ping2", {}, hypervisor.settings.call_timeout, "ping")
        guests = hypervisor.guests()
    except HypervisorError as error:
        yield Finding(Severity.ERROR, SUBJECT, error.message, error.hint)
    else:
        way = "over TLS" if settings.tls else "without TLS"
        yield Finding(Severity.OK, SUBJECT, f"{settings.peer} answers {way}; {count_of(len(guests), 'guest')} here")
        up = [vm for vm in hypervisor.vms() if vm.status == UP]
        cure = "enable the memory balloon device for these guests in the engine, and restart the guests"
        yield from _without("balloon device", [vm.name for vm in up if vm.balloon is False], cure)
        cure = "load virtio_balloon in these guests (Windows: the balloon driver and service of virtio-win), unless they are starting"
        yield from _without("guest statistics", [vm.name for vm in up if vm.balloon and not vm.reports], cure)
    if settings.tls is not None:
        ends = connection.peer_certificate_ends
        if ends is not None and ends - time.time() < _EXPIRES_SOON_SECONDS:
            day = datetime.fromtimestamp(ends, UTC).date().isoformat()
            cure = "renew the certificate from the engine before that day: Installation, Enroll Certificate"
            yield Finding(Severity.WARNING, "certificate", f"vdsm's certificate expires on {day}", cure)


def _without(what: str, names: Sequence[str], cure: str) -> Iterable[Finding]:
    if names:
        named = f"{count_of(len(names), 'guest')} ({first_names(names)})"
        yield Finding(Severity.WARNING, what, f"{named} without {what}", cure)
