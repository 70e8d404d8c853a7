"""A node of Proxmox VE with the documented files, real guests, and clients that act like its own."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from mom_run import MomRun
from plain_qemu import PlainGuest, PlainHost, plain_host

from mom_devkit import wait_until

pytestmark = pytest.mark.real

PVESTATD = """
import json, socket, sys, time
def ask(path, hold):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(30)
        began = time.monotonic()
        sock.connect(path)
        stream = sock.makefile("rwb")
        stream.readline()
        print(time.monotonic() - began, flush=True)
        for question in ("qmp_capabilities", "query-balloon"):
            stream.write(json.dumps({"execute": question}).encode() + b"\\n")
            stream.flush()
            stream.readline()
        time.sleep(hold)
for turn in range(1000):
    for path in sys.argv[2:]:
        ask(path, 4.0 if turn % 10 == 5 else 0.0)
    time.sleep(1.0)
"""
"""Program that asks each guest once a second, and sometimes holds its monitor for four: more often than Proxmox VE's."""


@pytest.fixture
def root() -> Iterator[Path]:
    with TemporaryDirectory(prefix="mom-pve-") as name:
        made = Path(name)
        for folder in ("run/qemu-server", "etc/pve/qemu-server", "state"):
            (made / folder).mkdir(parents=True)
        for folder in ("proc", "sys"):
            (made / folder).symlink_to(f"/{folder}")
        yield made


@pytest.fixture
def node(root: Path) -> Iterator[PlainHost]:
    with plain_host(root / "run/qemu-server") as made:
        yield made


@pytest.fixture
def mom(root: Path) -> Iterator[MomRun]:
    made = MomRun(root)
    plugins = {"qemu": {"watch": "100ms"}, "policy": {"defaults": False}, "balloon": {}}
    small = '(with Guests guest (guest.Control "balloon_target" 102400))'
    made.configure(plugins, policies={"50_small": small}, interval="500ms", root=str(root))
    yield made
    made.kill()


def _defined(root: Path, node: PlainHost, vmid: int, text: str) -> PlainGuest:
    (root / f"etc/pve/qemu-server/{vmid}.conf").write_text(f"memory: 256\n{text}")
    return node.start("", vmid=str(vmid))


def test_mom_and_proxmox_share_a_node(root: Path, node: PlainHost, mom: MomRun) -> None:
    theirs = _defined(root, node, 101, "balloon: 128\n")
    mine = _defined(root, node, 100, "balloon: 180\nshares: 0\nlock: backup\n")
    _defined(root, node, 102, "")
    mine.wait_until_up()
    with subprocess.Popen(
        [sys.executable, "-c", PVESTATD, "pvestatd", str(mine.monitor), str(theirs.monitor)], stdout=subprocess.PIPE, text=True
    ) as pvestatd:
        try:
            (root / "run/pvestatd.pid").write_text(f"{pvestatd.pid}\n")
            doctor = mom.verb("doctor").stdout
            assert "qm set 101 --shares 0" in doctor
            assert "qm set 100 --shares 0" not in doctor
            assert "1 guest without Minimum memory: 102" in " ".join(doctor.split())
            mom.start()
            rows = " ".join(mom.verb("guests").stdout.split())
            assert "the guest has no Minimum memory, so mom takes no memory" in rows
            assert "qm set 102 --balloon 64, then qm set 102 --shares 0" in rows
            time.sleep(3)
            assert mine.size_mib == 256, "it is locked"
            (root / "etc/pve/qemu-server/100.conf").write_text("memory: 256\nballoon: 180\nshares: 0\n")
            wait_until(lambda: mine.size_mib == 180, "the guest has its least memory")
            time.sleep(4)
            assert (mine.size_mib, theirs.size_mib) == (180, 256)
        finally:
            pvestatd.terminate()
        assert pvestatd.stdout is not None
        waits = sorted(float(line) for line in pvestatd.stdout.read().splitlines())
    assert len(waits) > 10
    assert waits[len(waits) * 3 // 4] <= 0.5, "mom holds no monitor for longer; a busy host delays some answers"
    mom.stop()
    wait_until(lambda: mine.size_mib == 256, "it has its memory back")
    assert mine.period == 0
