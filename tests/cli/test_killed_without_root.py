"""A mom that is not root, and its helper that is: whichever is killed, and in whichever order, what stood there before is put back."""

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from another_user import PATH, seen_by
from mom_on_files import ENTRY_POINTS, KSM, MEMINFO, MOM, PLUGINS

from mom_core.ledger import Ledger
from mom_devkit import host_of, wait_until
from mom_devkit.without_root import HelperProcess, another_user

NOBODY = 65534

pytestmark = [pytest.mark.processes, pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")]


class Host:
    """A host of files that are root's, a helper, and a mom of user nobody that has KSM run."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.state = folder, folder / "state"
        self.knob = folder / "root/sys/kernel/mm/ksm/run"
        host_of(folder / "root", {**{f"sys/kernel/mm/ksm/{name}": f"{value}\n" for name, value in KSM.items()}, "proc/meminfo": MEMINFO})
        host_of(folder / "site", {"mom_test_plugins.py": PLUGINS})
        metadata = {"METADATA": "Metadata-Version: 2.1\nName: mom-test-plugins\nVersion: 1\n", "entry_points.txt": ENTRY_POINTS}
        host_of(folder / "site/mom_test_plugins-1.dist-info", metadata)
        for path in (self.state, folder / "run"):
            path.mkdir()
            os.chown(path, NOBODY, NOBODY)
        (folder / "mom.yaml").write_text(
            f"interval: 200ms\nstop_timeout: 60s\nroot: {folder}/root\nstate_directory: {self.state}\nrun_directory: {folder}/run\n"
            "mode: enforce\nplugins:\n  host: {}\n  ksm: {}\n  merge: {}\n"
        )
        self.helper = HelperProcess(f"[knob {self.knob}]\nvalues = 0 1 2\n")
        self.helper.start()
        self.mom: subprocess.Popen[bytes] | None = None

    def _command(self, *words: str) -> list[str]:
        return [*seen_by(NOBODY), str(MOM), *words, "-c", str(self.folder / "mom.yaml")]

    @property
    def _environment(self) -> dict[str, str]:
        return {"HOME": "/", "PATH": PATH, "PYTHONPATH": str(self.folder / "site"), **self.helper.environment}

    def start(self) -> None:
        """Start mom, which sets KSM's knob in its first cycle."""
        status = self.folder / "run/status.json"
        status.unlink(missing_ok=True)
        with (self.folder / "mom.log").open("ab") as log:
            self.mom = subprocess.Popen(self._command("run"), env=self._environment, cwd="/", stdout=log, stderr=log)
        wait_until(lambda: status.exists() and self.value == 1, self.explain, 120)

    def end(self, number: signal.Signals) -> int:
        """End mom by a signal."""
        assert self.mom is not None
        self.mom.send_signal(number)
        return self.mom.wait(120)

    def restore(self) -> subprocess.CompletedProcess[str]:
        """`mom restore`, as mom's unit calls it: as its user."""
        return subprocess.run(
            self._command("restore"), env=self._environment, cwd="/", capture_output=True, text=True, timeout=120, check=False
        )

    @property
    def value(self) -> int | None:
        """KSM's knob. The file is empty for a moment while it is written, which a knob in /sys never is."""
        text = self.knob.read_text()
        return int(text) if text else None

    @property
    def ledger(self) -> list[object]:
        """What mom knows is to be put back."""
        with another_user():  # root believes no other user's
            return list(Ledger.open(self.state, look=True).entries)

    def explain(self) -> str:
        """What is known where it does not go on."""
        return f"knob {self.value}, {(self.folder / 'mom.log').read_text()}\n{self.helper.log}"

    def close(self) -> None:
        """Leave nothing behind."""
        if self.mom is not None and self.mom.poll() is None:
            self.end(signal.SIGKILL)
        self.helper.close()


@pytest.fixture
def host() -> Iterator[Host]:
    """In a folder that other users can reach, unlike pytest's own; mom has set its knob."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as made:
        Path(made).chmod(0o755)
        one = Host(Path(made))
        try:
            one.start()
            yield one
        finally:
            one.close()


def assert_nothing_is_left(host: Host) -> None:
    """What stood there before stands there again, and neither mom nor the helper remembers anything."""
    assert host.value == 0, host.explain()
    assert not host.ledger
    host.knob.write_text("2\n")  # what another process sets from now on is not touched
    assert host.helper.put_back().returncode == 0
    assert host.value == 2


def test_a_mom_that_was_killed_is_put_back_by_its_own_user(host: Host) -> None:
    host.end(signal.SIGKILL)
    assert (host.value, len(host.ledger)) == (1, 1)
    done = host.restore()
    assert done.returncode == 0, done.stdout + done.stderr
    assert_nothing_is_left(host)


def test_without_the_helper_a_restore_says_so_and_the_next_one_puts_back(host: Host) -> None:
    host.helper.kill()
    host.end(signal.SIGKILL)
    done = host.restore()
    assert done.returncode == 1
    assert "mom-helper" in done.stdout + done.stderr
    assert (host.value, len(host.ledger)) == (1, 1)
    host.helper.start()
    done = host.restore()
    assert done.returncode == 0, done.stdout + done.stderr
    assert_nothing_is_left(host)


def test_the_next_mom_takes_over_and_puts_back_what_stood_there_before_the_first(host: Host) -> None:
    host.end(signal.SIGKILL)
    host.helper.kill()
    host.helper.start()
    host.start()
    assert host.end(signal.SIGTERM) == 0, host.explain()
    assert_nothing_is_left(host)
