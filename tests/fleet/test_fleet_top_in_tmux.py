"""`mom fleet top` in a real terminal, on a real server: what hosts tell is drawn, and so is that the server is lost."""

from pathlib import Path

from fleet_world import MOM, FleetWorld
from tmux_screen import terminal

from mom_plugins_fleet.records import HostState
from mom_plugins_fleet.subjects import STATES


def test_hosts_are_drawn_as_they_tell_of_themselves(fleet: FleetWorld, tmp_path: Path) -> None:
    def tell(host: str, available: int) -> None:
        state = HostState(mode="enforce", total=16 << 20, available=available << 20, memory_state="high", others=4)
        fleet.put(STATES, host, state.packed())

    for host in ("h1", "h2"):
        fleet.enroll(host)
        tell(host, 8)
    with terminal(tmp_path) as screen:
        screen.start()
        screen.run(f"{MOM} fleet --home {fleet.home} top")
        screen.shows("2 hosts, 8 guests", "16.00 GiB of 32.00 GiB available", "plenty of memory")
        tell("h2", 2)
        screen.shows("10.00 GiB of 32.00 GiB available")
        screen.keys("End", "Enter")
        screen.shows("2.00 GiB", "memory available on the host", "Esc:back")
        screen.keys("Escape")
        fleet.kill("server")
        screen.shows("NOT REACHED", "h2")
        fleet.start_server()
        screen.shows("2 hosts, 8 guests", "plenty of memory")
        screen.shows_no_more("NOT REACHED")
        screen.keys("q")
        screen.shows("ready>")
        assert "Traceback" not in screen.tmux("capture-pane", "-p", "-S", "-")
