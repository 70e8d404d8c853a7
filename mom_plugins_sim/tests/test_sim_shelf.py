"""Guests that move between simulated hosts."""

from pathlib import Path

import pytest

from mom_core import Entity, GuestGone, HypervisorError, NotSupported, PluginContext, Scope
from mom_kvm import Destination
from mom_plugins_sim import SimPlugin
from mom_plugins_sim.hypervisor import SimHypervisor

H2 = Destination.parse("qemu+tls://h2/system")


def _host(shelf: Path, name: str, seed: int) -> SimHypervisor:
    settings = SimPlugin.Settings.model_validate({"shelf": shelf, "host": name, "seed": seed, "guests": 4, "host_memory": "8GiB"})
    return SimPlugin(settings, PluginContext()).hypervisor


def _ids(host: SimHypervisor) -> set[str]:
    return {guest.id for guest in host.guests()}


def test_migrated_guest_is_on_the_other_host_only(tmp_path: Path) -> None:
    here, there = _host(tmp_path, "h1", 1), _host(tmp_path, "h2", 2)
    before = _ids(here) | _ids(there)
    moved = here.guests()[0].entity
    here.migrate(moved, H2, 10.0)
    assert moved.id not in _ids(here)
    assert moved.id in _ids(there)
    assert _ids(here) | _ids(there) == before
    assert there.balloon_sizes([moved])[moved.id] > 0
    with pytest.raises(GuestGone):
        here.migrate(moved, H2, 10.0)


def test_restarted_host_has_its_present_guests(tmp_path: Path) -> None:
    here, _ = _host(tmp_path, "h1", 1), _host(tmp_path, "h2", 2)
    moved = here.guests()[0].entity
    here.migrate(moved, H2, 10.0)
    assert moved.id not in _ids(_host(tmp_path, "h1", 1))
    assert moved.id in _ids(_host(tmp_path, "h2", 2))


@pytest.mark.parametrize("destination", ["nowhere", "h1"])
def test_a_guest_stays_when_there_is_no_such_host(tmp_path: Path, destination: str) -> None:
    here, _ = _host(tmp_path, "h1", 1), _host(tmp_path, "h2", 2)
    with pytest.raises(NotSupported):
        here.migrate(here.guests()[0].entity, Destination.parse(f"qemu+tls://{destination}/system"), 10.0)
    assert len(here.guests()) == 4


def test_a_guest_is_not_moved_onto_another_one_of_its_id(tmp_path: Path) -> None:
    here, there = _host(tmp_path, "h1", 1), _host(tmp_path, "h2", 1)
    with pytest.raises(HypervisorError, match="h2 has a guest of the same id: set a different `seed` for each host on the shelf"):
        here.migrate(here.guests()[0].entity, H2, 10.0)
    assert len(here.guests()) + len(there.guests()) == 8


def test_a_host_without_a_shelf_moves_nothing() -> None:
    alone = SimPlugin(SimPlugin.Settings(guests=1), PluginContext()).hypervisor
    with pytest.raises(NotSupported):
        alone.migrate(alone.guests()[0].entity, H2, 10.0)
    with pytest.raises(GuestGone):
        alone.migrate(Entity(Scope.GUEST, "gone", "gone"), H2, 10.0)


DAMAGE = ["{", "[" * 50_000]


@pytest.mark.parametrize("text", DAMAGE)
def test_damaged_file_leaves_out_its_guest_only(tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    lost, *others = sorted(_ids(_host(tmp_path, "h1", 1)))
    (tmp_path / "h1" / f"{lost}.json").write_text(text)
    assert _ids(_host(tmp_path, "h1", 1)) == set(others)
    assert f"{tmp_path / 'h1' / lost}.json is damaged" in caplog.text
