"""The units in packaging/, run by a real systemd: start, watchdog, kill, restart, stop, and giving up."""

import json
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from host_files import ksm_host
from own_systemd import MOM, OwnSystemd

from mom_devkit import wait_until

pytestmark = pytest.mark.waits

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent

PLUGIN = '''
import ctypes, os
from mom_core import Decision, hookimpl

class MergeAlways:
    """Wants KSM to run."""
    def __init__(self, settings, context):
        if os.path.exists(os.environ["BROKEN"]):
            os.abort()
    @hookimpl
    def mom_evaluate(self, snapshot):
        if os.path.exists(os.environ["STUCK"]):
            with open(os.environ["STUCK"], "w") as file:
                file.write("stuck")
            ctypes.PyDLL(None).sleep(3600)  # holds Python's lock
        return [Decision(snapshot.host.entity, "ksm_run", 1)]
'''

SET = ("run", "pages_to_scan", "sleep_millisecs", "merge_across_nodes")
"""KSM's files that mom may write."""

SPANS = {"WatchdogSec=20s": "WatchdogSec=7s", "TimeoutStopSec=15s": "TimeoutStopSec=8s", "StartLimitBurst=10": "StartLimitBurst=5"}
"""Shipped times in mom's unit, and shorter ones for tests."""

WITHIN_SECONDS = 30.0
"""Time limit until a next mom has taken over all changes, or they are restored."""

CONFIG = """
interval: 200ms
root: {root}
run_directory: /run/mom
mode: enforce
plugins:
  host: {{deadline: 200ms}}
  ksm: {{deadline: 200ms}}
  merge: {{deadline: 200ms}}
"""


