"""Substitute for libvirt's Python binding: guests in memory, counted calls, and ordered failures."""

# ruff: noqa: N802, N803, N815  # the names are libvirt's

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from mom_core import Entity, PluginContext, Scope
from mom_devkit import HandClock
from mom_kvm import PlatformProperties, StatisticsRecord
from mom_plugins_libvirt import Connection, ConnectionSettings
from mom_plugins_libvirt.api import NO_DOMAIN, OPERATION_INVALID, OPERATION_TIMEOUT, Domain
from mom_plugins_libvirt.domains import SamplingSettings
from mom_plugins_libvirt.hypervisor import LibvirtHypervisor
from mom_plugins_libvirt.plugin import pid_of

LONG_SECONDS = 30.0
"""Longer than any call here that does not hang, also on a busy machine."""

OPERATION_ABORTED = 78
"""Constant of libvirt/virterror.h."""

XML = "<domain><devices><memballoon model='{model}'>{stats}</memballoon>{devices}</devices>{more}</domain>"


class FakeError(Exception):
    """libvirt's exception with its code and errno."""

    def __init__(self, message: str, code: int, number: int = 0) -> None:
        super().__init__(message)
        self._code = code
        self._number = number

    def get_error_code(self) -> int:
        return self._code

    def get_int1(self) -> int:
        return self._number


class FakeGuest:
    """Guest on the fake libvirtd. Tests change its attributes."""

    def __init__(self, uuid: str, name: str) -> None:
        self.uuid = uuid
        self.name = name
        self.number = 1
        self.state = 1
        self.reason = 0
        self.told: int | None = None
        """Size that libvirt reports, if it differs from the real one."""
        self.model = "virtio"
        self.period = 2
        self.current = 1 << 20
        self.maximum = 1 << 20
        self.statistics: dict[str, object] = {"balloon.last-update": 1000, "balloon.available": 900_000, "balloon.usable": 500_000}
        self.devices = self.more = ""
        """XML of additional devices, and outside the devices."""
        self.scheduler: dict[str, int] | None = {"cpu_shares": 1024, "vcpu_period": 100_000, "vcpu_quota": -1, "emulator_quota": -1}
        """CPU limits; None without a CPU controller."""
        self.tuned: list[tuple[object, ...]] = []
        """Values set, in order."""
        self.pins: list[tuple[bool, ...]] = [(True, True), (True, True)]
        self.job: dict[str, object] = {"type": 0}
        self.persistent = True
        self.saved = False
        """Whether its memory is saved in a file."""
        self.moved_to = ""
        self.job_goes_on: threading.Event | None = None
        """Event for which its save or migration waits. Aborting the job sets it."""
        self.aborts_that_fail = 0
        """Number of aborts that fail."""
        self.abort_returns: threading.Event | None = None
        """Event before which an abort does not return, although the job has ended."""
        self.hangs: threading.Event | None = None
        """Event for which calls on this guest wait."""

    @property
    def entity(self) -> Entity:
        return Entity(Scope.GUEST, self.uuid, self.name)

    @property
    def xml(self) -> str:
        stats = f"<stats period='{self.period}'/>" if self.period else ""
        return XML.format(model=self.model, stats=stats, devices=self.devices, more=self.more)

    @property
    def own_record(self) -> dict[str, object]:
        """Return libvirtd's own figures, without asking the guest."""
        return {"state.state": self.state, "state.reason": self.reason}

    @property
    def record(self) -> dict[str, object]:
        sizes = {"balloon.current": self.current if self.told is None else self.told, "balloon.maximum": self.maximum}
        return {**self.own_record, **sizes, **self.statistics}


