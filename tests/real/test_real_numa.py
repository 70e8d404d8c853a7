"""NUMA on real guests: the kernel's figures, pins in libvirt and the kernel with restore, and the kernel's balancing."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt  # type: ignore[import-untyped]  # it has no types
import pytest
from grouped_guests import grouped_guests
from mom_run import MomRun
from real_guests import Lab, RealGuest, not_here

from mom_devkit import wait_until

pytestmark = pytest.mark.real

LIVE = libvirt.VIR_DOMAIN_AFFECT_LIVE
CPUSET = Path("/sys/fs/cgroup/cpuset")
BALANCING = Path("/proc/sys/kernel/numa_balancing")
NODES = Path("/sys/devices/system/node/online")


@pytest.fixture(scope="module")
def grouping() -> Iterator[Lab]:
    """Yield a lab whose guests can be pinned: libvirtd puts each into a cpuset group."""
    if os.geteuid() != 0 or not (CPUSET / "cpuset.cpus").exists() or not NODES.exists():
        not_here("a kernel with NUMA, cgroups v1 with the controller cpuset, and root, are needed")
    with grouped_guests(("cpuset",)) as lab:
        yield lab


@pytest.fixture
def balancing() -> Iterator[int]:
    """Yield the setting of the kernel's balancing. Restore it at the end."""
    if not BALANCING.exists():
        not_here("this kernel has no NUMA balancing")
    before = BALANCING.read_text()
    yield int(before)
    BALANCING.write_text(before)


def configure(mom: MomRun, lab: Lab, policy: str = "") -> None:
    plugins = {"libvirt": lab.libvirtd.settings(), "numa": {"look_every": "1s"}}
    mom.configure(plugins, policies={"50_test": policy})


def fields_of(mom: MomRun, guest: RealGuest) -> dict[str, Any]:
    """Return mom's fields of the guest."""
    return {name: value for name, value in mom.guest_rows().get(guest.name, {}).items() if value is not None}


def kernels_cpus(guest: RealGuest) -> str:
    """Return the CPUs on which the kernel may run the guest's vCPU."""
    for task in Path(f"/proc/{guest.pid}/task").iterdir():
        if (task / "comm").read_text().startswith("CPU 0/"):
            lines = dict(line.split(":\t", 1) for line in (task / "status").read_text().splitlines() if ":\t" in line)
            return lines["Cpus_allowed_list"].strip()
    raise AssertionError("the guest has no vCPU thread")


def libvirts_cpus(guest: RealGuest) -> list[int]:
    (pins,) = guest.domain.vcpuPinInfo(LIVE)
    return [cpu for cpu, allowed in enumerate(pins) if allowed]


EVERY = sorted(os.sched_getaffinity(0))


def test_a_real_guest_is_seen_where_it_is_and_with_one_node_nothing_is_decided(mom: MomRun, grouped: Lab) -> None:
    guest = grouped.start("seen").wait_until_up()
    configure(mom, grouped)
    mom.start()
    fields = wait_until(lambda: found if "numa_cpus" in (found := fields_of(mom, guest)) else {}, "its memory is seen")
    resident = int(Path(f"/proc/{guest.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024
    (there,) = fields["numa_memory"]
    assert there["node"] == 0
    assert abs(there["size"] - resident) < 0.1 * resident
    assert fields["numa_remote"] == 0.0
    assert fields["numa_nodeset"] == "0"
    mom.is_well()
    assert [outcome for outcome in mom.status()["outcomes"] if outcome["control"].startswith(("numa", "vcpu"))] == []
    doctor = mom.verb("doctor").stdout
    assert "the host has one NUMA node: nothing to do" in doctor
    assert "mom sees the nodes of 1 guest" in doctor
    mom.stop()


def test_pins_reach_libvirt_and_the_kernel_and_are_put_back(mom: MomRun, grouped: Lab) -> None:
    if len(EVERY) < 2:
        not_here("two CPUs are needed")
    last = EVERY[-1]
    guest = grouped.start("pinned").wait_until_up()
    assert libvirts_cpus(guest) == EVERY
    before = kernels_cpus(guest)
    configure(mom, grouped, f'(with Guests guest (guest.Control "vcpu_pins" "{last}"))')
    mom.start()
    wait_until(lambda: libvirts_cpus(guest) == [last] and kernels_cpus(guest) == str(last), "it is pinned")
    wait_until(lambda: fields_of(mom, guest).get("vcpu_pins") == str(last), "and mom sees it")
    mom.stop()
    assert libvirts_cpus(guest) == EVERY
    assert kernels_cpus(guest) == before

    mom.start()
    wait_until(lambda: libvirts_cpus(guest) == [last], "it is pinned again")
    mom.kill()
    assert libvirts_cpus(guest) == [last]
    done = mom.verb("restore")
    assert done.returncode == 0, done.stdout + done.stderr
    assert libvirts_cpus(guest) == EVERY
    assert kernels_cpus(guest) == before


@pytest.mark.alone
def test_the_kernels_own_balancing_is_switched_and_put_back(mom: MomRun, grouped: Lab, balancing: int) -> None:
    wanted = 0 if balancing else 1
    configure(mom, grouped, f'(Host.Control "numa_balancing" {wanted})')
    mom.start()
    wait_until(lambda: int(BALANCING.read_text()) == wanted, "it is switched")
    mom.stop()
    assert int(BALANCING.read_text()) == balancing
