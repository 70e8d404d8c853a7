"""Real guests leave a full host. Only the pressure is simulated, by files."""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import libvirt  # type: ignore[import-untyped]  # it has no types
import pytest
from real_guests import Lab, RealGuest

from mom_devkit import PluginRun, host_of, run_plugins, wait_until

pytestmark = pytest.mark.real

FULL = (
    "MemTotal: 1000000 kB\nMemFree: 2000 kB\nMemAvailable: 4000 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\nCached: 2000 kB\nBuffers: 0 kB\n",
    60,
)
ROOM = (
    "MemTotal: 1000000 kB\nMemFree: 800000 kB\nMemAvailable: 900000 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\nCached: 9000 kB\nBuffers: 0 kB\n",
    0,
)
MAY = {"may_pause": False, "may_save": False, "may_power_off": False, "may_migrate": False, "warning": "5s"}


def _say(root: Path, host: tuple[str, int]) -> None:
    """Write the host's memory and pressure files."""
    text, full = host
    line = f"avg10={full}.00 avg60={full}.00 avg300=0.00 total=0"
    host_of(root, {"proc/meminfo": text, "proc/pressure/memory": f"some {line}\nfull {line}\n"})


def _run(
    lab: Lab, folder: Path, allowed: str, cycles: int, is_full: Callable[[int], bool], guest: RealGuest, **leaving: object
) -> PluginRun:
    """Run cycles with these permissions. Each begins with the host's state at that time."""

    def before(number: int) -> None:
        _say(folder / "root", FULL if is_full(number) else ROOM)
        time.sleep(0.3)  # five simulated seconds

    settings = {"enabled": True, "after": "10s", "apart": "10s", "calm_for": "20s", "share": 0.5, "timeout": "60s", **leaving}
    plugins: dict[str, type | Mapping[str, object]] = {
        "host": {},
        "libvirt": lab.libvirtd.settings(),
        "sla": {"classes": {"leaves": {**MAY, allowed: True}}},
        "eviction": settings,
    }
    classes = {guest.name: {"class": "leaves"}}
    return run_plugins(folder, plugins, cycles=cycles, guests=classes, root=folder / "root", between=before)


def _applied(found: PluginRun, control: str) -> list[str]:
    return [o.decision.entity.name for r in found.reports for o in r.outcomes if o.decision.control == control and o.status == "applied"]


def _is_paused(guest: RealGuest) -> bool:
    return bool(guest.domain.state()[0] == libvirt.VIR_DOMAIN_PAUSED)


@pytest.fixture
def company(lab: Lab) -> Iterator[RealGuest]:
    """Start another guest without a class, because mom never stops the only guest. mom must not touch it."""
    guest = lab.start("stays", workload=(5, 5, 0, 0))  # it boots at the same time
    yield guest
    assert guest.domain.isActive()
    guest.works_on()


def test_a_real_guest_is_saved_on_a_full_host_and_goes_on_where_it_was(lab: Lab, company: RealGuest, tmp_path: Path) -> None:
    guest = lab.start("leaves", workload=(5, 5, 0, 0), persistent=True).wait_until_it_works()
    age = guest.beats[-1].seconds
    was_saved: list[bool] = []

    def is_full(_: int) -> bool:
        if guest.domain.hasManagedSaveImage():
            was_saved.append(True)
        return not was_saved

    found = _run(lab, tmp_path, "may_save", 60, is_full, guest)
    assert _applied(found, "guest_save") == [guest.name]
    assert was_saved
    assert guest.domain.isActive()
    assert found.reports[-1].snapshot.host.fields["guests_stopped"] == 0
    wait_until(lambda: guest.beats and guest.beats[-1].seconds > age, "it works on", 60)
    assert guest.printed.count("GUEST up") <= 1, "it has not booted anew"


def test_a_real_guest_is_paused_and_resumed_when_there_is_room_or_mom_ends(lab: Lab, company: RealGuest, tmp_path: Path) -> None:
    guest = lab.start("leaves", workload=(5, 5, 0, 0)).wait_until_it_works()
    full, resumed = 8, 22
    stood: list[bool] = []

    def is_full(number: int) -> bool:
        if number == full:  # begun, and may take any time
            wait_until(lambda: _is_paused(guest), "it is paused", 60)
        if number == resumed:
            stood.append(_is_paused(guest))
            guest.domain.suspend()  # by another program: mom must never resume it
        return number <= full

    found = _run(lab, tmp_path, "may_pause", resumed + 3, is_full, guest)
    assert _applied(found, "guest_pause") == [guest.name]
    assert stood == [False], "mom has resumed it when there was room"
    assert _is_paused(guest)
    guest.domain.resume()
    guest.works_on()
    _run(lab, tmp_path / "again", "may_pause", full, is_full, guest)
    assert not _is_paused(guest), "the host was full until mom ended"


def test_a_real_guest_shuts_down_and_boots_when_there_is_room(lab: Lab, company: RealGuest, tmp_path: Path) -> None:
    guest = lab.start("leaves", workload=(5, 5, 0, 0), persistent=True).wait_until_it_works()
    was_off: list[bool] = []

    def is_full(_: int) -> bool:
        if not guest.domain.isActive():
            was_off.append(True)
        return not was_off

    found = _run(lab, tmp_path, "may_power_off", 80, is_full, guest)
    assert _applied(found, "guest_shutdown") == [guest.name]
    assert was_off
    assert guest.domain.isActive()