class FakeDomain:
    """libvirt's handle of a guest. It outlives the guest and the connection."""

    def __init__(self, libvirtd: FakeLibvirtd, guest: FakeGuest) -> None:
        self._libvirtd = libvirtd
        self._guest = guest
        self._number = guest.number

    def name(self) -> str:
        return self._guest.name.encode(errors="surrogateescape").decode()  # like the binding: \udcff stands for the byte ff

    def UUIDString(self) -> str:
        return self._guest.uuid

    def ID(self) -> int:
        return self._number

    def isActive(self) -> int:
        self._libvirtd.count("isActive")
        if self._guest.hangs is not None:
            self._guest.hangs.wait()
        if self._guest.uuid not in self._libvirtd.guests and self._guest.uuid not in self._libvirtd.ended:
            raise FakeError("no domain with that UUID", NO_DOMAIN)
        return int(self._guest.uuid in self._libvirtd.guests)

    def isPersistent(self) -> int:
        return int(self._guest.persistent)

    def state(self, flags: int = 0) -> Sequence[int]:
        return (self._guest.state, 0)

    def hasManagedSaveImage(self, flags: int = 0) -> int:
        return int(self._guest.saved)

    def suspend(self) -> int:
        self._there("suspend").state = FakeLibvirtd.PAUSED
        return 0

    def resume(self) -> int:
        self._there("resume").state = FakeLibvirtd.RUNNING
        return 0

    def shutdown(self) -> int:
        self._libvirtd.end(self._there("shutdown"))
        return 0

    def managedSave(self, flags: int = 0) -> int:
        guest = self._after_its_job("managedSave")
        guest.saved = True
        self._libvirtd.end(guest)
        return 0

    def create(self) -> int:
        self._libvirtd.count("create")
        if self._guest.uuid in self._libvirtd.guests:
            raise FakeError("domain is already running", OPERATION_INVALID)
        del self._libvirtd.ended[self._guest.uuid]
        self._guest.saved = False
        self._guest.number += 1
        self._libvirtd.guests[self._guest.uuid] = self._guest
        return 0

    def abortJob(self) -> int:
        guest = self._there("abortJob")
        if guest.job_goes_on is None:
            raise FakeError("no job is active on the domain", OPERATION_INVALID)
        if guest.aborts_that_fail:
            guest.aborts_that_fail -= 1
            raise FakeError("cannot acquire state change lock", OPERATION_TIMEOUT)
        guest.job_goes_on.set()
        if guest.abort_returns is not None:
            guest.abort_returns.wait()
        return 0

    def migrate3(self, dconn: object, params: Mapping[str, object], flags: int = 0) -> Domain:
        guest = self._after_its_job("migrate3")
        assert isinstance(dconn, FakeConnection)
        guest.moved_to = dconn.uri
        del self._libvirtd.guests[guest.uuid]
        return self

    def XMLDesc(self, flags: int = 0) -> str:
        return self._there("XMLDesc").xml

    def jobStats(self, flags: int = 0) -> dict[str, object]:
        return self._there("jobStats").job

    def setMemoryFlags(self, memory: int, flags: int = 0) -> int:
        assert flags == FakeLibvirtd.VIR_DOMAIN_AFFECT_LIVE
        guest = self._there("setMemoryFlags")
        if guest.model == "none":
            raise FakeError("no balloon", OPERATION_INVALID)
        guest.current = memory
        return 0

    def memoryStats(self) -> dict[str, int]:
        return {"actual": self._there("memoryStats").current, "rss": 1}

    def setMemoryStatsPeriod(self, period: int, flags: int = 0) -> int:
        assert flags == FakeLibvirtd.VIR_DOMAIN_AFFECT_LIVE
        self._there("setMemoryStatsPeriod").period = period
        return 0

    def schedulerParametersFlags(self, flags: int = 0) -> Mapping[str, object]:
        scheduler = self._there("schedulerParametersFlags").scheduler
        if scheduler is None:
            raise FakeError("Requested operation is not valid: cgroup CPU controller is not mounted", OPERATION_INVALID)
        return dict(scheduler)

    def setSchedulerParametersFlags(self, params: Mapping[str, int], flags: int = 0) -> int:
        guest = self._there("setSchedulerParametersFlags")
        assert guest.scheduler is not None
        guest.scheduler.update(params)
        return self._tuned(guest, dict(params))

    def setBlockIoTune(self, disk: str, params: Mapping[str, int], flags: int = 0) -> int:
        return self._tuned(self._there("setBlockIoTune"), disk, dict(params))

    def setInterfaceParameters(self, device: str, params: Mapping[str, int], flags: int = 0) -> int:
        return self._tuned(self._there("setInterfaceParameters"), device, dict(params))

    def vcpuPinInfo(self, flags: int = 0) -> Sequence[Sequence[bool]]:
        return list(self._there("vcpuPinInfo").pins)

    def pinVcpuFlags(self, vcpu: int, cpumap: Sequence[bool], flags: int = 0) -> int:
        guest = self._there("pinVcpuFlags")
        guest.pins[vcpu] = tuple(cpumap)
        return self._tuned(guest, vcpu, tuple(cpumap))

    def setNumaParameters(self, params: Mapping[str, str], flags: int = 0) -> int:
        return self._tuned(self._there("setNumaParameters"), dict(params))

    def _tuned(self, guest: FakeGuest, *what: object) -> int:
        guest.tuned.append(what)
        return 0

    def _after_its_job(self, call: str) -> FakeGuest:
        guest = self._there(call)
        if guest.job_goes_on is not None:
            guest.job_goes_on.wait()
            raise FakeError("operation aborted: job: canceled by client", OPERATION_ABORTED)
        return guest

    def _there(self, call: str) -> FakeGuest:
        self._libvirtd.count(call)
        guest = self._libvirtd.guests.get(self._guest.uuid)
        if guest is None:
            raise FakeError("domain is not running", OPERATION_INVALID)
        if guest.hangs is not None:
            guest.hangs.wait()
        return guest


