"""The whole daemon under vdsm: started as vdsm's unit does, with vdsm's configuration and policies, over TLS, asked and told by vdsm."""

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from momd_process import BIN, ROOT, Momd, end
from vdsm_peer import Vdsm

FULL = "11111111-0000-4000-8000-000000000001"
DISK = {"name": "vda", "path": "/d", "maximum": {"total_bytes_sec": 1 << 33}}


@pytest.fixture
def vdsm(start_vdsm: Callable[..., Vdsm], pki: Path) -> Vdsm:
    started = start_vdsm(pki=pki, sample_every=1.0)
    started.add({"id": FULL, "name": "full", "disks": [DISK]})
    return started


@pytest.fixture
def momd(tmp_path: Path, vdsm: Vdsm, pki: Path) -> Iterator[Momd]:
    it = Momd(tmp_path, vdsm.port, pki)
    it.start()
    yield it
    if it.process is not None:
        end(it.process)
        it.stop()


def limit(vdsm: Vdsm) -> int:
    """Of the guest's disk, in bytes per second."""
    found: int = vdsm.machines()[FULL]["disks"]["vda"]["total_bytes_sec"]
    return found


def test_what_a_momd_that_was_killed_leaves_is_put_back_by_its_unit(momd: Momd, vdsm: Vdsm) -> None:
    (command,) = re.findall(r"^ExecStopPost=-/bin/sh -c '(.*)'$", (ROOT / "packaging/mom-vdsm.service").read_text(), re.M)
    command = command.replace("/opt/mom/bin", str(BIN)).replace("/run/mom", str(momd.folder / "run"))

    def stop_post() -> str:
        return subprocess.run(["sh", "-c", command], env=momd.environment, capture_output=True, text=True, check=True).stdout

    momd.wait_for(lambda: limit(vdsm) == 1 << 33)
    assert "restores the values itself" in stop_post()
    assert momd.process is not None
    momd.process.kill()
    momd.process.communicate()
    momd.process = None
    assert "restored to" in stop_post()
    assert limit(vdsm) == 0
    momd.start()
    momd.wait_for(lambda: limit(vdsm) == 1 << 33)
    assert momd.stop() == 0
    assert stop_post() == "Nothing to restore.\n"