class Service:
    """mom's units in a test's systemd, on a host of files."""

    def __init__(self, systemd: OwnSystemd, folder: Path) -> None:
        self.systemd = systemd
        self.folder = folder
        self.broken = folder / "broken"
        self.stuck = folder / "stuck"
        self.root = folder / "root"
        self._knobs = self.root / "sys/kernel/mm/ksm"
        ksm_host(self.root)
        metadata = folder / "site/mom_unit_plugins-1.dist-info"
        metadata.mkdir(parents=True)
        (folder / "site/mom_unit_plugins.py").write_text(PLUGIN)
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: mom-unit-plugins\nVersion: 1\n")
        (metadata / "entry_points.txt").write_text("[mom.plugins]\nmerge = mom_unit_plugins:MergeAlways\n")
        (folder / "mom.yaml").write_text(CONFIG.format(root=self.root, folder=folder))
        self.environment = (f"PYTHONPATH={folder}/site", f"BROKEN={folder}/broken", f"STUCK={folder}/stuck")
        systemd.add_moms_units(folder / "mom.yaml", f"Environment={' '.join(self.environment)}", f"ReadWritePaths={folder}", spans=SPANS)
        declared = "".join(f"[knob {self._knobs / name}]\nleast = 0\nmost = 1000000\n" for name in SET)
        (folder / "helper.d/ksm.conf").write_text(declared)

    def knob(self) -> int:
        while not (text := (self._knobs / "run").read_text()):
            time.sleep(0.001)
        return int(text)

    def said(self) -> str:
        """Return the log of systemd and its processes."""
        return "\n".join(path.read_text(errors="replace") for path in self.folder.glob("*log"))

    def main_pid(self, unit: str = "mom") -> int:
        """Return the pid of the unit's main process."""
        return int(self.systemd.show(unit, "MainPID")["MainPID"])

    def owner(self, pid: int) -> int:
        """Return the user of a process."""
        status = self.systemd.run("cat", f"/proc/{pid}/status").stdout
        return int(re.findall(r"^Uid:\t(\d+)", status, re.M)[0])

    def wait_for_another(self, before: int, unit: str = "mom") -> None:
        """Wait until the unit is active with another main process. The state alone may belong to the earlier process."""
        wait_until(lambda: self.main_pid(unit) not in {0, before}, self.said)
        self.wait("it works", unit, "active")

    def configure(self, **settings: str) -> None:
        path = self.folder / "mom.yaml"
        lines = [line for line in path.read_text().splitlines() if line.partition(":")[0] not in settings]
        path.write_text("\n".join([*(f"{name}: {value}" for name, value in settings.items()), *lines]) + "\n")

    def kill(self, number: signal.Signals) -> None:
        pid = self.main_pid()
        assert pid > 0, "0 would be every process of this one's group"
        self.systemd.run("kill", f"-{number.value}", str(pid))

    def harm(self, way: str) -> None:
        """Kill mom, stop it, or let it hang in a call that ignores signals."""
        if way == "hangs":
            self.stuck.touch()
            self.stuck.chmod(0o666)
            wait_until(lambda: self.stuck.read_text() == "stuck", "it hangs")
            self.stuck.unlink()
        else:
            self.kill(signal.SIGKILL if way == "killed" else signal.SIGSTOP)

    def completed_a_cycle(self) -> bool:
        """Return whether the running mom has completed a cycle."""
        return self.systemd.show("mom", "StatusText")["StatusText"].startswith("cycle ")

    def state(self, unit: str = "mom") -> str:
        return self.systemd.show(unit, "ActiveState")["ActiveState"]

    def wait(self, what: str, unit: str, state: str, seconds: float = 60.0) -> None:
        def said() -> str:
            return f"{what}: {unit} is {state}\n{self.said()}\n{self.systemd.systemctl('status', unit).stdout}"

        wait_until(lambda: self.state(unit) == state, said, seconds)

    def start(self) -> None:
        done = self.systemd.systemctl("start", "mom")
        assert done.returncode == 0, done.stderr + self.systemd.systemctl("status", "mom").stdout
        wait_until(lambda: self.knob() == 1 and self.completed_a_cycle(), self.said)

    def stays_applied(self, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self.knob() != 1:
                return False
            time.sleep(0.01)
        return True

    def is_replaced(self, before: int) -> None:
        """Wait until another mom than process `before` has completed a cycle. Meanwhile, the value must not change."""
        until = time.monotonic() + WITHIN_SECONDS
        while self.main_pid() in {0, before} or self.state() != "active" or not self.completed_a_cycle():
            assert self.knob() == 1
            assert time.monotonic() < until, self.said()
            time.sleep(0.05)
        assert self.stays_applied(1)

    def is_put_back(self) -> None:
        """Wait until everything is restored, and the ledger is empty."""
        wait_until(lambda: self.knob() == 0, self.said, WITHIN_SECONDS)
        wait_until(lambda: self.ledger() == [], "nothing is left")

    def ledger(self) -> list[dict[str, object]]:
        """Return the ledger's entries without the marks of unconfirmed changes."""
        content: list[dict[str, object]] = json.loads((self.folder / "lib/mom/ledger.json").read_text())["content"]
        return [{name: value for name, value in entry.items() if name != "in_doubt"} for entry in content]


@pytest.fixture
def service() -> Iterator[Service]:
    """Return a host in a folder that other users can read."""
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="mom-units-") as made:
        folder = Path(made)
        folder.chmod(0o755)
        systemd = OwnSystemd(folder)
        one = Service(systemd, folder)
        with systemd.running():
            yield one


def test_it_is_started_watched_and_stopped(service: Service) -> None:
    service.start()
    wait_until(lambda: "0 guests" in service.systemd.show("mom", "StatusText")["StatusText"], "it says what it does")
    shown = service.systemd.show("mom", "WatchdogUSec", "Type")
    assert shown == {"Type": "notify", "WatchdogUSec": "7s"}
    done = service.systemd.systemctl("reload", "mom")
    assert done.returncode == 0, done.stderr
    wait_until(lambda: service.state() == "active", "it is ready again")
    wait_until(lambda: service.systemd.show("mom", "WatchdogUSec")["WatchdogUSec"] == "7s", "a reload may take longer")
    done = service.systemd.systemctl("stop", "mom")
    assert done.returncode == 0
    assert service.knob() == 0, "a stop has put everything back when it returns"
    assert service.ledger() == []
    assert service.state() == "inactive"


def test_a_restart_keeps_what_was_applied(service: Service) -> None:
    service.start()
    before, ledger = service.main_pid(), service.ledger()
    service.systemd.systemctl("restart", "--no-block", "mom")
    service.is_replaced(before)
    assert service.ledger() == ledger, "the entry is the old one, with its time"
    assert service.systemd.systemctl("stop", "mom").returncode == 0
    assert service.knob() == 0


