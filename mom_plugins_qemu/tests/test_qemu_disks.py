"""Limits of guests' disks, by query-block and block_set_io_throttle."""

import pytest
from fake_monitors import FakeHost
from hypothesis import given
from hypothesis import strategies as st

from mom_core import NotSupported
from mom_plugins_qemu.description import disks_of, throttling
from mom_plugins_qemu.hypervisor import QemuHypervisor

UNLIMITED = {"bps": 0, "bps_rd": 0, "bps_wr": 0, "iops": 0, "iops_rd": 0, "iops_wr": 0, "file": "/d.raw"}
CDROM = {"device": "ide1-cd0", "removable": True, "inserted": UNLIMITED}


def disk(name: str = "drive-scsi0", **limits: object) -> dict[str, object]:
    return {"device": name, "removable": False, "inserted": {**UNLIMITED, **limits}, "qdev": "/machine/peripheral/scsi0"}


def test_limits_are_read_and_set_and_the_others_stay(host: FakeHost, hypervisor: QemuHypervisor) -> None:
    guest = host.add("web", disks=[disk(bps=1000, bps_max=5000, bps_max_length=3), CDROM])
    (web,) = hypervisor.guests()
    (tune,) = hypervisor.io_tunes([web.entity])[web.id]
    assert (tune.name, tune.path, tune.current["total_bytes_sec"]) == ("drive-scsi0", "/d.raw", 1000)
    hypervisor.set_io_tune(web.entity, "drive-scsi0", {"total_iops_sec": 50})
    (tune,) = hypervisor.io_tunes([web.entity])[web.id]
    assert (tune.current["total_bytes_sec"], tune.current["total_iops_sec"]) == (1000, 50)
    assert guest.throttled[0]["bps_max"] == 5000, "bursts stay"
    hypervisor.set_io_tune(web.entity, "drive-scsi0", {"total_bytes_sec": 0})
    assert "bps_max" not in guest.throttled[1], "QEMU refuses a burst beyond no limit"


@pytest.mark.parametrize("name", ["none", "ide1-cd0"])
def test_a_disk_that_the_guest_has_not_or_that_cannot_be_limited_is_refused(host: FakeHost, hypervisor: QemuHypervisor, name: str) -> None:
    guest = host.add("web", disks=[disk(bps=1000), CDROM])
    (web,) = hypervisor.guests()
    with pytest.raises(NotSupported):
        hypervisor.set_io_tune(web.entity, name, {"total_iops_sec": 1})
    assert not guest.throttled


def test_a_disk_without_a_name_of_its_own_goes_by_its_device() -> None:
    found = disks_of([{**disk(""), "qdev": "/machine/peripheral/virtio0/virtio-backend"}])
    assert list(found) == ["virtio0"]
    arguments = throttling(found["virtio0"], {}).arguments
    limits = dict.fromkeys(("bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"), 0)
    assert arguments == {"id": "/machine/peripheral/virtio0/virtio-backend"} | limits


values = st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.just({"bps": "x", "file": 3}) | st.just(UNLIMITED)


@given(st.lists(st.dictionaries(st.sampled_from(["device", "qdev", "inserted", "removable"]), values) | values, max_size=4))
def test_no_answer_raises(answer: list[object]) -> None:
    for one in disks_of(answer).values():
        throttling(one, one.tune.current)
