"""Limits of real guests, read back from libvirt, cgroups, traffic control and QEMU."""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from unittest.mock import patch

import libvirt  # type: ignore[import-untyped]  # it has no types
import libvirt_qemu  # type: ignore[import-untyped]  # as above
import pytest
from grouped_guests import grouped_guests
from helper_processes import LibvirtHelperProcess
from libvirt_mom import libvirt_mom
from mom_run import MomRun
from real_guests import Lab, RealGuest, not_here

from mom_core import DiskTune, HypervisorError, NetTune, NotSupported
from mom_devkit import wait_until
from mom_devkit.without_root import another_user
from mom_plugins_host.qos.settings import MOST_DISK_LIMIT, PERIOD_US, QUOTA_US, SHARES
from mom_plugins_libvirt.hypervisor import LibvirtHypervisor

pytestmark = pytest.mark.real

LIVE = libvirt.VIR_DOMAIN_AFFECT_LIVE
CPU = Path("/sys/fs/cgroup/cpu")
TAP = "momtest0"
MIB = 1 << 20

_TC = """#!/bin/sh
# Some kernels lack what libvirt adds to its rate limit: a queue that is fair to all connections, and a class for marked packets. Nothing
# here depends on them, as everything is in the default class. The limit itself is the kernel's.
/usr/sbin/tc "$@" && exit
case "$*" in *" sfq "* | *" fw "*) exit 0 ;; esac
exit 2
"""


