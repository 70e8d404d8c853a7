"""From one entry of vdsm's bulk statistics to what mom knows of a guest: numbers that come as text, and unknown values as unknown. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mom_core import CpuTune, Value

_LARGEST = 1 << 62
"""Above this a number is no size and no count."""

UP = "Up"
PAUSED = "Paused"
NOT_HERE = frozenset({"Down", "WaitForLaunch", "Migration Destination", "Restoring state"})
"""Statuses of guests that do not run on this host now: they ended, or have yet to begin."""

_STATUS_WORDS = {
    "Powering up": "is starting",
    "Powering down": "is shutting down",
    "RebootInProgress": "reboots",
    PAUSED: "is paused",
    "Migration Source": "is being migrated",
    "Saving State": "is being saved",
}
"""The meaning of each status, of those in which vdsm is to be left alone with the guest."""

_MEMORY = {"mem_available": "mem_total", "mem_unused": "mem_unused", "mem_free": "mem_free"}
"""Sizes in KiB, by their names in `memoryStats`."""

_RATES = {"swap_in": "swap_in", "swap_out": "swap_out", "major_fault": "majflt", "minor_fault": "minflt"}
"""Per second, averaged by vdsm."""

_NO_ANSWER = "-1"
"""`monitorResponse` of a guest about which libvirt has not answered vdsm for long: its statistics are as old, and vdsm repeats them."""

_LATEST_SAMPLE = 1.2
"""Intervals after which vdsm has sampled again: it asks libvirt about all guests at once, which is late when a guest is."""

NO_LIMIT = -1
UNSET_PERIOD_US = 100_000
"""libvirt's, for a guest whose period was never set; vdsm leaves out what was never set."""

_UNSET_CPU = {"vcpuQuota": NO_LIMIT, "vcpuPeriod": UNSET_PERIOD_US, "vcpuUserLimit": 100}
"""A guest may have 100 % of the host's CPUs when nothing was agreed."""


@dataclass(frozen=True, slots=True)
class Vm:
    """A guest as vdsm described it last.

    `sampled` says whether its domain runs and vdsm has looked at it twice: before that much is absent. `sample` are the numbers
    that tell one of vdsm's samples from the next; `changed` and `age_then` say when they were first seen, in monotonic seconds, and how old
    they may have been then. `read` is when this was read.
    """

    id: str
    name: str
    status: str
    blocked: str
    read: float
    fields: Mapping[str, Value] = field(default_factory=dict)
    balloon: bool | None = None
    ballooning: bool = True
    sampled: bool = False
    reports: bool = False
    cpu: CpuTune = field(default_factory=CpuTune)
    elapsed: float | None = None
    sample: object = None
    changed: float = 0.0
    age_then: float = 0.0

    @property
    def here(self) -> bool:
        """True if it runs on this host, in whatever state."""
        return self.status not in NOT_HERE

    def age(self, now: float, sample_interval: float) -> float:
        """Seconds since vdsm took the sample, at most.

        vdsm does not say. A sample that was not there at the last look is no older than that look, and none is much older than vdsm's
        interval when it is read: numbers that stay the same for longer were sampled again.
        """
        known = self.age_then + (self.read - self.changed)
        return round(min(known, _LATEST_SAMPLE * sample_interval) + (now - self.read), 3)


def read_vm(entry: Mapping[str, object], previous: Vm | None, now: float, sample_interval: float, *, count_page_cache: bool) -> Vm | None:
    """A guest as this entry describes it; None if it names no guest.

    :param entry: as in the answer to Host.getAllVmStats
    :param previous: the same guest at the last look
    :param now: when it was read, in monotonic seconds
    :param sample_interval: every how many seconds vdsm samples
    :param count_page_cache: the guest could also give the memory that its page cache holds
    """
    identity, status = entry.get("vmId"), entry.get("status")
    if not isinstance(identity, str) or not identity or not isinstance(status, str):
        return None
    named = entry.get("vmName")
    fields: dict[str, Value] = {}
    vcpus = number(entry.get("vcpuCount"))
    if vcpus:
        fields["vcpu_count"] = vcpus
    balloon = entry.get("balloonInfo")
    for name in ("balloon_cur", "balloon_max", "balloon_min"):
        size = number(balloon.get(name)) if isinstance(balloon, Mapping) else None
        if size or (size == 0 and name == "balloon_min"):  # nothing was guaranteed; 0 of the others: libvirt did not say
            fields[name] = size
    stats = entry.get("memoryStats")
    reports = isinstance(stats, Mapping) and number(entry.get("memUsage")) != 0 and str(entry.get("monitorResponse")) != _NO_ANSWER
    if isinstance(stats, Mapping) and reports:
        _put_memory(fields, stats, fields.get("balloon_max"), count_page_cache=count_page_cache)
    sample = (stats, fields.get("balloon_cur"), entry.get("cpuUser"), entry.get("cpuSys"))
    changed, age_then = _first_seen(sample, previous, now, sample_interval)
    return Vm(
        id=identity,
        name=named if isinstance(named, str) and named else previous.name if previous else identity,
        status=status,
        blocked=_why_blocked(status, entry),
        read=now,
        fields=fields,
        balloon=isinstance(balloon, Mapping) if vcpus else None,
        ballooning=not (isinstance(balloon, Mapping) and balloon.get("ballooning_enabled") is False),
        sampled=bool(vcpus),
        reports=reports,
        cpu=_cpu(entry, sampled=bool(vcpus)),
        elapsed=_rate(entry.get("elapsedTime")),
        sample=sample,
        changed=changed,
        age_then=age_then,
    )


