"""Hypervisor that uses vdsm."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from mom_core import CpuTune, DiskTune, Entity, Guest, GuestBusy, GuestGone, HypervisorError, NotSupported, PluginContext, Value, printable
from mom_kvm import CallPatience, SeenGuest
from mom_plugins_vdsm.connection import VdsmConnection
from mom_plugins_vdsm.incarnations import Incarnations
from mom_plugins_vdsm.jsonrpc import Event
from mom_plugins_vdsm.statistics import Vm, disk_tunes, read_vm, tunable

_ALL_CONTROLS = "*"
_BALLOON_CONTROL = "balloon_target"

_SILENT = "vdsm has not answered the last call about the guest"
_SAME_SILENT = "vdsm has not answered the last identical call"

_LOST_SECONDS = 60.0
"""After this time without an answer to a call about a guest, mom may call again."""

_LEAST_PATIENCE_SECONDS = 0.2

_BULK_FOR_OTHERS_SECONDS = 4.0
"""Longest time for which a controller waits for a bulk call. The default deadline of a controller is 5 s."""

_STATUS_EVENT = "|virt|VM_status|"


@dataclass(frozen=True, slots=True)
class HypervisorSettings:
    """Settings of `VdsmHypervisor`. Times are in seconds. mom reuses statistics and disks' limits for `statistics_kept`."""

    answer_timeout: float = 10.0
    call_timeout: float = 2.0
    statistics_kept: float = 2.5
    sample_interval: float = 15.0
    count_page_cache: bool = False


