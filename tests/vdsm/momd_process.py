"""The old daemon's command as vdsm's unit starts it, beside a vdsm, and vdsm's own way of asking it."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xmlrpc.client import ServerProxy

from mom_devkit import wait_until
from mom_kvm import Address
from mom_plugins_vdsm.rpc_client import SocketTransport

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "tests/momd/vdsm_mom.conf"
POLICIES = ROOT / "examples/policies/vdsm"
BIN = Path(sys.executable).parent

ANSWER_SECONDS = 9.0
"""vdsm waits for 2 s. Not so here, where processes fight for a processor; but less than mom waits for vdsm, which it must not do here."""


@contextmanager
def asked(path: Path) -> Iterator[Any]:
    """mom as vdsm calls it: a connection for each call, some seconds for each operation, nil allowed."""
    with ServerProxy("http://2F72756E/RPC2", transport=SocketTransport(Address.parse(str(path)), ANSWER_SECONDS), allow_none=True) as proxy:
        yield proxy


def end(process: subprocess.Popen[Any], seconds: float = 120.0) -> None:
    """End a mom: as long as vdsm is there, so that it can put back what it has changed."""
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(seconds)


class Momd:
    """`momd -c mom.conf` with vdsm's shipped configuration, of which only places and intervals are others."""

    def __init__(self, folder: Path, port: int, pki: Path) -> None:
        self.folder = folder
        self.socket = folder / "mom-vdsm.sock"
        self.log = folder / "mom.log"
        self.policies = folder / "mom.d"
        if not self.policies.exists():
            shutil.copytree(POLICIES, self.policies)
        text = SHIPPED.read_text()
        told = {
            ": 15\n": ": 1\n",
            "port=54321": f"port={port}",
            "/etc/pki/vdsm": str(pki),
            "/run/vdsm/mom-vdsm.sock": str(self.socket),
            "/etc/vdsm/mom.d": str(self.policies),
            "/var/log/vdsm/mom.log": str(self.log),
        }
        for old, new in told.items():
            assert old in text, old
            text = text.replace(old, new)
        self.config = folder / "mom.conf"
        self.config.write_text(text)
        self.environment = {**os.environ, "STATE_DIRECTORY": str(folder / "state"), "RUNTIME_DIRECTORY": str(folder / "run")}
        self.process: subprocess.Popen[str] | None = None

    def start(self, *options: str) -> None:
        command = [str(BIN / "momd"), "-c", str(self.config), *options]
        self.process = subprocess.Popen(command, env=self.environment, stderr=subprocess.PIPE, text=True)
        self.wait_for(self.socket.exists)

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        assert self.process.stderr is not None
        self.process.stderr.close()
        self.process = None
        return code

    def wait_for(self, what: Callable[[], bool], seconds: float = 120.0) -> None:
        def happened() -> bool:
            if self.process is not None:
                assert self.process.poll() is None, self.process.stderr and self.process.stderr.read()
            return what()

        wait_until(happened, lambda: self.log.read_text() if self.log.exists() else "", seconds)
