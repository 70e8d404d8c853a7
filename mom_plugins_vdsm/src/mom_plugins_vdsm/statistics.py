"""Conversion of vdsm's statistics to guests and fields, and of disks' limits. vdsm may send numbers as strings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mom_core import CpuTune, DiskTune, Value, as_items


def disk_tunes(entry: object) -> tuple[DiskTune, ...]:
    """Return the limits of a guest's disks from its entry in the answer to Host.getAllVmIoTunePolicies.

    A disk without a policy has only `current`.
    """
    if not isinstance(entry, Mapping):
        return ()
    policies = (as_items(entry.get("policy")) or ())[::-1]  # of two entries for one disk, the first counts
    by_path = {path: policy for policy in policies if (path := _text(policy, "path"))}
    by_name = {name: policy for policy in policies if (name := _text(policy, "name"))}
    without_path = {_text(policy, "name"): policy for policy in policies if not _text(policy, "path")}
    tunes = []
    for item in as_items(entry.get("current_values")) or ():
        name, path = _text(item, "name"), _text(item, "path")
        if not name and not path:
            continue
        agreed = (by_path.get(path) or without_path.get(name, {})) if path else by_name.get(name, {})
        current = _limits(item.get("ioTune")) or {}
        tunes.append(DiskTune(name or path, path, current, _limits(agreed.get("maximum")), _limits(agreed.get("guaranteed"))))
    return tuple(tunes)


def _limits(value: object) -> dict[str, int] | None:
    if not isinstance(value, Mapping):
        return None
    return {key: limit for key in DiskTune.LIMITS if (limit := number(value.get(key))) is not None}


def _text(item: Mapping[str, object], key: str) -> str:
    value = item.get(key)
    return value if isinstance(value, str) else ""


def tunable(disk: DiskTune, limits: Mapping[str, int]) -> dict[str, object]:
    """Return the entry for VM.setIoTune that sets these limits. vdsm keeps the other limits."""
    entry: dict[str, object] = {"ioTune": {key: limits[key] for key in DiskTune.LIMITS if key in limits}}
    if disk.path:
        entry["path"] = disk.path
    if disk.name != disk.path:
        entry["name"] = disk.name
    return entry


_LARGEST = 1 << 62

UP = "Up"
PAUSED = "Paused"
_NOT_HERE = frozenset({"Down", "WaitForLaunch", "Migration Destination", "Restoring state"})
"""Statuses of guests that are not running here."""

_MEMORY = {"mem_available": "mem_total", "mem_unused": "mem_unused", "mem_free": "mem_free"}
"""Names in vdsm's `memoryStats`, keyed by field. All are in KiB."""

_RATES = {"swap_in": "swap_in", "swap_out": "swap_out", "major_fault": "majflt", "minor_fault": "minflt"}
"""vdsm's names of rates per second, keyed by field. vdsm averages them over its sample interval."""

_NO_ANSWER = "-1"
"""Value of `monitorResponse` if the guest does not answer libvirt. vdsm then repeats the guest's old statistics."""

_LATEST_SAMPLE = 1.2
"""Largest age of vdsm's sample, in sample intervals. It exceeds 1 because one late guest delays the samples of all guests."""

NO_LIMIT = -1
_UNSET_PERIOD_US = 100_000
"""libvirt's default CPU period. vdsm does not report a default."""

_UNSET_CPU = {"vcpuQuota": NO_LIMIT, "vcpuPeriod": _UNSET_PERIOD_US, "vcpuUserLimit": 100}
"""Defaults of limits that vdsm does not report. `vcpuUserLimit` 100 stands for all of the host's CPUs."""


@dataclass(frozen=True, slots=True)
class Vm:
    """Guest as vdsm's last answer describes it.

    `sampled` is true after vdsm has sampled the guest twice; before that, many values are missing. `changed` is the monotonic time when
    mom first saw `sample`. `age_then` is the sample's largest possible age at that time.
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
        """Whether the guest is running on this host, in any state."""
        return self.status not in _NOT_HERE

    def age(self, now: float, sample_interval: float) -> float:
        """Return the largest possible age of vdsm's sample in seconds."""
        age = self.age_then + (self.read - self.changed)
        return round(min(age, _LATEST_SAMPLE * sample_interval) + (now - self.read), 3)


