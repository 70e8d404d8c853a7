"""`momd` as a process: flags, files, background mode and errors."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mom_devkit import wait_until

MOMD = Path(sys.executable).parent / "momd"
CLIENT = Path(sys.executable).parent / "mom-rpcclient"

OLD = """
[main]
main-loop-interval: 1
host-monitor-interval: 1
guest-monitor-interval: 1
guest-manager-interval: 1
policy-engine-interval: 1
hypervisor-interface: sim
controllers: Balloon, KSM
rpc-port: {socket}
policy-dir: {policies}
"""


class Place:
    """Folder with an old configuration, and momd."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "rpc.sock"
        self.policies = folder / "policies"
        self.policies.mkdir()
        (self.policies / "10-balloon.policy").write_text("(defvar a 1)")
        self.config = folder / "momd.conf"
        self.config.write_text(OLD.format(socket=self.socket, policies=self.policies))
        self.log = folder / "momd.log"
        self.environment = {**os.environ, "STATE_DIRECTORY": str(folder / "state"), "RUNTIME_DIRECTORY": str(folder / "run")}

    def run(self, *options: object) -> subprocess.CompletedProcess[str]:
        command = [str(MOMD), *map(str, options)]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False, timeout=180)

    def start(self, *options: object) -> subprocess.Popen[str]:
        process = subprocess.Popen([str(MOMD), *map(str, options)], env=self.environment, stderr=subprocess.PIPE, text=True)
        self.wait_for(self.socket.exists)
        return process

    def ask(self, *verb: str) -> str:
        command = [str(CLIENT), "-p", str(self.socket), *verb]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=180).stdout

    def wait_for(self, what: Callable[[], bool], seconds: float = 120.0) -> None:
        wait_until(what, lambda: self.log.read_text() if self.log.exists() else "", seconds)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    return process.returncode, said


def is_over(pid: int) -> bool:
    """Return whether a process has ended, also as a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_in_the_foreground_it_says_what_it_does_on_standard_error(place: Place) -> None:
    process = place.start("-c", place.config)
    assert place.ask("ping") == "true\n"
    assert '"10-balloon": "(defvar a 1)"' in place.ask("getNamedPolicies")
    place.wait_for(lambda: "vm" in place.ask("getActiveGuests") or "[]" not in place.ask("getActiveGuests"))
    code, said = ended(process)
    assert code == 0
    assert f"starting with {place.config}, mode enforce, every 1 s" in said
    assert "ended" in said
    assert not place.socket.exists()


def test_flags_come_before_the_file(place: Place) -> None:
    rules = place.folder / "rules"
    rules.write_text("(defvar mine 1)")
    process = place.start(
        "-c", place.config, "-r", rules, "-p", "/plots", "-l", place.log, "-v", "debug", "--pid-file", place.folder / "pid"
    )
    assert '"50_main_": "(defvar mine 1)"' in place.ask("getNamedPolicies")
    place.wait_for((place.folder / "pid").exists)
    assert int((place.folder / "pid").read_text()) == process.pid
    place.wait_for(lambda: "DEBUG" in place.log.read_text())
    assert ended(process) == (0, "")
    assert "plot-dir: /plots" in place.log.read_text()
    assert not (place.folder / "pid").exists()


def test_in_the_background_it_is_there_when_the_command_returns(place: Place) -> None:
    pid_file = place.folder / "momd.pid"
    pid_file.write_text("999999\n")  # of a killed momd
    done = place.run("-c", place.config, "-d", "-l", place.log, "--pid-file", pid_file)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    pid = int(pid_file.read_text())
    try:
        assert place.ask("ping") == "true\n"
        assert os.getsid(pid) != os.getsid(0)
        assert os.getpgid(pid) != pid, "a session's leader could get a terminal again"
        assert Path(f"/proc/{pid}/cwd").resolve() == Path("/")
        assert Path(f"/proc/{pid}/fd/0").resolve() == Path(os.devnull)
        again = place.run("-c", place.config, "-d", "-l", place.folder / "second.log", "--pid-file", place.folder / "second.pid")
        assert again.returncode == 1
        assert f"process {pid}" in again.stderr
        assert not (place.folder / "second.pid").exists()
    finally:
        os.kill(pid, signal.SIGTERM)
        place.wait_for(lambda: is_over(pid))
    place.wait_for(lambda: not pid_file.exists())
    assert "ended" in place.log.read_text()


def test_the_log_is_rotated(place: Place) -> None:
    place.config.write_text(place.config.read_text() + f"[logging]\nlog: {place.log}\nmax-bytes: 200\nbackup-count: 2\nverbosity: 5\n")
    process = place.start("-c", place.config)
    place.wait_for((place.folder / "momd.log.2").exists)
    ended(process)
    assert sorted(path.name for path in place.folder.glob("momd.log*")) == ["momd.log", "momd.log.1", "momd.log.2"]


def test_a_pid_file_that_cannot_be_written_leaves_nothing_behind(place: Place) -> None:
    done = place.run("-c", place.config, "--pid-file", place.folder / "no/such/pid")
    assert done.returncode == 1
    assert "choose another file with --pid-file" in done.stderr
    assert not place.socket.exists()


def test_the_log_says_too_why_it_did_not_start(place: Place) -> None:
    good = place.config.read_text()
    place.config.write_text(good.replace(f"rpc-port: {place.socket}", "rpc-port: /" + "x" * 120))
    done = place.run("-c", place.config, "-l", place.log)
    assert done.returncode == 2
    assert f"mom config import {place.config}" in done.stderr
    assert "CRITICAL mom: momd exits:" in place.log.read_text()
    assert "at most 107 bytes" in place.log.read_text()
    place.config.write_text(good)
    place.socket.write_text("not a socket")
    assert place.run("-c", place.config, "-l", place.log).returncode != 0
    assert "exists and is not a socket" in place.log.read_text()


def test_a_file_that_is_named_must_be_there(place: Place) -> None:
    done = place.run("-c", place.folder / "nope")
    assert (done.returncode, done.stderr) == (2, f"mom: {place.folder}/nope: no such file or directory\n")
    assert place.run("-c", place.config, "-l", place.folder / "no/such/log").returncode == 1
    assert place.run("--nothing").returncode == 2


def test_what_goes_wrong_in_the_background_is_told_by_the_command(place: Place) -> None:
    place.socket.write_text("not a socket")
    done = place.run("-c", place.config, "-d", "-l", place.log, "--pid-file", place.folder / "pid")
    assert done.returncode == 1
    assert "exists and is not a socket" in done.stderr
    assert not (place.folder / "pid").exists()
