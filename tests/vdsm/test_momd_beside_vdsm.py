"""The daemon under vdsm: started like vdsm's unit, with vdsm's configuration and policies, TLS, and vdsm's calls."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from vdsm_peer import Vdsm

from mom_devkit import wait_until

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent

FULL = "11111111-0000-4000-8000-000000000001"
DISK = {"name": "vda", "path": "/d", "maximum": {"total_bytes_sec": 1 << 33}}


@pytest.fixture
def vdsm(start_vdsm: Callable[..., Vdsm], pki: Path) -> Vdsm:
    started = start_vdsm(pki=pki, sample_every=1.0)
    started.add({"id": FULL, "name": "full", "disks": [DISK]})
    return started


class Momd:
    """`momd -c mom.conf` with vdsm's shipped configuration, with other paths and intervals."""

    def __init__(self, folder: Path, port: int, pki: Path) -> None:
        self.folder, self.log, self.socket = folder, folder / "mom.log", folder / "mom-vdsm.sock"
        shutil.copytree(ROOT / "examples/policies/vdsm", folder / "mom.d")
        text = (ROOT / "tests/momd/vdsm_mom.conf").read_text()
        for shipped, here in {
            ": 15\n": ": 1\n",
            "port=54321": f"port={port}",
            "/etc/pki/vdsm": str(pki),
            "/run/vdsm/mom-vdsm.sock": str(self.socket),
            "/etc/vdsm/mom.d": f"{folder}/mom.d",
            "/var/log/vdsm/mom.log": str(self.log),
        }.items():
            assert shipped in text, shipped
            text = text.replace(shipped, here)
        (folder / "mom.conf").write_text(text)
        self.environment = {**os.environ, "STATE_DIRECTORY": str(folder / "state"), "RUNTIME_DIRECTORY": str(folder / "run")}
        self.process: subprocess.Popen[bytes]

    def start(self) -> None:
        with (self.folder / "said").open("ab") as said:
            self.process = subprocess.Popen([BIN / "momd", "-c", self.folder / "mom.conf"], env=self.environment, stderr=said)
        self.wait_for(self.socket.exists)

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(60)

    def wait_for(self, what: Callable[[], bool]) -> None:
        def happened() -> bool:
            assert self.process.poll() is None, (self.folder / "said").read_text()
            return what()

        wait_until(happened, lambda: self.log.read_text() if self.log.exists() else "")


@pytest.fixture
def momd(tmp_path: Path, vdsm: Vdsm, pki: Path) -> Iterator[Momd]:
    made = Momd(tmp_path, vdsm.port, pki)
    made.start()
    yield made
    made.stop()  # before vdsm ends, so that mom can restore everything


def limit(vdsm: Vdsm) -> int:
    """Return the limits of the guest's disk in bytes per second."""
    found: int = vdsm.machines()[FULL]["disks"]["vda"]["total_bytes_sec"]
    return found


def test_what_a_momd_that_was_killed_leaves_is_put_back_by_its_unit(momd: Momd, vdsm: Vdsm) -> None:
    (command,) = re.findall(r"^ExecStopPost=-/bin/sh -c '(.*)'$", (ROOT / "packaging/mom-vdsm.service").read_text(), re.M)
    command = command.replace("/opt/mom/bin", str(BIN)).replace("/run/mom", str(momd.folder / "run"))

    def stop_post() -> str:
        return subprocess.run(["sh", "-c", command], env=momd.environment, capture_output=True, text=True, check=True).stdout

    momd.wait_for(lambda: limit(vdsm) == 1 << 33)
    assert "restores the values itself" in stop_post()
    momd.process.kill()
    momd.process.wait()
    assert "restored to" in stop_post()
    assert limit(vdsm) == 0
    momd.start()
    momd.wait_for(lambda: limit(vdsm) == 1 << 33)
    assert momd.stop() == 0
    assert stop_post() == "Nothing to restore.\n"
