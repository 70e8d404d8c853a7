"""A guest without a balloon shrinks by virtio-mem: as policies decide, within its spare memory; mom restores its size."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_monitors import MIB, FakeGuest, FakeHost

from mom_core import Engine, Report, Status, load_config

BY_ITSELF, SOLD = 512 * MIB, 1024 * MIB


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[FakeGuest]:
    sizes = {"size": 512 << 20, "requested-size": 512 << 20, "max-size": 512 << 20, "block-size": 2 << 20}
    (tmp_path / "monitors").mkdir()
    host = FakeHost(tmp_path / "monitors")
    yield host.add(
        "web",
        memory=BY_ITSELF,
        size=BY_ITSELF,
        devices=[{"name": "gpu0", "type": "child<vfio-pci>"}],
        memory_devices=[{"type": "virtio-mem", "data": {"id": "vm0", **sizes}}],
    )
    host.close()


def cycles(folder: Path, guest: FakeGuest, target_kib: int, count: int, guarantee: str) -> list[Report]:
    """Run a mom with a policy for that size. The guest can spare 600 MiB. Return the reports."""
    (folder / "policies").mkdir()
    (folder / "policies/50_small.policy").write_text(f'(with Guests guest (guest.Control "balloon_target" {target_kib}))')
    reports: list[Report] = []
    plugins = {
        "qemu": {"sockets": [str(guest.path)], "watch": "0s"},
        "balloon": {},
        "policy": {"directory": str(folder / "policies"), "defaults": False},
    }
    content = {
        "interval": "1h",
        "state_directory": str(folder / "state"),
        "run_directory": str(folder / "run"),
        "mode": "enforce",
        "plugins": plugins,
        "guests": {"web": {"memory": "1GiB", "guarantee": guarantee}},
    }
    with Engine(load_config(content), on_report=reports.append) as engine:
        for _ in range(count):
            plugged = guest.memory_devices[0]["data"]["size"] >> 10
            guest.reports(usable=600 * MIB - (SOLD - BY_ITSELF - plugged), total=BY_ITSELF + plugged - 24 * MIB)
            guest.updated = int(time.time())
            engine.cycle()
    return reports


def requested(report: Report) -> list[tuple[Status, object]]:
    return [(outcome.status, outcome.after) for outcome in report.outcomes if outcome.decision.control == "balloon_target"]


def test_it_gives_once_what_a_policy_takes_and_gets_it_back_at_the_end(tmp_path: Path, guest: FakeGuest) -> None:
    first, *others = cycles(tmp_path, guest, 700 * MIB + 1, 4, "512MiB")
    assert requested(first) == [(Status.APPLIED, 702 * MIB)], "rounded to the device's steps"
    assert all(status is Status.UNCHANGED for report in others for status, _ in requested(report))
    assert guest.asked["balloon"] == 0
    assert guest.asked["qom-set"] == 2, "once, and once back"
    assert guest.memory_devices[0]["data"]["requested-size"] == 512 << 20


def test_it_keeps_what_it_is_guaranteed(tmp_path: Path, guest: FakeGuest) -> None:
    (report,) = cycles(tmp_path, guest, 600 * MIB, 1, "800MiB")
    assert requested(report) == [(Status.APPLIED, 800 * MIB)]
