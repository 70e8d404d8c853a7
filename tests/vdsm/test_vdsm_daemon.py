"""`mom run` under vdsm as a process: with TLS, vdsm's configuration, certificates, policies and socket."""

import random
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from xmlrpc.client import ServerProxy

import pytest
from host_files import ksm_host, meminfo
from mom_run import MomRun
from shorter_waits import mom_with
from vdsm_peer import Vdsm
from vdsm_pki import Ca, write_pki

from mom_devkit import wait_until
from mom_kvm import Address
from mom_plugins_vdsm.rpc_client import SocketTransport

POLICIES = Path(__file__).parents[2] / "examples/policies/vdsm"
GIB = 1 << 20  # in KiB

ANSWER_SECONDS = 9.0
"""Longer than vdsm's 2 s, because tests share the CPUs. Shorter than mom's time limit for vdsm: mom must not wait for vdsm here."""

SHORT = meminfo(16 * GIB, 1_677_721, MemFree=1_677_721, Cached=0, AnonPages=14_000_000)
"""/proc/meminfo with a tenth of the memory available."""

KSMD = "37 (ksmd) S 2 0 0 0 -1 2097216 0 0 0 0 25 75 0 0 25 5 1 0 26 0 0 18446744073709551615\n"

ONE = {"id": "11111111-0000-4000-8000-000000000001", "name": "one", "user_limit": "50",
       "disks": [{"name": "vda", "path": "/rhev/vda", "maximum": {"total_bytes_sec": 104857600, "total_iops_sec": 5 << 32}}]}  # fmt: skip
TWO = {"id": "11111111-0000-4000-8000-000000000002", "name": "two", "guaranteed": 4 * GIB}


@contextmanager
def asked(path: Path) -> Iterator[Any]:
    """Client like vdsm's: a connection for each call, a time limit for each operation, nil allowed."""
    with ServerProxy("http://2F72756E/RPC2", transport=SocketTransport(Address.parse(str(path)), ANSWER_SECONDS), allow_none=True) as proxy:
        yield proxy