@pytest.fixture(scope="module")
def grouping(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Yield a lab whose guests have CPU groups."""
    if os.geteuid() != 0 or not (CPU / "cpu.cfs_quota_us").exists():
        not_here("cgroups v1 with the controller cpu, and root, are needed to limit CPU time here")
    programs = tmp_path_factory.mktemp("programs")
    (programs / "tc").write_text(_TC)
    (programs / "tc").chmod(0o755)
    with grouped_guests(("cpu", "cpuset"), programs) as lab:
        yield lab


@pytest.fixture
def devices(tmp_path: Path) -> str:
    """Return XML of a disk with a limit, an empty drive, and a network interface with a tap on the host."""
    image = tmp_path / "disk.img"
    image.touch()
    os.truncate(image, 16 * MIB)
    return f"""<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{image}'/><target dev='vda' bus='virtio'/>
      <iotune><read_iops_sec>700</read_iops_sec></iotune></disk>
    <disk type='file' device='cdrom'><target dev='hdc' bus='ide'/></disk>
    <interface type='ethernet'><target dev='{TAP}'/><model type='virtio'/></interface>"""


def configure(mom: MomRun, lab: Lab, *, qos: Mapping[str, object] | None = None, guests: Mapping[str, object] | None = None) -> None:
    mom.configure({"libvirt": lab.libvirtd.settings(), "qos": qos or {}, "policy": {}}, guests)


def kernels_cpu(guest: RealGuest) -> tuple[int, int, int]:
    """Return quota, period and shares in the kernel."""
    folder = guest.group("cpu")
    files = (folder / "vcpu0/cpu.cfs_quota_us", folder / "vcpu0/cpu.cfs_period_us", folder / "cpu.shares")
    quota, period, shares = (int(file.read_text()) for file in files)
    return quota, period, shares


def libvirts_cpu(guest: RealGuest) -> tuple[int, int, int]:
    found = guest.domain.schedulerParametersFlags(LIVE)
    return found["vcpu_quota"], found["vcpu_period"], found["cpu_shares"]


def qemus_disk(guest: RealGuest) -> dict[str, int]:
    """Return the limits of the guest's disk in QEMU: bytes and operations per second."""
    answer = json.loads(libvirt_qemu.qemuMonitorCommand(guest.domain, '{"execute": "query-block"}', 0))["return"]
    (inserted,) = (device["inserted"] for device in answer if "virtio" in device.get("qdev", ""))
    return {key: inserted[key] for key in ("bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr")}


def kernels_rate(lab: Lab) -> str:
    """Return the tap's traffic control classes, which limit what the guest receives."""
    command = ["nsenter", "-t", str(lab.libvirtd.pid), "-n", "tc", "class", "show", "dev", TAP]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


FREE = (-1, 100_000, 1024)
DISK_BEFORE = {"bps": 0, "bps_rd": 0, "bps_wr": 0, "iops": 0, "iops_rd": 700, "iops_wr": 0}
OURS = {
    "cpu_limit": "25%",
    "cpu_shares": 512,
    "io_limit": {"total_bytes_sec": "8MiB", "total_iops_sec": 300},
    "net_limit": {"inbound": {"average": "1000KiB"}},
}
DISK_LIMITED = {"bps": 8 * MIB, "bps_rd": 0, "bps_wr": 0, "iops": 300, "iops_rd": 0, "iops_wr": 0}


def held(guest: RealGuest) -> bool:
    """Return whether `OURS` is in force in libvirt, the kernel and QEMU. One vCPU may use a quarter of all CPUs."""
    quota = min(100_000, (os.cpu_count() or 1) * 25_000)
    wanted = (quota if quota < 100_000 else -1, 100_000, 512)
    return libvirts_cpu(guest) == kernels_cpu(guest) == wanted and qemus_disk(guest) == DISK_LIMITED


def free(guest: RealGuest) -> bool:
    return libvirts_cpu(guest) == kernels_cpu(guest) == FREE and qemus_disk(guest) == DISK_BEFORE


def test_limits_from_the_configuration_reach_the_kernel_and_qemu_and_are_put_back(mom: MomRun, grouped: Lab, devices: str) -> None:
    guest, other = grouped.start("held", devices=devices), grouped.start("other")
    assert free(guest)
    configure(mom, grouped, guests={guest.name: OURS})
    mom.start()
    wait_until(lambda: held(guest), "the guest is held")
    wait_until(lambda: "rate 8Mbit" in kernels_rate(grouped), "its network too")
    assert libvirts_cpu(other) == kernels_cpu(other) == FREE
    mom.is_well()
    doctor = mom.verb("doctor").stdout
    assert "the CPU time of 2 guests can be limited" in doctor

    configure(mom, grouped)
    mom.reload()
    wait_until(lambda: free(guest) and "rate" not in kernels_rate(grouped), "what is no longer set is put back")
    configure(mom, grouped, guests={guest.name: OURS})
    mom.reload()
    wait_until(lambda: held(guest), "and set again")

    mom.stop()
    assert free(guest)
    assert "rate" not in kernels_rate(grouped)


def test_limits_that_a_killed_mom_has_left_are_put_back(mom: MomRun, grouped: Lab, devices: str) -> None:
    guest, changed, gone = grouped.start("killed", devices=devices), grouped.start("changed"), grouped.start("gone")
    configure(mom, grouped, guests={"momtest-*": OURS})
    mom.start()
    wait_until(lambda: held(guest) and all(libvirts_cpu(one)[2] == 512 for one in (changed, gone)), "the guests are held")
    mom.kill()
    assert held(guest)
    changed.domain.setSchedulerParametersFlags({"cpu_shares": 77}, LIVE)
    gone.destroy()
    done = mom.verb("restore")
    assert done.returncode == 0, done.stdout + done.stderr
    assert free(guest)
    assert "rate" not in kernels_rate(grouped)
    assert libvirts_cpu(changed) == kernels_cpu(changed) == (-1, 100_000, 77), "somebody else's is left alone"
    assert mom.verb("restore").stdout == "Nothing to restore.\n"


_AGREED = """<metadata><ovirt-tune:qos xmlns:ovirt-tune="http://ovirt.org/vm/tune/1.0"><ovirt-tune:vcpuLimit>{limit}</ovirt-tune:vcpuLimit>
  <ovirt-tune:ioTune><ovirt-tune:device name="vda"><ovirt-tune:maximum><ovirt-tune:write_bytes_sec>4000000</ovirt-tune:write_bytes_sec>
  </ovirt-tune:maximum></ovirt-tune:device></ovirt-tune:ioTune></ovirt-tune:qos></metadata><memory unit='MiB'>192</memory>"""


def test_the_default_policies_hold_guests_to_what_is_in_their_metadata_once_they_are_on(mom: MomRun, grouped: Lab, devices: str) -> None:
    cpus = os.cpu_count() or 1
    guest = grouped.start("agreed", memory=_AGREED.format(limit=30 / cpus), devices=devices)  # 30 % of one CPU
    configure(mom, grouped)
    mom.start()
    wait_until(lambda: mom.status()["cycle"]["number"] >= 2, "two cycles")
    assert free(guest), "both policies are off unless they are switched on"
    configure(mom, grouped, qos={"cpu_limits": True, "io_limits": True})
    mom.reload()
    wait_until(lambda: kernels_cpu(guest) == libvirts_cpu(guest) == (30_000, 100_000, 1024), "its CPU time is held")
    wait_until(lambda: qemus_disk(guest) == {**DISK_BEFORE, "bps_wr": 4_000_000}, "and its disk, beside the limit that it had")
    change = "<qos><vcpuLimit>100</vcpuLimit></qos>"  # like a management system, while the guest runs
    guest.domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, change, "ovirt-tune", "http://ovirt.org/vm/tune/1.0", LIVE)
    wait_until(lambda: kernels_cpu(guest) == FREE, "what is no longer agreed is put back")
    mom.stop()
    assert free(guest)