@dataclass(slots=True, eq=False)
class VdsmHypervisor:
    """Guests of this host's vdsm. Implements `BalloonControl`, `CpuTuneControl`, `IoTuneControl` and `KsmWriter`. Thread-safe.

    After an unanswered call about a guest, mom makes no further call about this guest for a minute.
    """

    connection: VdsmConnection
    settings: HypervisorSettings
    incarnations: Incarnations
    context: PluginContext
    _lock: threading.Lock = field(default_factory=threading.Lock)
    """Protects the data below. Mappings are replaced, never changed."""
    _sampling: threading.Lock = field(default_factory=threading.Lock)
    _reading_disks: threading.Lock = field(default_factory=threading.Lock)
    _last_vms: Mapping[str, Vm] = field(default_factory=dict)
    _marks: Mapping[str, str] = field(default_factory=dict)
    _read_at: float | None = None
    _changed: set[str] = field(default_factory=set)
    """IDs of guests that mom has changed since the last read."""
    _disks: Mapping[str, Sequence[DiskTune]] = field(default_factory=dict)
    _disks_read_at: float | None = None
    _late: dict[str, tuple[Callable[[], bool], float]] = field(default_factory=dict)
    """Timed-out calls, keyed by guest ID or call. For each: a function that returns whether vdsm has answered, and the time of the call."""
    _patience: CallPatience = field(init=False)

    def __post_init__(self) -> None:
        self._patience = CallPatience(self.context.monotonic, least=_LEAST_PATIENCE_SECONDS)
        self.connection.on_event = self._event

    @property
    def _for_others(self) -> float:
        return min(self.settings.answer_timeout, _BULK_FOR_OTHERS_SECONDS)

    @property
    def uri(self) -> str:
        """Address of vdsm."""
        return f"vdsm://{self.connection.address}"

    # --- the guests --------------------------------------------------------------------------------------------------------------

    def guests(self) -> Sequence[Guest]:
        """List the running guests, by one bulk call."""
        vms = self._vms(self.settings.answer_timeout)
        with self._lock:
            marks = self._marks
            self._forget_answered()
            silent = set(self._late)
        return tuple(_listed(vm, marks.get(vm.id, ""), silent=vm.id in silent) for vm in vms.values())

    def fields(self, guests: Sequence[Guest]) -> dict[str, dict[str, Value]]:
        """Return the guests' fields, keyed by guest ID."""
        now, interval = self.context.monotonic(), self.settings.sample_interval
        with self._lock:
            vms = self._last_vms
        listed = [vm for guest in guests if (vm := vms.get(guest.id)) is not None]
        return {vm.id: {**vm.fields, "stats_age": vm.age(now, interval)} if vm.reports else dict(vm.fields) for vm in listed}

    def vms(self) -> Sequence[Vm]:
        """Return the guests that were running at the last call of `guests`."""
        with self._lock:
            return tuple(self._last_vms.values())

    def _vms(self, timeout: float, needed: Collection[str] | None = None) -> Mapping[str, Vm]:
        with _turn(self._sampling, timeout):
            with self._lock:
                changed = self._changed if needed is None else self._changed.intersection(needed)
                if self._read_at is not None and not changed and self.context.monotonic() - self._read_at < self.settings.statistics_kept:
                    return self._last_vms
            return self._read_vms(timeout)

    def _read_vms(self, timeout: float) -> Mapping[str, Vm]:
        with self._lock:
            noted = set(self._changed)
        answer = self._bulk("Host.getAllVmStats", timeout, "reading the guests")
        if not isinstance(answer, list):
            raise HypervisorError(f"reading the guests: vdsm's list of guests is a {type(answer).__name__}")
        now, settings = self.context.monotonic(), self.settings
        with self._lock:
            before = self._last_vms
        read = [
            read_vm(entry, before.get(str(entry.get("vmId"))), now, settings.sample_interval, count_page_cache=settings.count_page_cache)
            for entry in answer
            if isinstance(entry, dict)
        ]
        vms = {vm.id: vm for vm in read if vm is not None and vm.here}
        if answer and not any(read):
            raise HypervisorError("reading the guests: no entry of vdsm's list of guests is valid")
        marks = self.incarnations.follow(vms.values())
        with self._lock:
            self._last_vms, self._marks, self._read_at = vms, marks, now
            self._changed -= noted  # the answer may lack changes made during the call
        return vms

    def _forget_answered(self) -> None:
        now = self.context.monotonic()
        self._late = {i: (answered, since) for i, (answered, since) in self._late.items() if not answered() and now - since < _LOST_SECONDS}

    # --- balloons ----------------------------------------------------------------------------------------------------------------

    def set_balloon(self, guest: Entity, target_kib: int) -> None:
        """Set the balloon target. Raise `NotSupported` if the guest has no working balloon."""
        vm = self._vm(guest)
        maximum = vm.fields.get("balloon_max")
        SeenGuest.check_size(target_kib, maximum if isinstance(maximum, int) else None, str(guest))
        why_not = _why_no_balloon(vm)
        if why_not:  # vdsm would report success, but do nothing
            raise NotSupported(f"{guest}: {why_not}")
        self._set(guest, "VM.setBalloonTarget", {"target": target_kib}, "setting the balloon")

    def balloon_sizes(self, guests: Sequence[Entity]) -> Mapping[str, int]:
        """Return the guests' sizes in KiB from vdsm's last samples, keyed by ID."""
        sizes = ((identity, vm.fields.get("balloon_cur")) for identity, vm in self._vms_of(guests).items())
        return {identity: size for identity, size in sizes if isinstance(size, int)}

    # --- CPU and I/O -------------------------------------------------------------------------------------------------------------

    def cpu_tunes(self, guests: Sequence[Entity]) -> Mapping[str, CpuTune]:
        """Return the guests' CPU limits, keyed by ID."""
        return {identity: vm.cpu for identity, vm in self._vms_of(guests).items()}

    def set_cpu_tune(self, guest: Entity, quota_us: int | None = None, period_us: int | None = None, shares: int | None = None) -> None:
        """Set the quota, then the period. Raise `NotSupported` for shares."""
        # vdsm has a verb for each value.
        if shares is not None:
            raise NotSupported("vdsm has no verb for CPU shares")
        self._vm(guest)
        if quota_us is not None:
            self._set(guest, "VM.setCpuTuneQuota", {"quota": quota_us}, "setting the CPU quota")
        if period_us is not None:
            self._set(guest, "VM.setCpuTunePeriod", {"period": period_us}, "setting the CPU period")

    def io_tunes(self, guests: Sequence[Entity]) -> Mapping[str, Sequence[DiskTune]]:
        """Return the limits of the guests' disks, keyed by guest ID."""
        ids = {guest.id for guest in guests}
        with _turn(self._reading_disks, self._for_others):
            with self._lock:
                disks, recent = self._disks, self._disks_are_recent()
                new = (ids & self._last_vms.keys()) - disks.keys()
            if not recent or new:
                disks = self._read_disks()
        return {identity: disks[identity] for identity in ids if disks.get(identity)}

    def _disks_are_recent(self) -> bool:
        read = self._disks_read_at
        return read is not None and self.context.monotonic() - read < self.settings.statistics_kept

    def _read_disks(self) -> Mapping[str, Sequence[DiskTune]]:
        with self._lock:
            now = self.context.monotonic()
            running = [vm.id for vm in self._last_vms.values() if vm.sampled]
        # vdsm may query the QEMU of each guest. If a QEMU has hung, each such call would block another of vdsm's workers.
        answer = self._bulk("Host.getAllVmIoTunePolicies", self._for_others, "reading the disks' limits", once=True)
        if not isinstance(answer, dict):
            raise HypervisorError(f"reading the disks' limits: vdsm's answer is a {type(answer).__name__}")
        tunes = {identity: disk_tunes(entry) for identity, entry in answer.items() if isinstance(identity, str)}
        with self._lock:
            self._disks, self._disks_read_at = {**dict.fromkeys(running, ()), **tunes}, now
            return self._disks

    def set_io_tune(self, guest: Entity, disk: str, limits: Mapping[str, int]) -> None:
        """Set limits of a disk. Keep its other limits."""
        self._vm(guest)
        tune = next((tune for tune in self.io_tunes([guest]).get(guest.id, ()) if tune.name == disk), None)
        if tune is None:
            raise NotSupported(f"{guest} has no disk {printable(disk)} that vdsm can limit")
        try:
            self._set(guest, "VM.setIoTune", {"tunables": [tunable(tune, limits)]}, f"setting the limits of disk {printable(disk)}")
        finally:
            with self._lock:
                self._disks_read_at = None

    # --- KSM ---------------------------------------------------------------------------------------------------------------------

    def ksm_write(self, knobs: Mapping[str, int]) -> None:
        """Write KSM knobs in the given order, through vdsm's privileged helper."""
        doing, params = "setting KSM's knobs", {"tuningParams": dict(knobs)}
        # Allow a call with other values: `run` may have to be 1 again while an unmerge takes minutes.
        self._call_once(f"KSM {knobs}", "Host.setKsmTune", params, self.settings.call_timeout, doing, f"{doing}: {_SAME_SILENT}")

    # --- asking ------------------------------------------------------------------------------------------------------------------

    def _vms_of(self, guests: Sequence[Entity]) -> dict[str, Vm]:
        ids = {guest.id for guest in guests}
        vms = self._vms(self._for_others, ids)
        return {identity: vms[identity] for identity in ids if identity in vms}

    def _vm(self, guest: Entity) -> Vm:
        # Query vdsm before the first read.
        with self._lock:
            vm, read = self._last_vms.get(guest.id), self._read_at
        if vm is None and read is None:  # a caller may know guests from an earlier process
            vm = self._vms_of([guest]).get(guest.id)
        if vm is None:
            raise GuestGone(f"{guest} has stopped")
        return vm

    def _bulk(self, method: str, timeout: float, doing: str, *, once: bool = False) -> object:
        # With `once`, raise `HypervisorError` also while the same call is unanswered.
        try:
            if once:
                return self._call_once(method, method, {}, timeout, doing, f"{doing}: {_SAME_SILENT}")
            return self.connection.call(method, {}, timeout, doing)
        except GuestBusy as error:  # the call concerns all guests
            raise HypervisorError(error.message, hint="if vdsm is healthy, increase the deadline of the vdsm plugin") from error

    def _set(self, guest: Entity, method: str, params: Mapping[str, object], doing: str) -> None:
        try:
            timeout, about = self._patience.seconds(self.settings.call_timeout), f"{doing} of {guest}"
            self._call_once(guest.id, method, {"vmID": guest.id, **params}, timeout, about, f"{guest}: {_SILENT}")
        finally:
            with self._lock:
                self._changed.add(guest.id)

    def _call_once(self, about: str, method: str, params: Mapping[str, object], timeout: float, doing: str, silent: str) -> object:
        with self._lock:
            self._forget_answered()
            if about in self._late:
                raise GuestBusy(silent)

        def late(done: Callable[[], bool]) -> None:
            self._patience.given_up(done)
            with self._lock:
                self._late[about] = (done, self.context.monotonic())

        return self.connection.call(method, params, timeout, doing, late)

    # --- events ------------------------------------------------------------------------------------------------------------------

    def _event(self, event: Event) -> None:
        if not event.method.startswith(_STATUS_EVENT):
            return
        identity = event.method.removeprefix(_STATUS_EVENT)
        params = event.params.get(identity)
        status = params.get("status") if isinstance(params, dict) else None
        if not isinstance(status, str):
            return
        with self._lock:
            vm = self._last_vms.get(identity)
            if vm is not None and vm.status == status:
                return
            self._changed.add(identity)
        name = printable(vm.name if vm else identity)
        self.context.wake(f"guest {name} is {printable(status, 40)!r}")


@contextmanager
def _turn(lock: threading.Lock, timeout: float) -> Iterator[None]:
    # Raise `HypervisorError` after the timeout.
    if not lock.acquire(timeout=timeout):
        raise HypervisorError("vdsm has not yet answered an earlier call about all guests")
    try:
        yield
    finally:
        lock.release()


def _listed(vm: Vm, mark: str, *, silent: bool) -> Guest:
    properties: dict[str, Value] = {"name": vm.name, "uuid": vm.id, "state": vm.status}
    blocked: dict[str, str] = {}
    if vm.blocked or silent:
        blocked[_ALL_CONTROLS] = vm.blocked or _SILENT
    elif why_not := _why_no_balloon(vm):
        blocked[_BALLOON_CONTROL] = why_not
    return Guest(vm.id, vm.name, properties=properties, blocked=blocked, incarnation=mark)


def _why_no_balloon(vm: Vm) -> str:
    if vm.balloon is False:
        return "the guest has no balloon device"
    return "" if vm.ballooning else "ballooning is switched off for the guest"