class Daemon(MomRun):
    """Host of files with a vdsm peer and mom."""

    def __init__(self, folder: Path, ca: Ca) -> None:
        super().__init__(folder, program=mom_with({"mom_plugins_ksm.control._SEARCH_SECONDS": 1.0}))
        self.socket = folder / "mom.sock"
        # Without the kernel's own thread, mom would assume hidden processes, and mergeable memory would be unknown.
        ksmd = {"proc/37/comm": "ksmd\n", "proc/37/stat": KSMD}
        files = {**ksmd, "proc/meminfo": SHORT, "sys/devices/system/cpu/online": "0-3\n"}
        self.root = ksm_host(folder / "root", files, pages_unshared=1000, pages_volatile=0, full_scans=1)
        (self.root / "proc/pressure").mkdir()
        self.ksm = self.root / "sys/kernel/mm/ksm"
        pki = write_pki(self.root / "etc/pki/vdsm", ca)
        self.vdsm = Vdsm(self.ksm, pki, mom=self.socket, sample_every=0.1)
        self.vdsm.add(ONE, TWO)
        shutil.copytree(POLICIES, folder / "mom.d", ignore=shutil.ignore_patterns("tests"))
        (self.root / "etc/vdsm").mkdir()
        (self.root / "etc/vdsm/vdsm.conf").write_text(f"[vars]\nvm_sample_interval = 1\n[addresses]\nmanagement_port = {self.vdsm.port}\n")
        policies = {"directory": f"{folder}/mom.d", "defaults": False}
        plugins = {"vdsm": {}, "balloon": {}, "ksm": {}, "qos": {}, "policy": policies, "xmlrpc": {"listen": str(self.socket)}}
        self.configure(plugins, interval="250ms", stop_timeout="60s", root=str(self.root))

    def machine(self, which: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = self.vdsm.machines()[which["id"]]
        return found

    def wait(self, what: Callable[[], object], seconds: float = 120.0) -> None:
        wait_until(what, lambda: self.log, seconds)

    def parameters(self, **parameters: object) -> None:
        """Set the cluster's settings as the engine does. Repeat until mom has them, because vdsm reports no failure."""
        told = {f"(set {name} {value!r})" for name, value in parameters.items()}

        def taken() -> bool:
            self.vdsm.call("Host.setMOMPolicyParameters", key_value_store=parameters)
            try:
                with asked(self.socket) as mom:
                    return told <= set(mom.getNamedPolicies().get("01-parameters", "").splitlines())
            except OSError:
                return False

        self.wait(taken)

    def end(self) -> None:
        """End mom before vdsm, so that mom can restore everything."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(120)
        self.vdsm.end()


@pytest.fixture
def daemon(tmp_path: Path, ca: Ca) -> Iterator[Daemon]:
    one = Daemon(tmp_path, ca)
    yield one
    one.end()


def test_everything_through_vdsms_verbs_and_back(daemon: Daemon) -> None:
    daemon.start()
    vdsm = daemon.vdsm

    # CPU and disks as agreed, and KSM because the host is short of memory. Balloons are off until vdsm enables them.
    daemon.wait(lambda: daemon.machine(ONE)["quota"] == 100_000)
    daemon.wait(lambda: daemon.machine(ONE)["disks"]["vda"]["total_bytes_sec"] == 104857600)
    assert daemon.machine(ONE)["disks"]["vda"]["total_iops_sec"] == 5 << 32
    daemon.wait(lambda: (daemon.ksm / "run").read_text() == "1\n")
    assert daemon.machine(ONE)["target"] == daemon.machine(TWO)["target"] == 4 * GIB
    assert daemon.machine(TWO)["quota"] is None, "what has no limit is not touched"
    calls = vdsm.calls()
    assert {"VM.setCpuTuneQuota", "VM.setIoTune", "Host.setKsmTune"} <= {method for method, _ in calls}
    tuned = next(params["tuningParams"] for method, params in calls if method == "Host.setKsmTune")
    assert tuned.keys() == {"run", "sleep_millisecs", "pages_to_scan"}, "all in one call"

    # The engine enables balloons.
    daemon.parameters(balloonEnabled=True)
    daemon.wait(lambda: daemon.machine(ONE)["seen"] < 3.5 * GIB)
    assert daemon.machine(TWO)["target"] == 4 * GIB, "its guarantee is all that it has"
    targets = [params for _, params in vdsm.calls("VM.setBalloonTarget")]
    assert targets
    assert all(isinstance(told["target"], int) and told["vmID"] == ONE["id"] for told in targets)

    # vdsm reports mom to its engine.
    daemon.parameters(ksmEnabled=False)
    daemon.wait(lambda: (daemon.ksm / "run").read_text() == "0\n")

    def told() -> bool:
        stats = vdsm.call("Host.getStats")
        known = stats["momStatus"] == "active" and stats["ksmState"] is False
        return known and f"{stats['ksmPages']}\n" == (daemon.ksm / "pages_to_scan").read_text()

    daemon.wait(told)

    # A clean stop restores everything.
    daemon.stop()
    one = daemon.machine(ONE)
    assert (one["target"], one["quota"], one["disks"]["vda"]["total_bytes_sec"]) == (4 * GIB, -1, 0)
    assert (daemon.ksm / "pages_to_scan").read_text() == "100\n"
    wire = vdsm.wire()
    assert wire["connections"] == 1
    assert wire["drops"] == []
    assert not wire["dead"]


def test_a_vdsm_that_starts_after_mom_and_restarts_while_mom_runs(daemon: Daemon) -> None:
    daemon.vdsm.stop()
    daemon.start()
    daemon.wait(lambda: "cannot be reached" in daemon.log)
    daemon.vdsm.start()
    daemon.wait(lambda: daemon.machine(ONE)["quota"] == 100_000)
    daemon.parameters(balloonEnabled=True)
    daemon.wait(lambda: daemon.machine(ONE)["seen"] < 4 * GIB)
    said = len(daemon.log)
    daemon.vdsm.stop()
    daemon.wait(lambda: "cannot be reached" in daemon.log[said:])
    daemon.vdsm.recovering(value=True)
    daemon.vdsm.start()
    daemon.wait(lambda: "vdsm's code 99" in daemon.log)
    time.sleep(1)  # several cycles: the guests are unknown, but not gone
    seen = daemon.machine(ONE)["target"]
    daemon.vdsm.calls()
    daemon.vdsm.change(str(ONE["id"]), unused=3 * GIB)  # so that mom can take more from the guests
    daemon.vdsm.recovering(value=False)
    daemon.wait(lambda: daemon.machine(ONE)["target"] < seen)
    daemon.stop()
    assert daemon.machine(ONE)["target"] == 4 * GIB


def test_what_took_effect_though_its_answer_was_lost_is_put_back(daemon: Daemon) -> None:
    daemon.start()
    daemon.wait(daemon.socket.exists)
    daemon.parameters(balloonEnabled=True)
    daemon.wait(lambda: daemon.machine(ONE)["seen"] < 4 * GIB)
    first = daemon.machine(ONE)["target"]
    daemon.vdsm.fault("VM.setBalloonTarget", 20, how="never")
    daemon.vdsm.change(str(ONE["id"]), unused=3 * GIB)  # so that mom can take more from the guests
    daemon.wait(lambda: daemon.machine(ONE)["target"] < first)
    daemon.wait(lambda: "balloon_target is not set" in daemon.log)
    daemon.stop()
    daemon.vdsm.answers.clear()
    restored = daemon.verb("restore")
    assert restored.returncode == 0, restored.stdout + restored.stderr
    assert daemon.machine(ONE)["target"] == 4 * GIB
    assert "another process" not in daemon.log


FAULTS: tuple[dict[str, Any], ...] = (
    {"how": "never"},
    {"how": "twice"},
    {"how": "unknown id"},
    {"how": "error", "code": 99},
    {"how": "error", "code": 1100},
    {"how": "error", "code": 1},
    {"how": "result", "result": [{}, 7]},
    {"how": "result", "result": None},
    {"how": "body", "body": "{"},
    {"how": "body", "body": '{"id": "ID"}'},
    {"how": "wire", "bytes": "GARBAGE\n\n\0"},
    {"how": "partial"},
    {"how": "drop"},
    {"seconds": 0.5},
)
VERBS = (
    "Host.getAllVmStats", "Host.getAllVmIoTunePolicies", "VM.setBalloonTarget", "VM.setCpuTuneQuota", "VM.setIoTune", "Host.setKsmTune",
)  # fmt: skip


def test_whatever_goes_wrong_mom_goes_on_and_puts_everything_back(daemon: Daemon) -> None:
    chance = random.Random(20260620)  # noqa: S311  # no secret
    vdsm = daemon.vdsm
    more = [{**ONE, "id": f"11111111-0000-4000-8000-0000000001{number:02}", "name": f"more-{number}"} for number in range(10)]
    vdsm.add(*more)
    daemon.start()
    daemon.wait(daemon.socket.exists)
    daemon.parameters(balloonEnabled=True)
    for _ in range(40):
        vdsm.fault(chance.choice(VERBS), **chance.choice(FAULTS))
        vdsm.piece = chance.choice((0, 0, 500))
        vdsm.change(str(chance.choice(more)["id"]), status=chance.choice(("Up", "Up", "Paused", "Migration Source", "Levitating")))
        time.sleep(0.1)
        assert daemon.process is not None
        assert daemon.process.poll() is None
    vdsm.answers.clear()
    vdsm.piece = 0
    for machine in more:
        vdsm.change(str(machine["id"]), status="Up")
    vdsm.calls()
    # After repeated failures, mom waits a minute.
    daemon.wait(lambda: len(vdsm.calls("Host.getAllVmStats")) > 0 and daemon.machine(more[0])["target"] < 4 * GIB, 240)
    daemon.stop()
    # The last answer was lost, so mom waits before the next try. The guest stays in the ledger.
    restored = daemon.verb("restore")
    assert restored.returncode == 0, restored.stdout + restored.stderr
    assert {machine["target"] for machine in vdsm.machines().values()} == {4 * GIB}
    assert {machine["quota"] for machine in vdsm.machines().values()} <= {None, -1}
    assert "Traceback" not in daemon.log
    wire = vdsm.wire()
    assert not wire["dead"]
    assert wire["drops"] == [], "vdsm never had a reason to drop mom"


def test_the_doctor_and_config_init_know_vdsm(daemon: Daemon, tmp_path: Path, ca: Ca) -> None:
    said = daemon.verb("doctor")
    assert f"vdsm at localhost:{daemon.vdsm.port} answers over TLS; 2 guests here" in said.stdout, said.stdout
    write_pki(daemon.root / "etc/pki/vdsm", ca, begins=timedelta(days=-9), ends=timedelta(days=-1))
    said = daemon.verb("doctor")
    assert said.returncode == 1
    assert re.search(r"does not accept the certificate .*/vdsmcert\.pem", said.stdout)
    drafted = daemon.verb("config", "init", "--root", str(daemon.root), "-o", str(tmp_path / "new.yaml"))
    assert drafted.returncode == 0, drafted.stderr
    assert "\n  vdsm:" in (tmp_path / "new.yaml").read_text()