@pytest.fixture
def hypervisor(grouped: Lab) -> Iterator[LibvirtHypervisor]:
    with libvirt_mom(grouped.libvirtd) as mom:
        yield mom.hypervisor


def test_a_mom_without_root_has_the_helper_set_limits(grouped: Lab, devices: str) -> None:
    guest, libvirtd = grouped.start("helped", devices=devices, paused=True), grouped.libvirtd
    helper = LibvirtHelperProcess(libvirtd.uri)
    helper.start()
    try:
        with patch.dict(os.environ, helper.environment), another_user(), libvirt_mom(libvirtd, uri=f"{libvirtd.uri}-ro") as mom:
            entity = mom.listed(guest).entity
            mom.hypervisor.set_cpu_tune(entity, 25_000, 100_000, 512)
            mom.hypervisor.set_net_tune(entity, TAP, {"average": 1000}, {})
            mom.hypervisor.set_io_tune(
                entity, "vda", {**dict.fromkeys(DiskTune.LIMITS, 0), "total_bytes_sec": 8 * MIB, "total_iops_sec": 300}
            )
            mom.hypervisor.set_cpu_pin(entity, 0, {0})
            assert mom.hypervisor.cpu_pins([entity]) == {guest.uuid: [{0}]}
    finally:
        helper.close()
    assert libvirts_cpu(guest) == kernels_cpu(guest) == (25_000, 100_000, 512)
    assert qemus_disk(guest) == DISK_LIMITED
    assert "rate 8Mbit" in kernels_rate(grouped)


def test_the_bounds_are_those_of_libvirt(hypervisor: LibvirtHypervisor, grouped: Lab, devices: str) -> None:
    guest = grouped.start("bounds", devices=devices, paused=True)
    hypervisor.guests()
    names = {"vcpu_quota": "quota_us", "vcpu_period": "period_us", "cpu_shares": "shares"}
    bounds = {"vcpu_quota": QUOTA_US, "vcpu_period": PERIOD_US, "cpu_shares": (2, SHARES[1])}  # the minimum of cgroups v1 is 2 shares
    for name, (least, most) in bounds.items():
        for outside in (least - 1, most + 1):
            with pytest.raises(libvirt.libvirtError, match="range"):
                guest.domain.setSchedulerParametersFlags({name: outside}, LIVE)
            with pytest.raises(HypervisorError, match="range"):
                hypervisor.set_cpu_tune(guest.entity, **{names[name]: outside})
        for inside in (least, most):
            hypervisor.set_cpu_tune(guest.entity, **{names[name]: inside})
    with pytest.raises(libvirt.libvirtError, match="must be no more than"):
        guest.domain.setBlockIoTune("vda", {"total_bytes_sec": MOST_DISK_LIMIT + 1}, LIVE)
    hypervisor.set_io_tune(guest.entity, "vda", {"total_bytes_sec": MOST_DISK_LIMIT})
    assert qemus_disk(guest) == {**DISK_BEFORE, "bps": MOST_DISK_LIMIT}
    limited = [disk.name for disk in hypervisor.io_tunes([guest.entity])[guest.uuid]]
    assert limited in (["vda"], ["vda", "hdc"]), "older versions cannot limit an empty drive"
    for drive in limited[1:]:
        hypervisor.set_io_tune(guest.entity, drive, {"total_bytes_sec": MOST_DISK_LIMIT})


