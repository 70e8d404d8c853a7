"""The units in packaging/, and the script `run`."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from mom_daemon.cli.frame import mom
from mom_helper import __main__ as mom_helper_main
from mom_helper import libvirt_orders
from mom_helper.orders import SOCKET
from mom_plugins_vdsm.rpc_plugin import VDSM_SOCKET

ROOT = Path(__file__).parents[2]
UNITS = sorted((ROOT / "packaging").glob("*.service"))


def unit(path: Path) -> dict[str, dict[str, str]]:
    """Return the sections of a unit. Repeated keys have several lines."""
    sections: dict[str, dict[str, str]] = {}
    for line in path.read_text().splitlines():
        if heading := re.fullmatch(r"\[(\w+)\]", line):
            section = sections.setdefault(heading[1], {})
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            section[key] = f"{section[key]}\n{value}" if key in section else value
    return sections


OTHER_COMMANDS = {
    "mom-vdsm.service": "/opt/mom/bin/momd -c /etc/vdsm/mom.conf",
    "mom-helper.service": "/opt/mom/bin/python3 -I -m mom_helper serve --user mom",
    "mom-libvirt-helper.service": "/opt/mom/bin/python3 -I -m mom_helper serve-libvirt --user mom",
}
"""Commands of units that do not start `mom`."""


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_starts_a_command_that_exists(path: Path) -> None:
    program, *options = unit(path)["Service"]["ExecStart"].split()
    if path.name in OTHER_COMMANDS:
        assert [program, *options] == OTHER_COMMANDS[path.name].split()
        return
    assert program == "/opt/mom/bin/mom"
    assert mom.get_command(click.Context(mom), options[0]) is not None
    assert options[1:3] == ["-c", "/etc/mom/mom.yaml"]
    assert options[3:] == (["--as-left", "/run/mom", "--if-unclean"] if path.name == "mom-restore.service" else [])
    assert path.name != "mom.service" or (ROOT / "packaging" / unit(path)["Unit"]["OnFailure"]).is_file()


def test_the_helper_is_asked_at_the_socket_that_plugins_ask_at_by_moms_user_only() -> None:
    found = unit(ROOT / "packaging/mom-helper.socket")["Socket"]
    assert (found["ListenSequentialPacket"], found["SocketMode"], found["SocketGroup"]) == (SOCKET, "0660", "mom")
    service = unit(ROOT / "packaging/mom-helper.service")["Service"]
    assert "User" not in service
    assert "mom_helper put-back" in service["ExecStopPost"]
    assert f"/run/{service['RuntimeDirectory']}" in Path(str(mom_helper_main.__file__)).read_text()
    assert service["PrivateNetwork"] == "yes"


def test_guests_are_changed_by_root_without_capabilities_for_moms_user_only() -> None:
    found = unit(ROOT / "packaging/mom-libvirt-helper.socket")["Socket"]
    assert (found["ListenSequentialPacket"], found["SocketMode"], found["SocketGroup"]) == (libvirt_orders.SOCKET, "0660", "mom")
    service = unit(ROOT / "packaging/mom-libvirt-helper.service")["Service"]
    assert "User" not in service
    assert "ReadWritePaths" not in service
    assert (service["CapabilityBoundingSet"], service["RestrictAddressFamilies"], service["IPAddressDeny"]) == ("", "AF_UNIX", "any")
    assert f'"/var/lib/{service["StateDirectory"]}"' in Path(str(mom_helper_main.__file__)).read_text()


def test_the_helper_may_write_all_that_is_declared_for_it() -> None:
    """The unit can write only to some paths."""
    declared = re.findall(r"^\[knob (.*)\]$", (ROOT / "packaging/helper.d/mom.conf").read_text(), re.M)
    paths = [path.removeprefix("-") for path in unit(ROOT / "packaging/mom-helper.service")["Service"]["ReadWritePaths"].split()]
    assert declared
    assert [knob for knob in declared if not any(Path(knob).is_relative_to(path) for path in paths)] == []


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_libvirt_lets_moms_user_look_and_change_nothing() -> None:
    """The rules for polkit are JavaScript."""
    asked = [
        ("mom", "org.libvirt.unix.monitor"), ("mom", "org.libvirt.api.domain.read"), ("mom", "org.libvirt.api.connect.read"),
        ("mom", "org.libvirt.unix.manage"), ("mom", "org.libvirt.api.domain.write"), ("mom", "org.libvirt.api.domain.migrate"),
        ("mom", "org.libvirt.api.domain.read-secure"),
        ("mom", "org.libvirt.api.domain.save"), ("mom", "org.libvirt.api.domain.delete"), ("mom", "org.libvirt.api.domain.start"),
        ("mom", "org.libvirt.api.connect.write"), ("mom", "org.libvirt.api.secret.read"), ("mom", "org.libvirt.api.storage-pool.read"),
        ("mom", "org.freedesktop.login1.reboot"), ("other", "org.libvirt.unix.monitor"), ("other", "org.libvirt.api.domain.read"),
    ]  # fmt: skip
    program = """
    let rule; const polkit = {Result: {YES: "yes", NOT_HANDLED: ""}, addRule: one => rule = one};
    eval(require("fs").readFileSync(process.argv[1], "utf8"));
    console.log(JSON.stringify(JSON.parse(process.argv[2]).map(([user, id]) => rule({id}, {user}))));
    """
    command = ["node", "-e", program, str(ROOT / "packaging/polkit/60-mom.rules"), json.dumps(asked)]
    said = json.loads(subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout)
    assert said == ["yes"] * 3 + [""] * 13


def test_the_unit_beside_vdsm_fits_vdsms_own() -> None:
    """vdsm expects this unit name, user, group, order and socket."""
    found = unit(ROOT / "packaging/mom-vdsm.service")
    assert found["Unit"]["Requires"] == found["Unit"]["After"] == "vdsmd.service"
    assert {"momd.service", "ksmtuned.service", "mom.service"} == set(found["Unit"]["Conflicts"].split())
    assert (found["Unit"]["StartLimitIntervalSec"], found["Unit"]["StartLimitBurst"]) == ("120", "10")
    service = found["Service"]
    assert (service["User"], service["Group"], service["Type"], service["Restart"]) == ("vdsm", "kvm", "notify", "always")
    assert (service["NotifyAccess"], service["WatchdogSec"]) == ("main", "20s"), "a mom that hangs is started again"
    assert str(Path(VDSM_SOCKET).parent) in service["ReadWritePaths"]


@pytest.mark.skipif(shutil.which("systemd-tmpfiles") is None, reason="systemd-tmpfiles is not installed")
def test_systemd_understands_the_folders(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("vdsm:x:36:36::/:/bin/false\n")
    (tmp_path / "etc/group").write_text("kvm:x:36:\n")
    command = ["systemd-tmpfiles", "--create", f"--root={tmp_path}", str(ROOT / "packaging/mom-vdsm.tmpfiles.conf")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    if os.getuid() == 0:
        found = (tmp_path / "run/vdsm").stat()
        assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (36, 36, 0o755)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_understands_the_units(tmp_path: Path) -> None:
    sockets = [ROOT / f"packaging/mom-{name}.socket" for name in ("helper", "libvirt-helper")]
    for path in [*UNITS, *sockets]:
        (tmp_path / path.name).write_text(re.sub(r"/opt/mom/bin/\w+", "/bin/true", path.read_text()))
    (tmp_path / "vdsmd.service").write_text("[Service]\nExecStart=/bin/true\n")
    units = [*tmp_path.glob("*.service"), *tmp_path.glob("*.socket")]
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize(
    ("name", "most"), [("mom", 1.2), ("mom-restore", 1.2), ("mom-helper", 1.7), ("mom-libvirt-helper", 1.4), ("mom-vdsm", 1.5)]
)
def test_a_unit_may_do_no_more_than_the_page_says(name: str, most: float) -> None:
    command = ["systemd-analyze", "security", "--offline=true", f"--threshold={round(most * 10)}", str(ROOT / f"packaging/{name}.service")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "SYSTEMD_PAGER": "", "COLUMNS": "200"})
    assert done.returncode == 0, done.stdout.splitlines()[-1:]
    rows = dict(re.findall(r"^\| `([\w-]+)\.service` \| ([\d.]+) \|", (ROOT / "docs/service.md").read_text(), re.M))
    if name != "mom-vdsm":
        assert f"Overall exposure level for {name}.service: {rows[name]}" in done.stdout


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_makes_no_call_that_would_make_it_root_again(path: Path) -> None:
    """For systemd, the first filter line allows calls, lines with ~ remove calls, and others add calls."""
    service = unit(path)["Service"]
    allowed: set[str] = set()
    for line in service["SystemCallFilter"].splitlines():
        named = _calls(line.removeprefix("~").split())
        allowed = allowed - named if line.startswith("~") else allowed | named
    assert not allowed & {"process_vm_writev", "process_vm_readv", "ptrace", "pidfd_getfd", "bpf", "mount", "init_module"}
    assert path.name == "mom-vdsm.service" or not allowed & {"setuid", "setresuid", "setgroups", "keyctl", "mlockall", "move_pages"}
    needed = {"pidfd_open", "ioctl", "execve", "kill"}
    needed |= {"process_madvise"} if path.name == "mom-helper.service" else set()
    needed |= {"setpriority"} if path.name != "mom-libvirt-helper.service" else set()
    assert needed <= allowed
    assert "helper" not in path.name or not allowed & {"chown", "fchown", "lchown", "fchownat"}, "it gives no file to anybody"
    assert service["SystemCallErrorNumber"] == "EPERM"
    assert path.name == "mom-restore.service" or {"MemoryMax", "TasksMax"} <= set(service), "the kernel spares it"
    assert (service["SystemCallArchitectures"], service["MemoryDenyWriteExecute"], service["PrivateMounts"]) == ("native", "yes", "yes")


def _calls(words: list[str]) -> set[str]:
    """Return the system calls of these words, with systemd's groups."""
    found = {word for word in words if not word.startswith("@")}
    for group in (word for word in words if word.startswith("@")):
        said = subprocess.run(["systemd-analyze", "--no-pager", "syscall-filter", group], capture_output=True, text=True, check=True).stdout
        found |= _calls(re.findall(r"^ +([@a-z]\S*)$", said, re.M))
    return found