class FakeConnection:
    """Connection that detects two calls at a time, and calls after its close."""

    def __init__(self, libvirtd: FakeLibvirtd, uri: str = "") -> None:
        self._libvirtd = libvirtd
        self.uri = uri
        self.callbacks: dict[int, tuple[int, Callable[..., None], object]] = {}
        self.broken = False
        self.hangs: threading.Event | None = None
        """Event for which bulk calls to guests wait."""
        self.closed = False

    def getAllDomainStats(self, stats: int = 0, flags: int = 0) -> Sequence[tuple[Domain, StatisticsRecord]]:
        return self._answer("getAllDomainStats", stats, flags, list(self._libvirtd.guests.values()))

    def getType(self) -> str:
        return "QEMU"

    def domainListGetStats(self, doms: Sequence[Domain], stats: int = 0, flags: int = 0) -> Sequence[tuple[Domain, StatisticsRecord]]:
        guests = self._libvirtd.guests
        return self._answer("domainListGetStats", stats, flags, [guests[dom.UUIDString()] for dom in doms if dom.UUIDString() in guests])

    def lookupByUUIDString(self, uuidstr: str) -> Domain:
        self._libvirtd.count("lookupByUUIDString")
        guest = self._libvirtd.guests.get(uuidstr) or self._libvirtd.ended.get(uuidstr)
        if guest is None:
            raise FakeError("no domain with that UUID", NO_DOMAIN)
        return FakeDomain(self._libvirtd, guest)

    def isAlive(self) -> int:
        return int(not self.broken and not self.closed)

    def domainEventRegisterAny(self, dom: Domain | None, eventID: int, cb: Callable[..., None], opaque: object) -> int:
        self.callbacks[len(self.callbacks)] = (eventID, cb, opaque)
        return len(self.callbacks) - 1

    def domainEventDeregisterAny(self, callbackID: int) -> int:
        del self.callbacks[callbackID]
        return 0

    def close(self) -> int:
        assert not self.callbacks, "libvirt keeps a connection open while a callback is registered"
        self.closed = True
        return 0

    def lose(self) -> None:
        """Break the connection, like libvirtd."""
        self.broken = True

    def tell(self, guest: FakeGuest, event: int, detail: int = 0) -> None:
        """Send a lifecycle event."""
        self.tell_of(guest, FakeLibvirtd.VIR_DOMAIN_EVENT_ID_LIFECYCLE, event, detail)

    def tell_of(self, guest: FakeGuest, number: int, *details: object) -> None:
        """Send an event of this kind."""
        for kind, callback, opaque in list(self.callbacks.values()):
            if kind == number:
                callback(self, FakeDomain(self._libvirtd, guest), *details, opaque)

    def _answer(self, call: str, stats: int, flags: int, guests: Sequence[FakeGuest]) -> Sequence[tuple[Domain, StatisticsRecord]]:
        self._libvirtd.count(call)
        assert not self.closed
        if self._libvirtd.none_answers is not None:
            self._libvirtd.none_answers.wait()
        if self.broken:
            raise FakeError("client socket is closed", 1)
        asks_guests = stats & (FakeLibvirtd.VIR_DOMAIN_STATS_BALLOON | FakeLibvirtd.VIR_DOMAIN_STATS_VCPU)
        if self.hangs is not None and asks_guests:
            self.hangs.wait()
        if self._libvirtd.bulk_hangs and asks_guests:
            self._libvirtd.bulk_hangs.pop(0).wait()
        return [(FakeDomain(self._libvirtd, guest), guest.record if asks_guests else guest.own_record) for guest in guests]


