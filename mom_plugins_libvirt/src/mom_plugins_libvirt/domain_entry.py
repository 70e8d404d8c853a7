"""libvirt's codes for the states of guests, and mom's record of one run of a guest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mom_core import CpuTune
from mom_kvm import SeenGuest
from mom_plugins_libvirt.domain_xml import UNTUNED, DomainDescription, Tuning

# virDomainState, virDomainPausedReason, virDomainRunningReason and virDomainJobType: part of libvirt's stable
# interface.
NO_STATE, RUNNING, IDLE, PAUSED = range(4)

STATES = {
    NO_STATE: "unknown", RUNNING: "running", IDLE: "idle", PAUSED: "paused", 4: "shutting down", 5: "shut off", 6: "crashed",
    7: "suspended",
}  # fmt: skip

_PAUSED = {
    2: "being migrated", 3: "being saved", 4: "being dumped", 5: "after an I/O error", 6: "by its watchdog", 7: "restored from a snapshot",
    8: "shutting down", 9: "being snapshotted", 10: "its kernel has crashed", 11: "starting up", 12: "being migrated (post-copy)",
    13: "its migration (post-copy) has failed", 14: "after a libvirt call failed",
}  # fmt: skip

_RUNNING = {10: "being migrated in (post-copy)", 11: "being migrated in, but post-copy has failed"}
"""Texts for virDomainRunningReason values that forbid changes. With memory still on another host, ballooned pages would be lost."""

_MOVED, _STARTING_UP = 2, 11
"""2 is virDomainRunningReason `migrated` and virDomainPausedReason `migration`. 11 is the paused reason `starting up`."""

MOVES_AWAY = "being migrated out"
"""Text for the job of a guest that is migrating to another host, and still runs here."""

_JOBS = {
    1: "being started", 2: "being saved", 3: "being restored", 4: "being migrated in", 5: MOVES_AWAY, 6: "being snapshotted",
    7: "being reverted to a snapshot", 8: "being dumped",
}  # fmt: skip
"""Texts for values of virDomainJobOperation that forbid changes. Backups allow changes."""


def job_name(statistics: Mapping[str, object]) -> str:
    """Return the job in libvirt's `jobStats` if it forbids changes; otherwise an empty string."""
    operation = statistics.get("operation")
    return _JOBS.get(operation, "") if statistics.get("type") and isinstance(operation, int) else ""


CPU_CONTROLS = ("vcpu_quota", "vcpu_period", "cpu_shares")
"""Controls of CPU time, with libvirt's names."""


@dataclass(slots=True, eq=False, kw_only=True)
class DomainEntry(SeenGuest):
    """Record of one run of a guest. Hold the hypervisor's lock while using the record."""

    status: int = 0
    reason: int = 0
    job: str = ""
    description: DomainDescription | None = None
    describe: bool = True
    describe_at: float = float("inf")
    """Monotonic time at which mom reads the description again even without an event."""
    prompt: bool = False
    doubted: bool | None = None
    """Whether libvirt may report an old size because the guest migrated to this host. None without a migration."""
    untunable: str = ""
    """Why libvirt cannot limit the guest's CPU time; empty if it can."""
    cpu_tune: CpuTune | None = None
    pins: Sequence[Sequence[bool]] | None = None

    @property
    def tuning(self) -> Tuning:
        """Limits in the description."""
        return UNTUNED if self.description is None else self.description.tuning

    @property
    def resizable(self) -> bool:
        """Whether the guest has virtio-mem."""
        return self.description is not None and self.description.resizable_kib > 0

    @property
    def plugged_kib(self) -> int:
        """KiB of plugged virtio-mem, according to the description."""
        return 0 if self.description is None else self.description.plugged_kib

    def fit_sizes(self) -> None:
        """Correct libvirt's sizes, which include unplugged virtio-mem and devices that are not RAM."""
        description = self.description
        if description is None or self.reading is None or self.reading.maximum is None:
            return
        most = max(1, self.reading.maximum - description.not_had_kib)
        if not description.balloon and (description.resizable_kib or description.no_ram_kib):
            self.fields["balloon_cur"] = most
        self.fields["balloon_max"] = max(most, self.size or 1)

    @property
    def may_come(self) -> bool:
        """Whether the guest may be migrating to this host."""
        return (self.status == PAUSED and self.reason in {_MOVED, _STARTING_UP}) or (self.status == RUNNING and self.reason in _RUNNING)

    @property
    def has_come(self) -> bool:
        """Whether the guest has migrated to this host, and has not been paused since."""
        return self.status == RUNNING and self.reason == _MOVED

    @property
    def is_doubtful(self) -> bool:
        """Whether libvirt's size is in doubt, and QEMU can report the true size."""
        return bool(self.doubted) and self.balloon and not self.may_come

    def see_size(self, size: int | None) -> None:
        """Record the size that QEMU reports, in KiB; None if unknown."""
        if size is not None and size == self.size:
            self.doubted = False
        elif size is None:
            self.fields.pop("balloon_cur", None)
        else:
            self.fields["balloon_cur"] = size

    def left_alone(self) -> str:
        """Return why libvirt's state forbids changes; empty if it allows them."""
        if self.status in {NO_STATE, RUNNING, IDLE}:
            why = _RUNNING.get(self.reason, "") if self.status == RUNNING else ""
            return f"the guest is {why}" if why else ""
        why = _PAUSED.get(self.reason, "") if self.status == PAUSED else ""
        return f"the guest is {STATES.get(self.status, 'in an unknown state')}" + (f", {why}" if why else "")
