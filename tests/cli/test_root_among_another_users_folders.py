"""Commands of root among files of another user, and the other way round. Files of that user do not control root's actions."""

import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from another_user import PATH, seen_by
from host_files import ksm_host
from mom_on_files import MOM

from mom_core import Entity, LedgerEntry, Scope
from mom_core.ledger import Ledger
from mom_devkit import wait_until

NOBODY = 65534

pytestmark = [pytest.mark.processes, pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")]


class Place:
    """Host of files. mom's folders belong to nobody, and its ledger has a change of KSM."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state, self.run, self.knob = folder / "state", folder / "run", folder / "root/sys/kernel/mm/ksm/run"
        ksm_host(folder / "root", run=1)
        (folder / "mom.yaml").write_text(
            f"root: {folder}/root\nstate_directory: {self.state}\nrun_directory: {self.run}\n"
            "mode: enforce\nplugins:\n  host: {}\n  ksm: {}\n"
        )
        for path in (self.state, self.run):
            path.mkdir()
        host = Entity(Scope.HOST, "host", "this host")
        Ledger(self.state / "ledger.json").record([LedgerEntry(host, "ksm_run", 0, 1, "ksm", 1.0)])
        for path in (self.state, self.run, self.state / "ledger.json"):
            os.chown(path, NOBODY, NOBODY)

    def command(self, *words: str) -> list[str]:
        return [*seen_by(0, later=True), str(MOM), *words, "-c", str(self.folder / "mom.yaml")]

    def mom(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*words), capture_output=True, text=True, check=False, timeout=120, cwd="/", env={"HOME": "/", "PATH": PATH}
        )


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Return a folder that other users can read."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.fixture
def place(open_folder: Path) -> Place:
    return Place(open_folder)


def test_a_ledger_of_another_user_has_root_write_nothing_that_this_user_may_not(place: Place) -> None:
    done = place.mom("restore")
    assert done.returncode == 1
    assert place.knob.read_text() == "1\n"
    assert "Permission denied" in done.stdout + done.stderr


def test_root_has_everything_put_back_that_the_other_user_may(place: Place) -> None:
    os.chown(place.knob, NOBODY, NOBODY)
    done = place.mom("restore")
    assert (done.returncode, place.knob.read_text().strip()) == (0, "0"), done.stdout + done.stderr
    made = {path: path.stat().st_uid for path in (*place.state.rglob("*"), *place.run.rglob("*"))}
    assert set(made.values()) == {NOBODY}, "the next mom can use all of it"


def test_a_configuration_that_another_user_has_left_is_read_as_that_user(place: Place) -> None:
    """The configuration names a KSM folder of the user's choice. mom uses it only with that user's rights."""
    (place.run / "in-force.json").symlink_to(place.folder / "mom.yaml")
    done = place.mom("restore", "--as-left", str(place.run), "--if-unclean")
    assert done.returncode == 1
    assert place.knob.read_text() == "1\n"


def test_doctor_says_whose_eyes_it_looks_with(place: Place) -> None:
    done = place.mom("doctor", "--json")
    said = {one["subject"]: one["message"] for one in json.loads(done.stdout) if one["plugin"] == "core"}
    assert said["user"] == "mom's folders belong to nobody: mom doctor now runs as nobody"
    assert said["ledger"] == "not undone: 1 change of an earlier run"


def test_mom_that_root_starts_there_runs_as_that_user(place: Place) -> None:
    log = place.folder / "log"
    with log.open("w") as file:
        process = subprocess.Popen(place.command("run", "--observe"), stderr=file, cwd="/", env={"HOME": "/", "PATH": PATH})
    try:
        wait_until((place.run / "status.json").exists, log.read_text, 120)
        assert "runs as nobody, the owner of its folders" in log.read_text()
        ids = Path(f"/proc/{process.pid}/status").read_text()
        assert f"Uid:\t{NOBODY}\t{NOBODY}\t{NOBODY}\t{NOBODY}" in ids
        assert "CapPrm:\t0000000000000000" in ids
        shown = place.mom("status", "--json")
        assert json.loads(shown.stdout)["running"] is True
    finally:
        process.terminate()
        assert process.wait(60) == 0


# --- all commands ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a recording of some minutes, with its accounts."""
    folder = tmp_path_factory.mktemp("recorded") / "recording"
    command = [str(MOM), "simulate", "cold-memory", "--hours", "0.1", "--record", str(folder)]
    subprocess.run(command, capture_output=True, check=True, timeout=120)
    return folder


def with_recording(place: Place, recording: Path) -> Path:
    """Copy the recording to the state directory, and enable all plugins that have files there."""
    kept = place.state / "recording"
    shutil.copytree(recording, kept)
    plugins = ("record", "forecast", "eviction", "policy", "http", "sim", "balloon")
    with (place.folder / "mom.yaml").open("a") as file:
        file.writelines(f"  {name}: {{}}\n" for name in plugins)
    for path in (kept, *kept.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    return kept


CLOSED_IN = """
mount --bind "$1" "$1" && mount -o remount,bind,ro / && mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /tmp || exit 1
cd "$1" && shift && exec "$@"
"""
"""Program that runs a command with write access to one folder only, and without daemons: some commands change the host."""


def test_no_verb_reads_the_folders_of_another_user_as_root(place: Place, recording: Path) -> None:
    kept = with_recording(place, recording)
    closed_in = ["unshare", "--mount", "--net", "--propagation", "private", "sh", "-c", CLOSED_IN, "sh", str(place.folder)]
    driver = [sys.executable, str(Path(__file__).with_name("every_verb.py")), str(kept), str(place.state), str(place.run)]
    environment = {"HOME": "/", "PATH": PATH, "MOM_CONFIG": str(place.folder / "mom.yaml")}
    command = [*seen_by(0, later=True), *closed_in, *driver]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=300, env=environment)
    verbs = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(verbs) > 60
    assert [one for one in verbs if one["read_as_root"]] == []
    assert [one for one in verbs if one["uid"] != NOBODY and not one["as_caller"]] == []


def hot_journal(accounts: Path, victim: Path) -> None:
    """Write a journal that makes SQLite delete another file: https://www.sqlite.org/fileformat.html#the_rollback_journal."""
    pages = accounts.stat().st_size // 4096
    header = struct.pack(">8sIIIII", MAGIC, 0, 0, pages, 512, 4096).ljust(512, b"\0")
    name = os.fsencode(victim)
    accounts.with_name(f"{accounts.name}-journal").write_bytes(
        header + struct.pack(f">I{len(name)}sII8s", (1 << 30) // 4096 + 1, name, len(name), sum(name), MAGIC)
    )


MAGIC = bytes.fromhex("d9d505f920a163d7")


@pytest.mark.parametrize("owner", [0, NOBODY])
def test_a_report_deletes_no_file_that_a_journal_names(place: Place, recording: Path, owner: int) -> None:
    kept, victim = with_recording(place, recording), place.folder / "victim"
    victim.write_text("of root's\n")
    hot_journal(kept / "accounts.sqlite3", victim)
    for path in (kept, *kept.rglob("*"), place.state):
        os.chown(path, owner, owner)
    done = place.mom("report", str(kept))
    assert victim.exists()
    assert done.returncode == 1
    assert "cannot be read" in done.stderr


def test_a_verb_writes_where_the_owner_may_or_has_the_shell_do_it(place: Place, recording: Path) -> None:
    kept = with_recording(place, recording)
    done = place.mom("report", str(kept), "--html", str(place.folder / "report.html"))
    assert done.returncode == 1
    assert not (place.folder / "report.html").exists()
    assert "this command ran as user nobody" in done.stderr
    done = place.mom("report", str(kept), "--html", "-")
    assert (done.returncode, done.stdout[:15]) == (0, "<!doctype html>")


# --- as another user, among root's files -----------------------------------------------------------------------------------------


@pytest.fixture
def of_root(open_folder: Path) -> Path:
    """Return a folder where mom's state belongs to root."""
    for name in ("state", "run"):
        (open_folder / name).mkdir()
    (open_folder / "state/ledger.json").write_text("{}")
    (open_folder / "state/ledger.json").chmod(0o600)
    folders = f"state_directory: {open_folder}/state\nrun_directory: {open_folder}/run\n"
    (open_folder / "mom.yaml").write_text(f"{folders}plugins:\n  policy: {{}}\n  xmlrpc: {{listen: {open_folder}/s}}\n")
    return open_folder


def as_nobody(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [*seen_by(NOBODY), str(MOM), *words, "-c", str(folder / "mom.yaml")]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd="/", env={"HOME": "/", "PATH": PATH})


@pytest.mark.parametrize("mode", [0o755, 0o700])
def test_a_ledger_of_root_is_a_finding_with_the_fix_whatever_its_folder_lets_be_seen(of_root: Path, mode: int) -> None:
    (of_root / "state").chmod(mode)
    done = as_nobody(of_root, "doctor", "--json")
    assert done.returncode == 1
    findings = json.loads(done.stdout)
    (ledger,) = (finding for finding in findings if finding["subject"] == "ledger")
    assert ledger["severity"] == "error"
    assert ledger["message"] == f"the ledger {of_root}/state/ledger.json cannot be read: Permission denied"
    assert "run this command as mom's user, not as nobody" in ledger["cure"]
    assert ledger["cure"].endswith(f"if mom should run as nobody, chown -R nobody: {of_root}/state")
    assert any(finding["subject"].startswith("XML-RPC") for finding in findings), "all else is looked at, too"


def test_who_may_not_read_a_recording_is_told_who_may(of_root: Path) -> None:
    (of_root / "state/recording").mkdir(mode=0o700)
    with (of_root / "mom.yaml").open("a") as file:
        file.write("  record: {}\n")
    (found,) = (one for one in json.loads(as_nobody(of_root, "doctor", "--json").stdout) if one["subject"] == "recording")
    assert found["message"] == f"{of_root}/state/recording: Permission denied"
    assert "as the user that mom runs as" in found["cure"]
    done = as_nobody(of_root, "report")
    said = f"mom: cannot read {of_root}/state/recording: Permission denied (run as root, or as the user that recorded it)\n"
    assert (done.returncode, done.stderr) == (1, said)
