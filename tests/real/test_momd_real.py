"""The old daemon's command and configuration on real libvirt, with a real guest, told what to do by the old daemon's client."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from real_guests import Lab

from mom_devkit import wait_until

pytestmark = pytest.mark.real

BIN = Path(sys.executable).parent
GUEST_MIB = 384
WANTED_MIB = 256

OLD = """
[main]
main-loop-interval: 1
host-monitor-interval: 1
guest-monitor-interval: 1
guest-manager-interval: 1
policy-engine-interval: 1
hypervisor-interface: libvirt
libvirt-hypervisor-uri: {uri}
controllers: Balloon
rpc-port: {socket}

[logging]
log: {log}

[host]
collectors: HostMemory, HostCpu

[guest]
collectors: GuestLibvirt, GuestMemory, GuestBalloon, GuestQemuProc
"""

POLICY = f'(with Guests guest (guest.Control "balloon_target" {WANTED_MIB << 10}))'


def test_a_policy_that_comes_by_rpc_resizes_a_real_guest_which_has_its_memory_back_at_the_end(lab: Lab, tmp_path: Path) -> None:
    guest = lab.start("momd", mib=GUEST_MIB).wait_until_up()
    socket, log = tmp_path / "rpc.sock", tmp_path / "momd.log"
    (tmp_path / "momd.conf").write_text(OLD.format(uri=lab.libvirtd.uri, socket=socket, log=log))
    environment = {**os.environ, "STATE_DIRECTORY": str(tmp_path / "state"), "RUNTIME_DIRECTORY": str(tmp_path / "run")}

    def ask(*words: str, given: str = "") -> Any:
        command = [str(BIN / "mom-rpcclient"), "-p", str(socket), *words]
        done = subprocess.run(command, input=given, capture_output=True, text=True, check=False, timeout=120)
        return json.loads(done.stdout or "null")

    def told(name: str) -> Any:
        """What it says of the guest; None where a sample came too late."""
        return ask("getStatistics")["guests"].get(guest.name, {}).get(name)

    momd = subprocess.Popen([BIN / "momd", "-c", tmp_path / "momd.conf"], env=environment)
    try:
        wait_until(socket.exists, "mom serves")
        wait_until(lambda: ask("getActiveGuests") == [guest.name], "mom sees the guest")
        wait_until(lambda: told("mem_unused"), "the guest reports")
        assert ask("setPolicy", "-", given="(with Guests") is False
        assert ask("setPolicy", "-", given=POLICY) is True
        wait_until(lambda: guest.domain.memoryStats()["actual"] <= (WANTED_MIB + 8) << 10, "the guest is smaller")
        wait_until(lambda: told("balloon_max") == GUEST_MIB << 10, "it may have as much as before")
    finally:
        momd.send_signal(signal.SIGTERM)
        assert momd.wait(60) == 0, log.read_text()
    wait_until(lambda: guest.domain.memoryStats()["actual"] >= (GUEST_MIB - 8) << 10, "the guest has its memory back")