@pytest.mark.parametrize("way", ["killed", "stopped"])
def test_a_mom_that_dies_or_hangs_is_replaced_and_its_changes_stay(service: Service, way: str) -> None:
    service.start()
    before = service.main_pid()
    service.harm(way)
    service.is_replaced(before)
    assert service.systemd.show("mom", "NRestarts")["NRestarts"] == "1"


@pytest.mark.parametrize("way", ["killed", "hangs"])
def test_a_mom_that_dies_or_hangs_and_cannot_be_replaced_is_put_back(service: Service, way: str) -> None:
    service.start()
    service.broken.write_text("")
    service.harm(way)
    wait_until(lambda: service.knob() == 0, service.said, WITHIN_SECONDS)
    service.wait("the start limit is reached", "mom", "failed", 120)
    assert service.ledger() == []


def test_a_crash_loop_of_moms_that_complete_cycles_ends_with_everything_put_back(service: Service) -> None:
    service.start()
    for _ in range(4):
        before = service.main_pid()
        service.kill(signal.SIGKILL)
        service.wait_for_another(before)
        wait_until(service.completed_a_cycle, "it has taken over")
        assert service.knob() == 1
    service.kill(signal.SIGKILL)
    service.wait("the start limit is reached", "mom", "failed")
    service.is_put_back()
    service.wait("it has done its work", "mom-restore", "inactive")


def test_a_mom_that_hangs_and_is_stopped_is_put_back(service: Service) -> None:
    service.start()
    service.harm("hangs")
    service.systemd.systemctl("stop", "mom")
    service.is_put_back()
    assert service.main_pid() == 0, "and no other is started"


@pytest.mark.parametrize("moment", ["at once", "stop-post", "start"])
def test_a_mom_that_dies_just_when_it_is_stopped_is_put_back(service: Service, moment: str) -> None:
    """mom is stopped at once, while the unit cleans up, or while the next mom starts.

    Between the last two are milliseconds in which `systemctl stop` would only cancel the start.
    """
    service.start()
    before = service.main_pid()
    service.kill(signal.SIGKILL)

    def has_come() -> bool:
        shown = service.systemd.show("mom", "SubState", "MainPID")
        return shown["SubState"] == moment and int(shown["MainPID"]) != before

    if moment != "at once":
        wait_until(has_come, service.said)
    service.systemd.systemctl("stop", "mom")
    service.is_put_back()
    assert service.main_pid() == 0


def test_a_restart_of_a_mom_that_hangs_keeps_what_was_applied(service: Service) -> None:
    service.start()
    before = service.main_pid()
    service.harm("hangs")
    service.systemd.systemctl("restart", "--no-block", "mom")
    service.is_replaced(before)


def test_a_mom_that_is_killed_while_it_puts_back_is_put_back(service: Service) -> None:
    service.start()
    service.harm("hangs")
    service.systemd.systemctl("stop", "--no-block", "mom")
    wait_until(lambda: service.state() == "deactivating", "systemd has told it to end")
    service.kill(signal.SIGKILL)
    service.is_put_back()
    assert service.main_pid() == 0


def test_a_mom_that_keeps_at_a_stop_does(service: Service) -> None:
    service.configure(on_stop="keep")
    service.start()
    assert service.systemd.systemctl("stop", "mom").returncode == 0
    assert service.state() == "inactive"
    assert service.knob() == 1
    assert service.systemd.systemctl("start", "mom-restore").returncode == 0
    assert service.knob() == 0


def test_a_restart_with_a_wrong_configuration_puts_everything_back(service: Service) -> None:
    service.start()
    (service.folder / "mom.yaml").write_text("plugins: [broken")
    assert service.systemd.systemctl("restart", "mom").returncode
    wait_until(lambda: service.knob() == 0, service.said)
    service.wait("it is not tried again", "mom", "failed")
    service.wait("it has done its work", "mom-restore", "inactive")


def test_what_mom_sets_outlives_the_helper_and_goes_back_through_another_one(service: Service) -> None:
    service.start()
    helper = service.main_pid("mom-helper")
    assert service.owner(helper) == 0
    service.systemd.run("kill", "-9", str(helper))
    service.wait_for_another(helper, "mom-helper")
    assert service.stays_applied(1)
    (service.root / "sys/kernel/mm/ksm/run").write_text("2\n")
    wait_until(lambda: service.knob() == 1, "the next helper is asked")
    service.systemd.run("kill", "-9", str(service.main_pid("mom-helper")), str(service.main_pid()))
    wait_until(service.completed_a_cycle, service.said)
    service.wait("it is there again", "mom", "active")
    assert service.knob() == 1
    assert service.systemd.systemctl("stop", "mom").returncode == 0
    assert service.knob() == 0


