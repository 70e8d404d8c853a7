"""The vdsm plugin: settings, declarations and hooks."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from mom_core import (
    Duration,
    FieldSpec,
    Finding,
    Guest,
    Hypervisor,
    HypervisorError,
    PluginContext,
    PluginSettings,
    Scope,
    Severity,
    Suggestion,
    Unit,
    Value,
    count_of,
    first_names,
    hookimpl,
)
from mom_kvm import Address, GuestField, boot_id
from mom_plugins_vdsm.statistics import UP

if TYPE_CHECKING:
    from mom_plugins_vdsm.hypervisor import VdsmHypervisor

_TRACES = ("etc/vdsm/vdsm.conf", "run/vdsm", "usr/share/vdsm")
"""Files and folders that exist on a host with vdsm."""

_STATISTICS_KEPT_SECONDS = 5.0
_STATISTICS_PER_CYCLE = 0.5
"""How long mom reuses statistics, as a fraction of the interval between cycles."""

_EXPIRES_SOON_SECONDS = 30 * 86400.0

_ANSWERS_OF_DEADLINE = 0.8
"""Fraction of its deadline for which the plugin waits for vdsm's answers."""


_SOURCES = {
    "balloon_cur": "balloonInfo.balloon_cur",
    "balloon_max": "balloonInfo.balloon_max",
    "mem_available": "memoryStats.mem_total",
    "mem_unused": "memoryStats.mem_unused",
    "mem_usable": "mem_unused, or mem_free if count_page_cache is set: a lower bound",
    "mem_disk_caches": "memoryStats.mem_free - mem_unused",
    "swap_in": "memoryStats.swap_in",
    "swap_out": "memoryStats.swap_out",
    "major_fault": "memoryStats.majflt",
    "minor_fault": "memoryStats.minflt",
    "stats_age": "time since its statistics changed, and vm_sample_interval: an upper bound",
    "vcpu_count": "vcpuCount",
}
"""Sources in vdsm of fields that guests also have under libvirt, keyed by field."""