def _put_memory(fields: dict[str, Value], stats: Mapping[str, object], maximum: Value, *, count_page_cache: bool) -> None:
    """Add what the guest says of its memory: nothing if it says that it has more than it can have."""
    known = {name: size for name, key in _MEMORY.items() if (size := number(stats.get(key))) is not None}
    total = known.get("mem_available")
    if total is not None and isinstance(maximum, int) and total > maximum:
        return
    if not total:  # a guest without memory does not run
        known.pop("mem_available", None)
        total = _LARGEST
    for name in ("mem_unused", "mem_free"):
        if known.get(name, 0) > total:
            del known[name]
    unused, free = known.get("mem_unused"), known.get("mem_free")
    if unused is not None and free is not None and free >= unused:
        fields["mem_disk_caches"] = free - unused
    usable = free if count_page_cache and free is not None else unused
    if usable is not None:
        fields["mem_usable"] = usable
    fields.update(known)
    for name, key in _RATES.items():
        rate = _rate(stats.get(key))
        if rate is not None:
            fields[name] = rate


def _first_seen(sample: object, previous: Vm | None, now: float, sample_interval: float) -> tuple[float, float]:
    """When this sample was first seen, and how old it may have been then."""
    if previous is None:
        return now, sample_interval
    if previous.sample == sample:
        return previous.changed, previous.age_then
    return now, min(sample_interval, now - previous.read)


def _cpu(entry: Mapping[str, object], *, sampled: bool) -> CpuTune:
    """The limits of the guest's CPU time. vdsm leaves out what was never set: no limit, where the guest is known to run."""
    unset = _UNSET_CPU if sampled else {}
    quota = number(entry.get("vcpuQuota", unset.get("vcpuQuota")), negative=True)
    period, limit = (number(entry.get(key, unset.get(key))) for key in ("vcpuPeriod", "vcpuUserLimit"))
    return CpuTune(
        NO_LIMIT if quota is not None and quota <= 0 else quota, UNSET_PERIOD_US if period == 0 else period, user_limit_percent=limit
    )


def _why_blocked(status: str, entry: Mapping[str, object]) -> str:
    """Why nothing can be set on this guest now; empty when all can."""
    if status == UP:
        return ""
    if status == PAUSED and "migrationProgress" in entry:  # the last phase of a migration, in which the memory follows
        return "the guest is being migrated"
    why = f"the guest {_STATUS_WORDS.get(status, f'is {status!r:.40}, says vdsm')}"
    code = entry.get("pauseCode")
    return f"{why} ({code:.20})" if status == PAUSED and isinstance(code, str) and code.isalnum() and code != "NOERR" else why


def number(value: object, *, negative: bool = False) -> int | None:
    """The whole number that vdsm means, which may come as text; None when it means none.

    :param negative: one below 0 makes sense here
    """
    if isinstance(value, str):
        digits = value.removeprefix("-") if negative else value
        if not (digits.isascii() and digits.isdigit() and len(digits) < 20):
            return None
        whole = int(value)
    elif isinstance(value, int) and not isinstance(value, bool):
        whole = value
    elif isinstance(value, float) and value.is_integer():
        whole = int(value)
    else:
        return None
    return whole if (negative or whole >= 0) and abs(whole) < _LARGEST else None


def _rate(value: object) -> float | None:
    """A number that may be fractional; None when it is none, or negative."""
    if type(value) is float:
        return value if 0 <= value < _LARGEST else None
    return number(value)