def test_a_helper_that_is_stopped_for_good_puts_back_what_mom_has_forgotten(service: Service) -> None:
    """A compromised mom has destroyed its ledger, and ends. The helper knows the original values."""
    service.start()
    assert service.systemd.systemctl("restart", "mom-helper.service").returncode == 0
    assert service.stays_applied(1), "the next helper knows what stood there, too"
    service.kill(signal.SIGSTOP)
    (service.folder / "lib/mom/ledger.json").unlink()
    service.kill(signal.SIGKILL)
    service.systemd.systemctl("stop", "mom")
    assert service.knob() == 1, "mom itself knows of nothing"
    assert service.systemd.systemctl("stop", "mom-helper.socket", "mom-helper.service").returncode == 0
    assert service.knob() == 0


NO_ANSWER = """
import os, sys
if "restore" in sys.orig_argv and os.path.exists({away!r}):
    sys.exit("the hypervisor does not answer")
"""


def test_what_cannot_be_put_back_is_tried_again(service: Service) -> None:
    text = (service.systemd.units / "mom-restore.service").read_text()
    (service.systemd.units / "mom-restore.service").write_text(text.replace("RestartSec=30s", "RestartSec=2s"))
    service.systemd.systemctl("daemon-reload")
    away = service.folder / "away"
    away.touch()
    (service.folder / "site/sitecustomize.py").write_text(NO_ANSWER.format(away=str(away)))
    service.start()
    service.harm("hangs")
    service.systemd.systemctl("stop", "--no-block", "mom")
    wait_until(lambda: service.state() == "deactivating", "systemd has told it to end")
    service.kill(signal.SIGKILL)
    service.wait("it could not be put back", "mom", "failed")
    wait_until(lambda: service.systemd.show("mom-restore", "NRestarts")["NRestarts"] >= "2", "it is tried again")
    assert service.knob() == 1
    away.unlink()
    service.is_put_back()
    service.wait("it has done its work", "mom-restore", "inactive")


SEES = """
import errno, json, os, sys

def opened(path):
    try:
        os.close(os.open(path, os.O_WRONLY))
    except OSError as error:
        return errno.errorcode[error.errno]
    return "written"

def made(folder):
    try:
        os.mkdir(folder)
        os.rmdir(folder)
    except OSError as error:
        return errno.errorcode[error.errno]
    return "written"

asked = json.loads(sys.argv[1])
status = open("/proc/self/status").read().split()
found = {path: opened(path) for path in asked}
own = open("/proc/self/cgroup").read().splitlines()[-1].partition("::")[2]
found["cgroup"] = made(f"/sys/fs/cgroup/unified{own}/probe")
found["capabilities"] = status[status.index("CapEff:") + 1]
found["uid"] = os.geteuid()
if os.access("/sys/kernel/mm/ksm/sleep_millisecs", os.W_OK):  # with what stands there
    with open("/sys/kernel/mm/ksm/sleep_millisecs", "r+") as file:
        text = file.read()
        file.seek(0)
        file.write(text)
print(json.dumps(found), flush=True)
"""

FORBIDDEN = (
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/modprobe",
    "/proc/sys/vm/swappiness",
    "/proc/sys/vm/overcommit_memory",
    "/proc/sysrq-trigger",
    "/sys/kernel/mm/transparent_hugepage/enabled",
)
"""Files that root may write without capabilities. The first two name programs that the kernel runs as root."""