def test_a_limit_with_a_burst_is_not_taken_away_and_libvirt_says_why(hypervisor: LibvirtHypervisor, grouped: Lab, devices: str) -> None:
    guest = grouped.start("burst", devices=devices, paused=True)
    guest.domain.setBlockIoTune("vda", {"read_iops_sec": 700, "read_iops_sec_max": 900}, LIVE)
    with pytest.raises(NotSupported, match="read_iops_sec_max"):
        hypervisor.set_io_tune(guest.entity, "vda", {"read_iops_sec": 0})
    hypervisor.set_io_tune(guest.entity, "vda", {"read_iops_sec": 800, "total_bytes_sec": 5 * MIB})
    assert guest.domain.blockIoTune("vda", LIVE)["read_iops_sec_max"] == 900, "the burst stays"


def test_the_network_is_limited_in_both_directions_or_in_none(hypervisor: LibvirtHypervisor, grouped: Lab, devices: str) -> None:
    guest = grouped.start("network", devices=devices, paused=True)
    hypervisor.set_net_tune(guest.entity, TAP, {"average": 500, "peak": 800, "burst": 64}, {})
    assert hypervisor.net_tunes([guest.entity])[guest.uuid] == (NetTune(TAP, {"average": 500, "peak": 800, "burst": 64}, {}),)
    assert guest.domain.interfaceParameters(TAP, LIVE)["inbound.peak"] == 800
    assert "rate 4Mbit ceil 6400Kbit" in kernels_rate(grouped)
    before = hypervisor.net_tunes([guest.entity])[guest.uuid]
    try:
        hypervisor.set_net_tune(guest.entity, TAP, {"average": 250}, {"average": 300})
    except HypervisorError:  # a kernel without policing cannot limit what the guest sends
        assert hypervisor.net_tunes([guest.entity])[guest.uuid] == before
        assert "rate 4Mbit ceil 6400Kbit" in kernels_rate(grouped), "nothing half-made is left behind"
    else:
        assert hypervisor.net_tunes([guest.entity])[guest.uuid] == (NetTune(TAP, {"average": 250}, {"average": 300}),)
        assert "rate 2Mbit" in kernels_rate(grouped)
    hypervisor.set_net_tune(guest.entity, TAP, {}, {})
    assert kernels_rate(grouped) == ""


def test_vcpus_are_pinned_and_memory_is_bound_for_real(hypervisor: LibvirtHypervisor, grouped: Lab) -> None:
    guest = grouped.start("pinned", paused=True)
    hypervisor.guests()
    every = frozenset(range(os.cpu_count() or 1))
    assert hypervisor.cpu_pins([guest.entity])[guest.uuid] == [every]
    hypervisor.set_cpu_pin(guest.entity, 0, {0})
    assert hypervisor.cpu_pins([guest.entity])[guest.uuid] == [{0}]
    assert (guest.group("cpuset") / "vcpu0/cpuset.cpus").read_text().strip() == "0"
    assert hypervisor.node_tunes([guest.entity])[guest.uuid].nodes == frozenset()
    hypervisor.set_node_tune(guest.entity, {0})
    assert hypervisor.node_tunes([guest.entity])[guest.uuid].nodes == {0}
    assert (guest.group("cpuset") / "vcpu0/cpuset.mems").read_text().strip() == "0"