def test_hang_kill_and_stop_are_over_within_30_s() -> None:
    """The unit's time limits add up: watchdog or stop, SIGKILL after SIGABRT, and restore."""
    service = unit(ROOT / "packaging/mom.service")["Service"]
    seconds = {key: int(service[key].removesuffix("s")) for key in ("WatchdogSec", "TimeoutAbortSec", "TimeoutStopSec", "RestartSec")}
    restore = float(service["ExecStopPost"].rpartition("--timeout ")[2])
    assert seconds["WatchdogSec"] + seconds["TimeoutAbortSec"] + seconds["RestartSec"] < 30
    assert seconds["TimeoutStopSec"] + restore < 30
    assert restore < seconds["TimeoutStopSec"], "systemd gives it no more"


def test_what_ci_installs_has_hashes_and_its_versions_are_read_from_the_same_file() -> None:
    lock = (ROOT / "packaging/requirements.lock").read_text()
    wanted = re.findall(r"^([a-z0-9.-]+==.*?)(?: \\)?$", lock, re.M)
    assert len(wanted) > 100
    assert all(re.search(rf"^{re.escape(one)} \\\n    --hash=sha256:[0-9a-f]{{64}}", lock, re.M) for one in wanted)
    (program,) = re.findall(r"^    sed -n '(.*)' \"\$PIP_CONSTRAINT\"", (ROOT / "run").read_text(), re.M)
    said = subprocess.run(["sed", "-n", program, ROOT / "packaging/requirements.lock"], capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == wanted