@pytest.mark.parametrize("unit", ["mom", "mom-restore", "mom-helper"])
def test_only_the_helper_writes_what_mom_sets_and_nothing_else_of_the_kernel(service: Service, unit: str) -> None:
    """The helper writes them even without capabilities, because the files belong to root."""
    from mom_plugins_host.numa.nodes import BALANCING
    from mom_plugins_ksm.control import FOLDER

    forbidden = [path for path in FORBIDDEN if os.access(path, os.F_OK)]
    knobs = [f"/{FOLDER}/{name}" for name in SET] + [f"/{BALANCING}"]
    knobs = [path for path in knobs if Path(path).exists()]
    program = service.folder / "sees.py"
    program.write_text(SEES)
    text = (ROOT / f"packaging/{unit}.service").read_text()
    kept = [
        line
        for line in text.splitlines()
        if not re.match("Exec|Type|Notify|Restart|OnFailure|Wants|Requires|WatchdogSec|StateDirectory", line)
    ]
    begin = kept.index("[Service]") + 1
    asked = json.dumps([*forbidden, *knobs]).replace('"', '\\"')
    kept[begin:begin] = ["Type=oneshot", f'ExecStart={sys.executable} {program} "{asked}"', f"ReadWritePaths={service.folder}"]
    kept[begin:begin] = [f"StandardOutput=truncate:{service.folder}/seen", f"StandardError=truncate:{service.folder}/wrong"]
    kept[begin:begin] = ["PrivateTmp=no", "ProtectHome=no"]
    unit_text = re.sub("^(PrivateTmp|ProtectHome)=yes$", "", "\n".join(kept), flags=re.MULTILINE)
    unit_text = re.sub("^CapabilityBoundingSet=.*$", "CapabilityBoundingSet=", unit_text, flags=re.MULTILINE)
    (service.systemd.units / "sees.service").write_text(unit_text + "\n")
    service.systemd.systemctl("daemon-reload")
    done = service.systemd.systemctl("start", "sees")
    wrong = service.folder / "wrong"
    assert done.returncode == 0, done.stderr + (wrong.read_text() if wrong.exists() else "")
    seen = json.loads((service.folder / "seen").read_text())
    helps = unit == "mom-helper"
    assert (seen["uid"], int(seen["capabilities"], 16)) == (0 if helps else MOM, 0)
    denied = {"EROFS"} if helps else {"EROFS", "EACCES"}
    assert {seen[path] for path in forbidden} <= denied
    assert {seen[path] for path in knobs} <= ({"written"} if helps else denied)
    assert seen["cgroup"] in ({"written"} if helps else denied)


@pytest.mark.parametrize("unit", ["mom", "mom-restore", "mom-helper", "mom-libvirt-helper", "mom-vdsm"])
def test_every_unit_keeps_files_and_the_kernels_settings_to_itself(unit: str) -> None:
    lines = (ROOT / f"packaging/{unit}.service").read_text().splitlines()
    modes = {"mom-helper": "RuntimeDirectoryMode=0700", "mom-libvirt-helper": "StateDirectoryMode=0700"}
    mode = modes.get(unit, "StateDirectoryMode=0750")
    assert ("OOMPolicy=continue" in lines) is (unit in {"mom-helper", "mom-libvirt-helper"}), (
        "a helper goes on if its worker is killed for memory"
    )
    for line in ("UMask=0077", "ProtectKernelTunables=yes", "ProtectSystem=strict", "NoNewPrivileges=yes", mode):
        assert line in lines, f"{unit}.service lacks {line}"


def test_all_plugins_work_within_what_the_unit_allows(service: Service) -> None:
    names = ["host", "sim", "guestagent", "balloon", "ksm", "qos", "cgroup", "numa", "sla", "policy", "http", "record"]
    installed = {entry.name for entry in metadata.entry_points(group="mom.plugins")}
    config = service.folder / "mom.yaml"
    settings = config.read_text().partition("plugins:")[0]
    # With the real /proc and /sys: a forbidden access makes a plugin fail.
    lines = [line for line in settings.splitlines() if not line.startswith(("root:", "mode:"))]
    plugins = ", ".join(f"{name}: {{}}" for name in names if name in installed)
    config.write_text("\n".join([*lines, "mode: observe", f"plugins: {{{plugins}}}", ""]))
    done = service.systemd.systemctl("start", "mom")
    log = service.folder / "log"
    assert done.returncode == 0, log.read_text()
    wait_until(lambda: service.systemd.run(str(BIN / "mom"), "status", "-c", str(config)).returncode == 0, service.said)
    time.sleep(1)
    status = json.loads(service.systemd.run(str(BIN / "mom"), "status", "--json", "-c", str(config)).stdout)
    troubles = {one["name"]: one["last_error"] for one in status["plugins"] if one["state"] != "ok"}
    assert troubles == {}, log.read_text()
    assert "denied" not in log.read_text()
    assert service.systemd.systemctl("stop", "mom").returncode == 0