def read_vm(entry: Mapping[str, object], previous: Vm | None, now: float, sample_interval: float, *, count_page_cache: bool) -> Vm | None:
    """Return the guest in an entry of the answer to Host.getAllVmStats; None if the entry is not a guest.

    :param previous: the same guest at the last read
    :param now: monotonic time of the read
    :param sample_interval: vdsm's interval in seconds
    """
    identity, status = entry.get("vmId"), entry.get("status")
    if not isinstance(identity, str) or not identity or not isinstance(status, str):
        return None
    vm_name = entry.get("vmName")
    fields: dict[str, Value] = {}
    vcpus = number(entry.get("vcpuCount"))
    if vcpus:
        fields["vcpu_count"] = vcpus
    balloon = entry.get("balloonInfo")
    for name in ("balloon_cur", "balloon_max", "balloon_min"):
        size = number(balloon.get(name)) if isinstance(balloon, Mapping) else None
        if size or (size == 0 and name == "balloon_min"):  # 0 is valid only for a guarantee; otherwise libvirt has not reported
            fields[name] = size
    stats = entry.get("memoryStats")
    reports = isinstance(stats, Mapping) and number(entry.get("memUsage")) != 0 and str(entry.get("monitorResponse")) != _NO_ANSWER
    if isinstance(stats, Mapping) and reports:
        _put_memory(fields, stats, fields.get("balloon_max"), count_page_cache=count_page_cache)
    sample = (stats, fields.get("balloon_cur"), entry.get("cpuUser"), entry.get("cpuSys"))
    changed, age_then = _first_seen(sample, previous, now, sample_interval)
    return Vm(
        id=identity,
        name=vm_name if isinstance(vm_name, str) and vm_name else previous.name if previous else identity,
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
    sizes = {name: size for name, key in _MEMORY.items() if (size := number(stats.get(key))) is not None}
    total = sizes.get("mem_available")
    if total is not None and isinstance(maximum, int) and total > maximum:
        return
    if not total:  # 0 is impossible
        sizes.pop("mem_available", None)
        total = _LARGEST
    for name in ("mem_unused", "mem_free"):
        if sizes.get(name, 0) > total:
            del sizes[name]
    unused, free = sizes.get("mem_unused"), sizes.get("mem_free")
    if unused is not None and free is not None and free >= unused:
        fields["mem_disk_caches"] = free - unused
    usable = free if count_page_cache and free is not None else unused
    if usable is not None:
        fields["mem_usable"] = usable
    fields.update(sizes)
    for name, key in _RATES.items():
        rate = _rate(stats.get(key))
        if rate is not None:
            fields[name] = rate


def _first_seen(sample: object, previous: Vm | None, now: float, sample_interval: float) -> tuple[float, float]:
    if previous is None:
        return now, sample_interval
    if previous.sample == sample:
        return previous.changed, previous.age_then
    return now, min(sample_interval, now - previous.read)


def _cpu(entry: Mapping[str, object], *, sampled: bool) -> CpuTune:
    # vdsm omits unset limits.
    unset = _UNSET_CPU if sampled else {}
    quota = number(entry.get("vcpuQuota", unset.get("vcpuQuota")), negative=True)
    period, limit = (number(entry.get(key, unset.get(key))) for key in ("vcpuPeriod", "vcpuUserLimit"))
    return CpuTune(
        NO_LIMIT if quota is not None and quota <= 0 else quota, _UNSET_PERIOD_US if period == 0 else period, user_limit_percent=limit
    )


def _why_blocked(status: str, entry: Mapping[str, object]) -> str:
    if status == UP:
        return ""
    if status == PAUSED and "migrationProgress" in entry:  # the last phase of a migration
        return "the guest is being migrated"
    why, code = f"the guest is {status!r:.40} according to vdsm", entry.get("pauseCode")
    return f"{why} ({code:.20})" if status == PAUSED and isinstance(code, str) and code.isalnum() and code != "NOERR" else why


def number(value: object, *, negative: bool = False) -> int | None:
    """Return a whole number from vdsm, which may send it as a string or a float; None if invalid.

    :param negative: allow values below 0
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
    if type(value) is float:
        return value if 0 <= value < _LARGEST else None
    return number(value)
