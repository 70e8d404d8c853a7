"""NUMA on real guests: what the kernel shows of them, pins that libvirt and the kernel take and get back, the kernel's own balancing."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt  # type: ignore[import-untyped]  # it has no types
import pytest
from guest_image import CannotBuild, build, cache_folder
from mom_run import MomRun
from private_libvirtd import CannotStart, PrivateLibvirtd
from real_guests import Lab, RealGuest, eventually, not_here, once

pytestmark = pytest.mark.real

LIVE = libvirt.VIR_DOMAIN_AFFECT_LIVE
CPUSET = Path("/sys/fs/cgroup/cpuset")
BALANCING = Path("/proc/sys/kernel/numa_balancing")
NODES = Path("/sys/devices/system/node/online")

_CONFIG = """
interval: 1s
state_directory: {folder}/state
run_directory: {folder}/run
plugins:
  host: {{}}
  libvirt: {{uri: "{uri}", pid_directory: "{pids}"}}
  numa: {{look_every: 1s}}
  policy: {{directory: {folder}/policy.d}}
"""


@pytest.fixture(scope="module")
def with_cpusets() -> Iterator[PrivateLibvirtd]:
    """A libvirtd that puts its guests into cgroups of the real kernel."""
    if os.geteuid() != 0 or not (CPUSET / "cpuset.cpus").exists() or not NODES.exists():
        not_here("a kernel with NUMA, cgroups v1 with the controller cpuset, and root, are needed")
    machine = CPUSET / "machine"
    was = machine.exists()
    try:
        own = PrivateLibvirtd(cache_folder(), controllers=("cpuset",))
        own.start()
    except CannotStart as error:
        not_here(f"there is no real hypervisor: {error}")
    yield own
    own.stop()
    if not was and machine.exists() and not any(machine.glob("*/")):
        machine.rmdir()


@pytest.fixture
def placed(with_cpusets: PrivateLibvirtd) -> Iterator[Lab]:
    """Starts guests that can be pinned."""
    try:
        lab = Lab(with_cpusets, build(), suffix=once())
    except CannotBuild as error:
        not_here(f"there is no real hypervisor: {error}")
    yield lab
    lab.destroy_all()


@pytest.fixture
def mom(tmp_path: Path) -> Iterator[MomRun]:
    run = MomRun(tmp_path)
    (tmp_path / "policy.d").mkdir()
    yield run
    run.kill()


@pytest.fixture
def balancing() -> Iterator[int]:
    """What the kernel's own balancing stands at, and does again at the end."""
    if not BALANCING.exists():
        not_here("this kernel has no NUMA balancing")
    before = BALANCING.read_text()
    yield int(before)
    BALANCING.write_text(before)


def configure(mom: MomRun, lab: Lab, policy: str = "") -> None:
    mom.config.write_text(_CONFIG.format(folder=mom.folder, uri=lab.libvirtd.uri, pids=lab.libvirtd.pid_folder))
    (mom.folder / "policy.d" / "50_test.policy").write_text(policy)


def fields_of(mom: MomRun, guest: RealGuest) -> dict[str, object]:
    """What mom knows of the guest."""
    done = mom.verb("guests", "--json")
    found: dict[str, dict[str, object]] = {one["name"]: one for one in json.loads(done.stdout)}
    return {name: value for name, value in found.get(guest.name, {}).items() if value is not None}


def items(value: object) -> list[dict[str, Any]]:
    """A field that is a list, such as one with an item for each node."""
    assert isinstance(value, list)
    return value


def kernels_cpus(guest: RealGuest) -> str:
    """Where the kernel lets the guest's vCPU run."""
    for task in Path(f"/proc/{guest.pid}/task").iterdir():
        if (task / "comm").read_text().startswith("CPU 0/"):
            lines = dict(line.split(":\t", 1) for line in (task / "status").read_text().splitlines() if ":\t" in line)
            return lines["Cpus_allowed_list"].strip()
    raise AssertionError("the guest has no vCPU thread")


def libvirts_cpus(guest: RealGuest) -> list[int]:
    (pins,) = guest.domain.vcpuPinInfo(LIVE)
    return [cpu for cpu, allowed in enumerate(pins) if allowed]


EVERY = sorted(os.sched_getaffinity(0))


def test_a_real_guest_is_seen_where_it_is_and_with_one_node_nothing_is_decided(mom: MomRun, placed: Lab) -> None:
    guest = placed.start("seen")
    guest.wait_until_up()
    configure(mom, placed)
    mom.start()
    fields = eventually("its memory is seen", lambda: found if "numa_cpus" in (found := fields_of(mom, guest)) else {})
    resident = int(Path(f"/proc/{guest.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024
    (there,) = items(fields["numa_memory"])
    assert there["node"] == 0
    assert abs(there["size"] - resident) < 0.1 * resident
    assert fields["numa_remote"] == 0.0
    (vcpu,) = items(fields["numa_vcpus"])
    assert (vcpu["vcpu"], vcpu["node"], vcpu["nodes"]) == (0, 0, "0")
    assert vcpu["cpu"] in EVERY
    assert fields["numa_nodeset"] == "0"
    status = mom.status()
    assert status["problems"] == []
    assert [outcome for outcome in status["outcomes"] if outcome["control"].startswith(("numa", "vcpu"))] == []
    doctor = mom.verb("doctor").stdout
    assert "one node: there is nothing to place" in doctor
    assert "where 1 guests are can be seen" in doctor
    assert mom.stop() < 30


def test_pins_reach_libvirt_and_the_kernel_and_are_put_back(mom: MomRun, placed: Lab) -> None:
    if len(EVERY) < 2:
        not_here("two CPUs are needed")
    last = EVERY[-1]
    guest = placed.start("pinned")
    guest.wait_until_up()
    assert libvirts_cpus(guest) == EVERY
    before = kernels_cpus(guest)
    configure(mom, placed, f'(with Guests guest (guest.Control "vcpu_pins" "{last}"))')
    mom.start()
    eventually("it is pinned", lambda: libvirts_cpus(guest) == [last] and kernels_cpus(guest) == str(last))
    eventually("and mom sees it", lambda: fields_of(mom, guest).get("vcpu_pins") == str(last))
    assert mom.stop() < 30
    assert libvirts_cpus(guest) == EVERY
    assert kernels_cpus(guest) == before

    mom.start()
    eventually("it is pinned again", lambda: libvirts_cpus(guest) == [last])
    mom.kill()
    assert libvirts_cpus(guest) == [last]
    done = mom.verb("restore")
    assert done.returncode == 0, done.stdout + done.stderr
    assert libvirts_cpus(guest) == EVERY
    assert kernels_cpus(guest) == before


@pytest.mark.alone
def test_the_kernels_own_balancing_is_switched_and_put_back(mom: MomRun, placed: Lab, balancing: int) -> None:
    wanted = 0 if balancing else 1
    configure(mom, placed, f'(Host.Control "numa_balancing" {wanted})')
    mom.start()
    eventually("it is switched", lambda: int(BALANCING.read_text()) == wanted)
    assert mom.process is not None
    mom.process.send_signal(signal.SIGTERM)
    mom.process.wait(60)
    assert int(BALANCING.read_text()) == balancing
