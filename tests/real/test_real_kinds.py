"""Guests of every kind on a real libvirtd: their fields, and which controls mom leaves alone, with correct reasons."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt  # type: ignore[import-untyped]  # it has no types
import pytest
from libvirt_mom import LibvirtMom, libvirt_mom
from private_libvirtd import PrivateLibvirtd
from real_guests import Lab, RealGuest

from mom_core import Engine, NotSupported, Status
from mom_devkit import config_of, wait_until

pytestmark = pytest.mark.real

LIVE = libvirt.VIR_DOMAIN_AFFECT_LIVE
MIB = 1024
BALLOON = "balloon_target"
ONE_CELL = "<maxMemory slots='4' unit='MiB'>1024</maxMemory><memory unit='MiB'>192</memory><cpu><numa>{}</numa></cpu>".format(
    "<cell id='0' cpus='0' memory='192' unit='MiB'/>"
)


@pytest.fixture
def mom(libvirtd: PrivateLibvirtd) -> Iterator[LibvirtMom]:
    with libvirt_mom(libvirtd) as found:
        yield found


def rss_kib(guest: RealGuest) -> int:
    return int(Path(f"/proc/{guest.pid}/status").read_text().partition("VmRSS:")[2].split()[0])


def test_what_a_balloon_takes_comes_back_to_the_host_and_locked_memory_does_not(mom: LibvirtMom, lab: Lab) -> None:
    limits = "<memory unit='MiB'>192</memory><memtune><hard_limit unit='KiB'>8192</hard_limit></memtune>"
    workload = (10, 10, 0, 60)
    plain = lab.start("plain", workload=workload)
    try:
        locked = lab.start("locked", memory=f"{limits}<memoryBacking><locked/></memoryBacking>", workload=workload)
    except libvirt.libvirtError as error:
        pytest.skip(f"memory cannot be locked here: {error}")
    for guest in (plain, locked):
        guest.wait_until_it_works()
    assert mom.blocked(plain) == {}
    reason = "the guest's memory is locked: the host cannot reclaim it"
    assert mom.blocked(locked)[BALLOON] == reason
    before = {guest: rss_kib(guest) for guest in (plain, locked)}
    for guest in (plain, locked):
        mom.hypervisor.set_balloon(guest.entity, 130 * MIB)
    for guest in (plain, locked):
        wait_until(lambda guest=guest: mom.size(guest) < 140 * MIB, f"{guest.name} has shrunk")  # type: ignore[misc]  # mypy infers no type for a default
    wait_until(lambda: rss_kib(plain) < before[plain] - 30 * MIB, "the host has it")
    assert rss_kib(locked) > before[locked] - 5 * MIB
    assert BALLOON not in mom.blocked(locked), "it can be given back what was taken"
    assert mom.listed(locked).properties["pinned"] == reason


def test_virtio_mem_counts_as_far_as_it_is_plugged_in_and_the_balloon_leaves_it_alone(mom: LibvirtMom, lab: Lab) -> None:
    target = "<size unit='MiB'>256</size><node>0</node><block unit='MiB'>2</block><requested unit='MiB'>128</requested>"
    guest = lab.start(
        "virtiomem",
        memory=ONE_CELL,
        devices=f"<memory model='virtio-mem'><target>{target}</target></memory>",
        arguments="memhp_default_state=online",
    )
    guest.wait_until_up()
    wait_until(lambda: mom.size(guest) == 320 * MIB, "memory is plugged in")
    wait_until(lambda: mom.fields(guest)["balloon_max"] == 320 * MIB, "the maximum follows")
    mom.hypervisor.set_balloon(guest.entity, 280 * MIB)
    wait_until(lambda: mom.size(guest) == 280 * MIB, "the guest is smaller")
    assert mom.fields(guest)["balloon_least"] == 129 * MIB
    with pytest.raises(NotSupported):
        mom.hypervisor.set_balloon(guest.entity, 100 * MIB)
    mom.hypervisor.set_balloon(guest.entity, 320 * MIB)
    wait_until(lambda: mom.size(guest) == 320 * MIB, "the guest is as large as before")
    xml = guest.domain.XMLDesc()
    device = xml[xml.index("<memory model='virtio-mem'") :].partition("</memory>")[0] + "</memory>"
    less = device.replace(f"<requested unit='KiB'>{128 * MIB}", f"<requested unit='KiB'>{64 * MIB}")
    guest.domain.updateDeviceFlags(less, LIVE)
    wait_until(lambda: mom.size(guest) == 256 * MIB, "memory is unplugged")
    wait_until(lambda: mom.fields(guest)["balloon_max"] == 256 * MIB, "the maximum follows")


def test_without_a_balloon_a_guest_has_what_virtio_mem_has_plugged_in_and_not_all_that_it_could(mom: LibvirtMom, lab: Lab) -> None:
    target = "<size unit='MiB'>256</size><node>0</node><block unit='MiB'>2</block><requested unit='MiB'>64</requested>"
    device = f"<memory model='virtio-mem'><target>{target}</target></memory>"
    guest = lab.start("virtiomem-bare", memory=ONE_CELL, balloon="none", devices=device, arguments="memhp_default_state=online")
    guest.wait_until_up()
    wait_until(lambda: mom.size(guest) == 256 * MIB, "memory is plugged in")
    assert mom.fields(guest)["balloon_max"] == 256 * MIB
    assert "balloon_least" not in mom.fields(guest)


def test_an_nvdimm_is_not_the_guests_memory(mom: LibvirtMom, lab: Lab) -> None:
    file = lab.libvirtd.folder / "nvdimm"
    with file.open("wb") as made:
        made.truncate(64 << 20)
    target = "<size unit='MiB'>64</size><node>0</node>"
    device = f"<memory model='nvdimm'><source><path>{file}</path></source><target>{target}</target></memory>"
    guest = lab.start("nvdimm", memory=ONE_CELL, devices=device).wait_until_up()
    assert guest.domain.info()[1] == 256 * MIB, "libvirt counts it"
    fields = mom.fields(guest)
    assert (fields["balloon_cur"], fields["balloon_max"]) == (192 * MIB, 192 * MIB)
    mom.hypervisor.set_balloon(guest.entity, 150 * MIB)
    wait_until(lambda: mom.size(guest) == 150 * MIB, "the guest is smaller")
    mom.hypervisor.set_balloon(guest.entity, 192 * MIB)
    wait_until(lambda: mom.size(guest) == 192 * MIB, "the guest has everything")


def test_a_guest_that_is_saved_is_gone_and_comes_back_as_another_start_of_it_with_the_size_it_had(mom: LibvirtMom, lab: Lab) -> None:
    guest = lab.start("saved", persistent=True).wait_until_up()
    before = mom.listed(guest)
    mom.hypervisor.set_balloon(guest.entity, 150 * MIB)
    wait_until(lambda: mom.size(guest) == 150 * MIB, "the guest is smaller")
    guest.domain.managedSave(0)
    assert mom.guest(guest) is None
    guest.domain.create()
    after = wait_until(lambda: mom.guest(guest), "it runs")
    assert before.incarnation != after.incarnation
    assert wait_until(lambda: mom.fields(guest).get("balloon_cur"), "its size") == 150 * MIB
    wait_until(lambda: mom.blocked(guest) == {}, "nothing is in the way")
    mom.hypervisor.set_balloon(guest.entity, 192 * MIB)
    wait_until(lambda: mom.size(guest) == 192 * MIB, "the guest has everything")


def test_a_guests_own_cgroup_tells_its_pressure_and_cpu_time(mom: LibvirtMom, lab: Lab) -> None:
    root = Path("/sys/fs/cgroup")
    root = root if (root / "cgroup.controllers").exists() else root / "unified"
    group = root / f"momtest-{time.monotonic_ns()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup can be made here: {error}")
    try:
        guest = lab.start("grouped", workload=(10, 20, 0, 0)).wait_until_it_works()
        (group / "cgroup.procs").write_text(str(guest.pid))
        wait_until(lambda: "host_cgroup_cpu_usage" in mom.fields(guest), "CPU time", 60)
        fields = mom.fields(guest)
        assert fields["host_cgroup_cpu_usage"] != 0
        if (group / "memory.pressure").exists():
            assert {"host_psi_memory_some_avg10", "host_psi_cpu_some_avg10", "host_psi_io_full_avg10"} <= fields.keys()
        assert mom.listed(guest).properties["cgroups"] == {"": f"/{group.name}"}
    finally:
        lab.destroy_all()
        wait_until(lambda: not (group / "cgroup.procs").read_text().strip(), "the group is empty")
        group.rmdir()


def test_a_guest_that_cannot_give_what_was_asked_is_set_aside(libvirtd: PrivateLibvirtd, lab: Lab, tmp_path: Path) -> None:
    guest = lab.start("stubborn", workload=(20, 20, 0, 0), arguments="momtest.files=40000").wait_until_it_works()
    policy = tmp_path / "all.policy"
    policy.write_text('(with Guests g (if (valid g.mem_usable) (g.Control "balloon_target" (- g.balloon_cur g.mem_usable)) 0))')
    balloon = {"reserve": "0B", "reserve_percent": 0.0}
    plugins: dict[str, dict[str, Any]] = {"libvirt": libvirtd.settings(), "balloon": balloon, "policy": {"file": str(policy)}}
    with Engine(config_of(tmp_path, plugins, interval=2.0)) as engine:

        def aside() -> list[str]:
            time.sleep(2)  # the interval
            report = engine.cycle()
            return [problem.message for problem in report.problems if "does not give memory" in problem.message]

        (message,) = wait_until(aside, "it is set aside", 180)
        assert "stayed at" in message
        report = engine.cycle()
        assert "stayed at" in str(report.snapshot.guests[guest.uuid].fields["balloon_obstacle"])
        assert all(outcome.status is not Status.APPLIED for outcome in report.outcomes)