class VdsmPlugin:
    """Manager of guests under oVirt's vdsm.

    It uses vdsm's verbs to list guests, read statistics, and set balloons, CPU and I/O limits, and KSM.
    """

    class Settings(PluginSettings):
        """Connection to vdsm, and timeouts. Defaults come from vdsm's own configuration."""

        deadline: Annotated[Duration, Field(gt=0, le=300)] = 12.0
        """Time limit for each call of this plugin by mom. A cycle continues without a late result. mom waits for 80 % of this time for
        vdsm's answer about all guests."""
        host: Annotated[str, Field(min_length=1, max_length=255)] | None = None
        """vdsm's host. Unset: this host, at the address in vdsm's configuration."""
        port: Annotated[int, Field(gt=0, le=65535)] | None = None
        """vdsm's port. Unset: vdsm's `management_port`, usually 54321."""
        tls: bool | None = None
        """Use TLS. Unset: vdsm's option `ssl`, usually true."""
        pki_directory: Annotated[str, Field(pattern="^/")] = "/etc/pki/vdsm"
        """Folder of mom's private key (keys/vdsmkey.pem), mom's certificate (certs/vdsmcert.pem), and the certificate of its and vdsm's CA
        (certs/cacert.pem). The default is vdsm's folder."""
        count_page_cache: bool = False
        """Count a guest's page cache as usable (`mem_usable`). Leave this off if databases run in guests: the page cache includes shared
        memory, which a guest cannot free. vdsm does not report how much shared memory there is."""

    def __init__(self, settings: Settings, context: PluginContext) -> None:
        self._settings = settings
        self._context = context
        self._hypervisor: VdsmHypervisor | None = None

    @staticmethod
    @hookimpl
    def mom_suggest(root: Path) -> Suggestion | None:
        trace = next((trace for trace in _TRACES if (root / trace).exists()), None)
        return None if trace is None else Suggestion(f"vdsm is on this host (/{trace})", order=20)

    # --- declare -----------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_declare(self) -> Iterable[FieldSpec]:
        return (
            *(replace(spec, source=f"vdsm {_SOURCES[spec.name]}") for spec in GuestField.ALL if spec.name in _SOURCES),
            _field("balloon_min", "the guest's guarantee in the engine; 0 if none", "balloonInfo.balloon_min"),
            _field("mem_free", "unused memory and page cache", "memoryStats.mem_free"),
        )

    # --- life --------------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_setup(self) -> None:
        # Only the first call connects: vdsm may be down now.
        # Late import: commands that only list plugins must be fast.
        from mom_plugins_vdsm.connection import VdsmConnection
        from mom_plugins_vdsm.hypervisor import HypervisorSettings, VdsmHypervisor
        from mom_plugins_vdsm.incarnations import FORM, Incarnations
        from mom_plugins_vdsm.vdsm_conf import read_vdsm_conf

        context, settings = self._context, self._settings
        conf = read_vdsm_conf(context.root, context.log)
        loss = "mom treats all guests as newly started"
        file = context.state_file("guests.json", "the file of guests' starts", FORM, loss=loss)
        incarnations = Incarnations(file, boot_id(context.root / "proc"), _uptime, keep=context.serves)
        uses_tls = conf.tls if settings.tls is None else settings.tls
        pki = context.root / settings.pki_directory.lstrip("/") if uses_tls else None
        address = Address(host=settings.host or conf.host, port=settings.port or conf.port)
        connection = VdsmConnection(address, pki, context.log)
        hypervisor_settings = HypervisorSettings(
            _ANSWERS_OF_DEADLINE * settings.deadline,
            statistics_kept=min(_STATISTICS_KEPT_SECONDS, _STATISTICS_PER_CYCLE * context.interval),
            sample_interval=conf.sample_interval,
            count_page_cache=settings.count_page_cache,
        )
        self._hypervisor = VdsmHypervisor(connection, hypervisor_settings, incarnations, context)
        connection.start()

    @hookimpl
    def mom_teardown(self) -> None:
        if self._hypervisor is not None:
            self._hypervisor.connection.close()

    @hookimpl
    def mom_hypervisor(self) -> Hypervisor | None:
        return self._hypervisor

    # --- collect -----------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_collect_guests(self, hypervisor: Hypervisor, guests: Sequence[Guest]) -> Mapping[str, Mapping[str, Value]]:
        own = self._hypervisor
        return {} if own is None or hypervisor is not own else own.fields(guests)

    # --- surface -----------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_doctor(self) -> Iterable[Finding]:
        hypervisor = self._hypervisor
        if hypervisor is None:
            return
        connection = hypervisor.connection
        try:
            connection.call("Host.ping2", {}, hypervisor.settings.call_timeout, "ping")
            guests = hypervisor.guests()
        except HypervisorError as error:
            yield Finding(Severity.ERROR, "vdsm", error.message, error.hint)
        else:
            way = "over TLS" if connection.pki else "without TLS"
            yield Finding(Severity.OK, "vdsm", f"{connection.peer} answers {way}; {count_of(len(guests), 'guest')} here")
            up = [vm for vm in hypervisor.vms() if vm.status == UP]
            cure = "enable the memory balloon device for these guests in the engine, and restart the guests"
            yield from _without("balloon device", [vm.name for vm in up if vm.balloon is False], cure)
            cure = "load virtio_balloon in these guests (Windows: the balloon driver and service of virtio-win), unless they are starting"
            yield from _without("guest statistics", [vm.name for vm in up if vm.balloon and not vm.reports], cure)
        if connection.pki is not None:
            ends = connection.peer_certificate_ends
            if ends is not None and ends - time.time() < _EXPIRES_SOON_SECONDS:
                day = datetime.fromtimestamp(ends, UTC).date().isoformat()
                cure = "renew the certificate from the engine before that day: Installation, Enroll Certificate"
                yield Finding(Severity.WARNING, "certificate", f"vdsm's certificate expires on {day}", cure)


def _without(what: str, names: Sequence[str], cure: str) -> Iterable[Finding]:
    if names:
        named = f"{count_of(len(names), 'guest')} ({first_names(names)})"
        yield Finding(Severity.WARNING, what, f"{named} without {what}", cure)


def _field(name: str, description: str, source: str) -> FieldSpec:
    return FieldSpec(name, Unit.KIB, Scope.GUEST, description, f"vdsm {source}")


def _uptime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
