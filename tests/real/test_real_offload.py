"""mom moves cold memory of real guests to a real compressed swap; hot memory stays, and limits are restored."""

import os
import signal
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from grouped_guests import grouped_guests
from host_swap import CONTROL, compressed_swap
from mom_run import MomRun
from real_guests import Lab, RealGuest, not_here

from mom_devkit import wait_until
from mom_plugins_host.offload.requests import ReclaimRequest, ReclaimWorker

pytestmark = pytest.mark.real

MEMORY = Path("/sys/fs/cgroup/memory")
COLD_MIB, WARM_MIB = 160, 48


@pytest.fixture(scope="module")
def swap() -> Iterator[None]:
    """Add a compressed swap for these tests."""
    if os.geteuid() != 0 or not (MEMORY / "memory.force_empty").exists():
        not_here("cgroups v1 with the controller memory, and root, are needed")
    if not CONTROL.exists():
        not_here("this kernel gives no compressed swap")
    with compressed_swap(1024):
        yield


@pytest.fixture(scope="module")
def grouping(swap: None) -> Iterator[Lab]:
    """Yield a lab whose guests have memory groups."""
    with grouped_guests(("memory",)) as lab:
        yield lab


@pytest.fixture
def worker() -> Iterator[ReclaimWorker]:
    one = ReclaimWorker()
    yield one
    one.close()


def configure(mom: MomRun, lab: Lab, guests: dict[str, object]) -> None:
    mom.configure({"libvirt": lab.libvirtd.settings(), "offload": {"ahead": True}, "http": {}}, guests)


def in_swap_mib(guest: RealGuest) -> int:
    """Return the swapped memory of a guest's process."""
    lines = Path(f"/proc/{guest.pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmSwap"))) >> 10


def limits(guest: RealGuest) -> tuple[str, str]:
    """Return the memory limits of a guest's group."""
    folder = guest.group("memory")
    return (folder / "memory.limit_in_bytes").read_text(), (folder / "memory.soft_limit_in_bytes").read_text()


def _worst_pass_ms(guest: RealGuest) -> float:
    """Return the median of the slowest passes of the last seconds."""
    return statistics.median(beat.worst_ms for beat in guest.beats[-10:])


def order_of(guest: RealGuest, way: str, mib: int) -> ReclaimRequest:
    started = int(Path(f"/proc/{guest.pid}/stat").read_text().rpartition(")")[2].split()[19])
    return ReclaimRequest(guest.uuid, way, mib << 10, guest.pid, started)


def started(lab: Lab, *names: str, **options: Any) -> list[RealGuest]:
    """Start guests, and wait until they have written their cold memory and use their warm memory."""
    guests = [lab.start(name, mib=320, workload=(COLD_MIB, WARM_MIB, 0, 0), **options) for name in names]
    return [guest.wait_until_it_works() for guest in guests]


def test_cold_memory_goes_hot_memory_stays_and_no_limit_is_ever_set(mom: MomRun, grouped: Lab) -> None:
    cold, spared = started(grouped, "cold", "spared", balloon="none")
    before = limits(cold)
    configure(mom, grouped, {spared.name: {"offload": False}})
    mom.start()
    wait_until(lambda: in_swap_mib(cold) >= 0.6 * COLD_MIB, "most of the cold memory is in swap", 180)
    assert limits(cold) == before
    begun = len(cold.beats)
    wait_until(lambda: len(cold.beats) >= begun + 10, "the guest has worked on for a while", 60)
    usual = _worst_pass_ms(spared)  # on the same host, at the same time
    assert _worst_pass_ms(cold) < max(500.0, 2 * usual), f"the guest works as it did, and another one with {usual:g} ms"
    assert in_swap_mib(spared) == 0
    wait_until(lambda: "working_set" in mom.guest_rows().get(cold.name, {}), "its working set is known", 60)
    fields = mom.guest_rows()[cold.name]
    assert fields["working_set"] >= WARM_MIB << 10
    assert fields["cold"] >= 0.5 * COLD_MIB * 1024
    said = mom.verb("explain", cold.name).stdout
    assert "working set" in said
    assert "its settings forbid it" in mom.verb("explain", spared.name).stdout
    away = in_swap_mib(cold)
    mom.stop()
    assert limits(cold) == before
    assert in_swap_mib(cold) >= away - 20, "what is in swap stays there until the guest touches it"


def test_a_guest_keeps_its_limits_when_mom_and_its_worker_are_killed(mom: MomRun, grouped: Lab) -> None:
    (guest,) = started(grouped, "killed")
    before = limits(guest)
    configure(mom, grouped, {})
    mom.start()
    folders = [Path(f"/proc/{one}") for one in wait_until(lambda: workers_of(mom), "the worker runs", 60)]
    mom.kill()
    wait_until(lambda: not any(folder.exists() for folder in folders), "the worker has ended with mom", 60)
    assert limits(guest) == before
    guest.works_on()


def workers_of(mom: MomRun) -> list[int]:
    """Return pids of mom's reclaim workers, started by any of its threads."""
    assert mom.process is not None
    found: list[int] = []
    for children in Path(f"/proc/{mom.process.pid}/task").glob("*/children"):
        with suppress(OSError):
            pids = [int(word) for word in children.read_text().split()]
            found += [pid for pid in pids if b"mom_helper" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return found


def test_a_worker_that_is_killed_at_any_instant_leaves_the_limit_as_it_was(grouped: Lab, worker: ReclaimWorker) -> None:
    (guest,) = started(grouped, "instant", balloon="none")
    before = limits(guest)
    for number in range(12):
        worker.send([order_of(guest, "v1", 4)], 2.0, 2.0)
        time.sleep(0.005 * number)
        assert worker._process is not None
        os.kill(worker._process.pid, signal.SIGKILL)
        assert limits(guest) == before
        worker.close()
    worker.send([order_of(guest, "v1", 8)], 5.0, 5.0)
    batch = waited(worker, 20)
    assert batch is not None
    assert batch[0].went >= 4 << 10, "a new worker goes on"


def ordered(worker: ReclaimWorker, request: ReclaimRequest) -> int:
    """Send a request, and return the reclaimed KiB."""
    worker.send([request], 3.0, 3.0)
    batch = waited(worker, 20)
    assert batch is not None
    return batch[0].went


def test_a_guest_without_a_group_is_reached_by_its_process(grouped: Lab, worker: ReclaimWorker) -> None:
    (guest,) = started(grouped, "grouped")
    assert ordered(worker, order_of(guest, "process", 16)) >= 8 << 10
    assert in_swap_mib(guest) >= 8
    another = order_of(guest, "process", 16)
    gone = ReclaimRequest(another.guest, "process", 16, pid=another.pid, started=another.started + 1)
    before = in_swap_mib(guest)
    assert ordered(worker, gone) == 0, "a process that began at another moment is another one"
    assert in_swap_mib(guest) <= before


def waited(worker: ReclaimWorker, seconds: float) -> Sequence[ReclaimRequest] | None:
    """Wait for the next answer; None after the time limit."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if batch := worker.answers():
            return batch
        time.sleep(0.01)
    return None
