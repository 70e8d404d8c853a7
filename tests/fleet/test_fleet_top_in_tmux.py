"""`mom fleet top` in a real terminal, on a real server: what hosts tell is drawn, and so is that the server is lost."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from fleet_world import MOM, FleetWorld
from real_guests import not_here

from mom_devkit import wait_until
from mom_plugins_fleet.records import HostState
from mom_plugins_fleet.subjects import STATES

Tmux = Callable[..., str]


@pytest.fixture
def tmux(tmp_path: Path) -> Iterator[Tmux]:
    if shutil.which("tmux") is None:
        not_here("there is no tmux")

    def run(*words: str) -> str:
        command = ["tmux", "-S", str(tmp_path / "tmux"), "-f", "/dev/null", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout

    yield run
    with suppress(subprocess.CalledProcessError):  # it has ended with its last window
        run("kill-server")


def test_hosts_are_drawn_as_they_tell_of_themselves(fleet: FleetWorld, tmux: Tmux):
    def tell(host: str, available: int):
        state = HostState(mode="enforce", total=16 << 20, available=available << 20, memory_state="high", others=4)
        fleet.put(STATES, host, state.packed())

    for host in ("h1", "h2"):
        fleet.enroll(host)
        tell(host, 8)
    tmux("new-session", "-d", "-x", "80", "-y", "24", "env", "PS1=ready> ", "LC_ALL=C.UTF-8", "sh")

    def shows(*texts: str):
        wait_until(lambda: all(text in tmux("capture-pane", "-p") for text in texts), lambda: tmux("capture-pane", "-p"), 120)

    def types(*keys: str):
        tmux("send-keys", *keys)

    types("-l", f"{MOM} fleet --home {fleet.home} top")
    types("Enter")
    shows("2 hosts, 8 guests", "16.00 GiB of 32.00 GiB available", "plenty of memory")
    tell("h2", 2)
    shows("10.00 GiB of 32.00 GiB available")
    types("End")
    types("Enter")
    shows("2.00 GiB", "memory available on the host", "Esc:back")
    types("Escape")
    fleet.kill("server")
    shows("NOT REACHED", "h2")
    fleet.start_server()
    shows("2 hosts, 8 guests", "plenty of memory")
    wait_until(lambda: "NOT REACHED" not in tmux("capture-pane", "-p"), lambda: tmux("capture-pane", "-p"), 120)
    types("q")
    shows("ready>")
    assert "Traceback" not in tmux("capture-pane", "-p", "-S", "-")