class FakeLibvirtd:
    """Substitute for the module `libvirt` and its daemon."""

    libvirtError = FakeError
    VIR_DOMAIN_STATS_STATE, VIR_DOMAIN_STATS_CPU_TOTAL, VIR_DOMAIN_STATS_BALLOON, VIR_DOMAIN_STATS_VCPU = 1, 2, 4, 8
    VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE, VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT = 1, 1 << 29
    VIR_DOMAIN_EVENT_ID_LIFECYCLE, VIR_DOMAIN_EVENT_ID_BALLOON_CHANGE, VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED = 0, 13, 15
    VIR_DOMAIN_EVENT_ID_TUNABLE, VIR_DOMAIN_EVENT_ID_DEVICE_ADDED = 17, 19
    """Kinds of events. A binding may lack others."""
    VIR_DOMAIN_AFFECT_LIVE = 1
    VIR_MIGRATE_LIVE, VIR_MIGRATE_PERSIST_DEST, VIR_MIGRATE_UNDEFINE_SOURCE, VIR_MIGRATE_ABORT_ON_ERROR = 1, 8, 16, 4096
    VIR_MIGRATE_PARAM_URI = "migrate_uri"
    RUNNING, PAUSED = 1, 3

    def __init__(self) -> None:
        self.guests: dict[str, FakeGuest] = {}
        """Running guests."""
        self.ended: dict[str, FakeGuest] = {}
        """Defined guests that do not run."""
        self.calls: Counter[str] = Counter()
        self.connections: list[FakeConnection] = []
        self.refusal: FakeError | None = None
        """Error of opening a connection."""
        self.open_hangs: threading.Event | None = None
        self.bulk_hangs: list[threading.Event] = []
        """Events for which the next bulk calls to guests wait, one each."""
        self.none_answers: threading.Event | None = None
        """Event for which all bulk calls wait."""
        self.opened_uris: list[str] = []

    def add(self, name: str, uuid: str = "") -> FakeGuest:
        guest = FakeGuest(uuid or f"uuid-of-{name}", name)
        self.guests[guest.uuid] = guest
        return guest

    def end(self, guest: FakeGuest) -> None:
        """End a guest. libvirt forgets undefined guests."""
        del self.guests[guest.uuid]
        if guest.persistent:
            self.ended[guest.uuid] = guest

    def count(self, call: str) -> None:
        self.calls[call] += 1

    def open(self, uri: str) -> FakeConnection:
        return self.openReadOnly(uri)

    def openReadOnly(self, uri: str) -> FakeConnection:
        self.count("open")
        self.opened_uris.append(uri)
        if self.open_hangs is not None:
            self.open_hangs.wait()
        if self.refusal is not None:
            raise self.refusal
        self.connections.append(FakeConnection(self, uri))
        return self.connections[-1]


class NoLoop:
    """Substitute for libvirt's event loop, which the fake does not need."""

    def __init__(self, module: object = None) -> None:
        pass

    def start(self) -> None:
        pass

    def stop(self, patience: float) -> None:
        pass


@contextmanager
def hypervisor_on(
    libvirtd: FakeLibvirtd,
    clock: HandClock,
    folder: Path,
    uri: str = "fake:///system",
    readonly: bool = False,
    platforms: PlatformProperties | None = None,
) -> Iterator[LibvirtHypervisor]:
    """Return the plugin's hypervisor on the fake, with a host's files in a folder."""
    log = logging.getLogger("mom.plugin.libvirt")
    connection = Connection(ConnectionSettings(uri, readonly, call_timeout=LONG_SECONDS), log, libvirtd)
    find = partial(pid_of, folder / "pids", folder / "proc")
    sampling = SamplingSettings(find, platforms, wall=clock.wall)
    try:
        yield LibvirtHypervisor(connection, sampling, PluginContext("libvirt", root=folder, monotonic=clock))
    finally:
        connection.close()


@contextmanager
def impatient(connection: Connection) -> Iterator[None]:
    """Use a short time limit until the end of the block, for calls that hang."""
    patient = connection.settings
    connection.settings = replace(patient, call_timeout=0.1)
    yield
    connection.settings = patient


MakeHypervisor = Callable[..., LibvirtHypervisor]
