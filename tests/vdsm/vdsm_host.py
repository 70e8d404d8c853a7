"""State behind the test peer's verbs: guests in every state of vdsm, KSM's files, and each verb with its errors."""

import time
import xmlrpc.client
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vdsm_manager import Manager

IO_KEYS = ("total_bytes_sec", "read_bytes_sec", "write_bytes_sec", "total_iops_sec", "read_iops_sec", "write_iops_sec")

NO_DOMAIN = frozenset({"Down", "WaitForLaunch"})
"""Statuses without a running domain. Setting values fails."""

UNSAMPLED = frozenset({"Paused", "Migration Destination", "Down", "WaitForLaunch"})
DONE = {"code": 0, "message": "Done"}


class VerbError(Exception):
    """Answer with `error` instead of `result`."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass
class Disk:
    """Disk with its present and its agreed limits."""

    name: str = "vda"
    path: str = "/rhev/data-center/mnt/vda"
    current: dict[str, int] = field(default_factory=lambda: dict.fromkeys(IO_KEYS, 0))
    maximum: dict[str, int] | None = None
    guaranteed: dict[str, int] | None = None


@dataclass
class Machine:
    """Guest; sizes in KiB. `actual` is the balloon's actual size, `seen` vdsm's last sample of it."""

    id: str
    name: str
    status: str = "Up"
    memory: int = 4 << 20
    guaranteed: int = 1 << 20
    target: int = 0
    actual: int = 0
    seen: int = 0
    unused: int = 2 << 20
    cache: int = 512 << 10
    device: bool = True
    enabled: bool = True
    driver: bool = True
    samples: int = 2
    vcpus: int = 2
    user_limit: int | str | None = None
    quota: int | None = None
    period: int | None = None
    disks: list[Disk] = field(default_factory=list)
    pause_code: str = "NOERR"
    post_copy: bool = False
    started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        for name in ("target", "actual", "seen"):
            if not getattr(self, name):
                setattr(self, name, self.memory)

    def stats(self) -> dict[str, object]:
        """Return the guest's entry in Host.getAllVmStats, in the form of its state."""
        milliseconds = str(int(time.monotonic() * 1000))
        if self.status == "Down":
            return {
                "vmId": self.id, "status": "Down", "statusTime": milliseconds, "timeOffset": "0", "exitCode": 0,
                "exitMessage": "User shut down from within the guest", "exitReason": 7,
            }  # fmt: skip
        entry: dict[str, object] = {
            "vmId": self.id, "vmName": self.name, "vmType": "kvm", "status": self.status, "statusTime": milliseconds,
            "kvmEnable": "true", "acpiEnable": "true",
        }  # fmt: skip
        if self.post_copy:
            return entry | {"status": "Paused", "migrationProgress": 99}
        entry |= {
            "elapsedTime": str(int(time.monotonic() - self.started)), "guestIPs": "", "clientIp": "", "displayInfo": [], "cpuUser": "1.20",
            "cpuSys": "0.40", "memUsage": "0", "username": "None", "session": "Unknown", "timeOffset": "0", "hash": "-77", "guestFQDN": "",
        }  # fmt: skip
        if self.user_limit is not None:
            entry["vcpuUserLimit"] = self.user_limit
        if self.quota is not None:
            entry["vcpuQuota"] = str(self.quota)
        if self.period is not None:
            entry["vcpuPeriod"] = self.period
        if self.status == "Paused":
            entry["pauseCode"] = self.pause_code
        if self.status == "Migration Source":
            entry["migrationProgress"] = 42
        if self.status not in UNSAMPLED and self.samples >= 2:
            entry |= self._sampled()
        return entry

    def _sampled(self) -> dict[str, object]:
        entry: dict[str, object] = {"vcpuCount": str(self.vcpus)}
        if self.device:
            entry["balloonInfo"] = {
                "balloon_max": str(self.memory), "balloon_min": str(self.guaranteed), "balloon_cur": str(self.seen),
                "balloon_target": str(self.target), "ballooning_enabled": self.enabled,
            }  # fmt: skip
        if self.device and self.driver:
            used = self.memory - self.unused - self.cache - (64 << 10)
            total = self.seen - (64 << 10)
            unused = max(0, total - used - self.cache)
            entry["memUsage"] = str(max(1, 100 * used // total))
            entry["memoryStats"] = {
                "mem_total": str(total), "mem_unused": str(unused), "mem_free": str(unused + self.cache), "swap_in": 0, "swap_out": 0,
                "majflt": 2, "minflt": 200, "pageflt": 202,
            }  # fmt: skip
        return entry

    def sample(self) -> None:
        """Sample the guest."""
        if self.status not in UNSAMPLED:
            self.samples += 1
            if self.driver and self.device and self.enabled:
                self.actual = self.target
            self.seen = self.actual


class VdsmHost:
    """Guests, KSM's files, and the verbs for them.

    :param ksm: substitute of /sys/kernel/mm/ksm; vdsm's privileged helper writes there
    :param manager: mom, for vdsm's calls
    :param sample_every: seconds between two samples of the guests
    """

    slow = frozenset({"Host.getStats", "Host.setMOMPolicyParameters"})
    """Verbs that call mom."""

    def __init__(self, ksm: Path | None, manager: Manager | None, sample_every: float) -> None:
        self.machines: dict[str, Machine] = {}
        self.recovering = False
        self.calls: list[tuple[str, object]] = []
        self._ksm = ksm
        self._manager = manager
        self._sample_every, self._sampled = sample_every, time.monotonic()
        self.verbs: dict[str, Callable[[Mapping[str, object]], object]] = {
            "Host.ping2": lambda params: True,
            "Host.getVMList": lambda params: [
                {"vmId": m.id, "status": m.status, "statusTime": str(int(time.monotonic() * 1000))} for m in list(self.machines.values())
            ],
            "Host.getAllVmStats": lambda params: [machine.stats() for machine in list(self.machines.values())],
            "Host.getAllVmIoTunePolicies": self._all_io_tune_policies,
            "Host.setKsmTune": self._set_ksm_tune,
            "Host.getStats": self._host_stats,
            "Host.setMOMPolicyParameters": self._set_mom_parameters,
            "VM.setBalloonTarget": self._set_balloon_target,
            "VM.setCpuTuneQuota": self._set_quota,
            "VM.setCpuTunePeriod": self._set_period,
            "VM.setIoTune": self._set_io_tune,
        }

    def call(self, method: object, params: object) -> object:
        """Return the verb's result, or raise `VerbError`."""
        self.calls.append((str(method), params))
        if not isinstance(method, str) or method not in self.verbs:
            raise VerbError(-32601, f"The method does not exist or is not available: {method!r}")
        if self.recovering:
            raise VerbError(99, "Recovering from crash or Initializing")
        self._sample()
        try:
            result = self.verbs[method](params if isinstance(params, Mapping) else {})
        except KeyError as error:
            raise VerbError(-32603, f"Internal JSON-RPC error: missing parameter {error}") from error
        except xmlrpc.client.Fault as error:  # an error of mom, which vdsm does not catch
            raise VerbError(54 if "setMOM" in method else -32603, f"Internal JSON-RPC error: {error}") from error
        return True if result is None else result

    def _sample(self) -> None:
        now = time.monotonic()
        if now - self._sampled >= self._sample_every:
            self._sampled = now
            for machine in list(self.machines.values()):
                machine.sample()

    def _machine(self, params: Mapping[str, object]) -> Machine:
        identity = str(params["vmID"])
        if identity not in self.machines:
            raise VerbError(1, f"Virtual machine does not exist: {{'vmId': {identity!r}}}")
        return self.machines[identity]

    def _set_balloon_target(self, params: Mapping[str, object]) -> object:
        machine, target = self._machine(params), params["target"]
        kib = int(str(target))
        if machine.status in NO_DOMAIN:
            raise VerbError(53, "Balloon operation is not available: domain is not running")
        if machine.device and machine.enabled:  # else vdsm reports success without a change
            machine.target = kib
        return DONE

    def _set_quota(self, params: Mapping[str, object]) -> object:
        machine, quota = self._machine(params), int(str(params["quota"]))
        self._check_domain(machine)
        if 0 <= quota < 1000:
            raise VerbError(62, f"CPU tune failed: value of 'vcpu_quota' is out of range [1000, 17592186044415]: {quota}")
        machine.quota = max(quota, -1)
        machine.period = 100_000 if machine.period is None else machine.period
        return DONE

    def _set_period(self, params: Mapping[str, object]) -> object:
        machine, period = self._machine(params), int(str(params["period"]))
        self._check_domain(machine)
        if not 1000 <= period <= 1_000_000:
            raise VerbError(62, f"CPU tune failed: value of 'vcpu_period' is out of range [1000, 1000000]: {period}")
        machine.period = period
        machine.quota = -1 if machine.quota is None else machine.quota
        return DONE

    def _check_domain(self, machine: Machine) -> None:
        if machine.status in NO_DOMAIN:
            raise VerbError(100, "General Exception: VM is not running")

    def _set_io_tune(self, params: Mapping[str, object]) -> object:
        machine = self._machine(params)
        tunables = params["tunables"]
        assert isinstance(tunables, list)
        for told in tunables:
            disk = next(
                (d for d in machine.disks if told.get("path") == d.path or ("path" not in told and told.get("name") == d.name)), None
            )
            if disk is None:
                raise VerbError(64, f"Failed to set io tune: no disk {told.get('name')!r}")
            values = dict(disk.current)
            for key, value in told["ioTune"].items():
                if key not in IO_KEYS:
                    raise VerbError(100, f"General Exception: unknown key {key!r}")
                if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                    raise VerbError(64, f"Failed to set io tune: {key} is {value!r}")
                values[key] = value
            for total, read, write in (IO_KEYS[:3], IO_KEYS[3:]):
                if values[total] and (values[read] or values[write]):
                    raise VerbError(64, f"Failed to set io tune: {total} and {read} or {write}")
            disk.current = values
        return DONE

    def _all_io_tune_policies(self, params: Mapping[str, object]) -> object:
        return {
            machine.id: {"policy": _policy(machine), "current_values": _current_values(machine)}
            for machine in list(self.machines.values())
            if machine.status not in NO_DOMAIN
        }

    def _host_stats(self, params: Mapping[str, object]) -> object:
        mom = {"momStatus": "inactive"} if self._manager is None else self._manager.statistics()
        return {"cpuLoad": "0.10", "memFree": 1000, "statsAge": "1", **mom}

    def _set_mom_parameters(self, params: Mapping[str, object]) -> object:
        try:
            if self._manager is not None:
                told = params["key_value_store"]
                assert isinstance(told, Mapping)
                self._manager.set_parameters(told)
        except xmlrpc.client.Fault as error:
            raise VerbError(54, f"Failed to set MOM policy: {error.faultString}") from error
        return DONE

    def _set_ksm_tune(self, params: Mapping[str, object]) -> object:
        tuning = params["tuningParams"]
        assert isinstance(tuning, Mapping)
        limits = {"run": 2, "merge_across_nodes": 2, "sleep_millisecs": (1 << 32) - 1, "pages_to_scan": (1 << 32) - 1}
        for name, value in tuning.items():
            if name not in limits or not isinstance(value, int) or not 0 <= value <= limits[name] or self._ksm is None:
                raise VerbError(71, f"KSM update failed: {name}={value}")
            (self._ksm / name).write_text(f"{value}\n")
        return DONE


def _policy(machine: Machine) -> list[dict[str, object]]:
    return [
        {"name": disk.name, "path": disk.path} | {name: value for name in ("maximum", "guaranteed") if (value := getattr(disk, name))}
        for disk in machine.disks
        if disk.maximum is not None or disk.guaranteed is not None
    ]


def _current_values(machine: Machine) -> list[dict[str, object]]:
    return [{"name": disk.name, "path": disk.path, "ioTune": dict(disk.current)} for disk in machine.disks]
