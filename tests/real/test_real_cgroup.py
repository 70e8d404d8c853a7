"""Control groups of the real kernel: v1, as libvirt makes them for real guests, and v2 in a guest whose kernel has them to itself."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import libvirt  # type: ignore[import-untyped]  # it has no types
import pytest
from cgroup_image import facts
from grouped_guests import ROOT, grouped_guests
from guest_image import CannotBuild
from mom_run import MomRun
from real_guests import Lab, RealGuest, eventually, not_here

pytestmark = pytest.mark.real

CONTROLLERS = ("cpu", "memory", "blkio")
MIB = 1 << 20
UNLIMITED = 9223372036854771712

_CONFIG = """
interval: 1s
state_directory: {folder}/state
run_directory: {folder}/run
plugins:
  host: {{}}
  libvirt: {{uri: "{uri}", pid_directory: "{pids}"}}
  cgroup: {cgroup}
guests: {guests}
"""


# --- cgroups v1, with libvirt -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def grouping() -> Iterator[Lab]:
    """Starts guests on a libvirtd that puts each into groups of its own."""
    if os.geteuid() != 0 or not (ROOT / "memory/memory.soft_limit_in_bytes").exists():
        not_here("cgroups v1 with the controller memory, and root, are needed")
    with grouped_guests(CONTROLLERS) as lab:
        yield lab


@pytest.fixture
def grouped(grouping: Lab) -> Iterator[Lab]:
    yield grouping
    grouping.destroy_all()


@pytest.fixture
def mom(tmp_path: Path) -> Iterator[MomRun]:
    run = MomRun(tmp_path)
    yield run
    run.kill()


@pytest.fixture
def disk() -> tuple[str, str]:
    """A disk of this host: its name and number."""
    disks = [folder for folder in sorted(Path("/sys/block").iterdir()) if not folder.name.startswith(("zram", "ram"))]
    if not disks:
        not_here("this host has no disk")
    return disks[0].name, (disks[0] / "dev").read_text().strip()


def configure(mom: MomRun, lab: Lab, guests: Mapping[str, object], **cgroup: object) -> None:
    server = lab.libvirtd
    text = _CONFIG.format(folder=mom.folder, uri=server.uri, pids=server.pid_folder, cgroup=json.dumps(cgroup), guests=json.dumps(guests))
    mom.config.write_text(text)


def kernel(guest: RealGuest) -> tuple[int, int, str]:
    """Weight, soft limit and the limit of reads, as the kernel has them."""
    shares = int((guest.group("cpu") / "cpu.shares").read_text())
    soft = int((guest.group("memory") / "memory.soft_limit_in_bytes").read_text())
    return shares, soft, (guest.group("blkio") / "blkio.throttle.read_bps_device").read_text().strip()


def fields_of(mom: MomRun, guest: RealGuest) -> dict[str, Any]:
    found: list[dict[str, Any]] = json.loads(mom.verb("guests", "--json").stdout)
    return next((row for row in found if row["name"] == guest.name), {})


def reload(mom: MomRun) -> None:
    assert mom.process is not None
    mom.process.send_signal(signal.SIGHUP)


FREE = (1024, UNLIMITED, "")


def ours(disk: tuple[str, str], memory: str = "280MiB") -> dict[str, object]:
    return {"cgroup": {"cpu_weight": 50, "memory_high": memory, "io_max": {disk[0]: {"rbps": "40MiB"}}}}


def test_limits_from_the_configuration_reach_the_kernel_and_are_put_back(mom: MomRun, grouped: Lab, disk: tuple[str, str]) -> None:
    guest, other = grouped.start("held"), grouped.start("other")
    guest.wait_until_up()
    held = (512, 280 * MIB, f"{disk[1]} {40 * MIB}")
    assert kernel(guest) == FREE
    configure(mom, grouped, {guest.name: ours(disk)})
    mom.start()
    eventually("the guest is held", lambda: kernel(guest) == held, 60)
    assert guest.domain.schedulerParametersFlags(libvirt.VIR_DOMAIN_AFFECT_LIVE)["cpu_shares"] == 512, "it is libvirt's weight, too"
    assert kernel(other) == FREE
    eventually("its fields show it", lambda: fields_of(mom, guest).get("cgroup_cpu_weight") == 50.0)
    fields = fields_of(mom, guest)
    used = int((guest.group("memory") / "memory.usage_in_bytes").read_text())
    assert fields["cgroup_memory_current"] == pytest.approx(used >> 10, rel=0.2)
    assert fields["cgroup_memory_high"] == 280 << 10
    doctor = mom.verb("doctor").stdout
    assert "cgroups v1 are mounted" in doctor
    assert "2 of 2 guests have groups of their own" in doctor
    configure(mom, grouped, {})
    reload(mom)
    eventually("what is no longer set is put back", lambda: kernel(guest) == FREE)
    configure(mom, grouped, {guest.name: ours(disk)})
    reload(mom)
    eventually("and set again", lambda: kernel(guest) == held)
    assert mom.stop() < 30
    assert kernel(guest) == FREE


def test_what_a_killed_mom_has_left_is_put_back_and_what_libvirt_has_changed_since_is_not(
    mom: MomRun, grouped: Lab, disk: tuple[str, str]
) -> None:
    guest, changed, gone = grouped.start("held"), grouped.start("changed"), grouped.start("gone")
    for one in (guest, changed, gone):
        one.wait_until_up()
    configure(mom, grouped, {"momtest-*": ours(disk)})
    mom.start()
    eventually("the guests are held", lambda: all(kernel(one)[:2] == (512, 280 * MIB) for one in (guest, changed, gone)), 60)
    mom.kill()
    changed.domain.setSchedulerParametersFlags({"cpu_shares": 77}, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    changed.domain.setMemoryParameters({"soft_limit": 250 << 10}, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    gone.destroy()
    done = mom.verb("restore")
    assert done.returncode == 0, done.stdout + done.stderr
    assert kernel(guest) == FREE
    assert kernel(changed) == (77, 250 * MIB, ""), "what somebody else has set is left alone"
    assert mom.verb("restore").stdout == "Nothing to put back.\n"


def test_a_guest_is_not_limited_below_its_need_and_it_is_said_what_cgroups_v1_cannot_do(
    mom: MomRun, grouped: Lab, disk: tuple[str, str]
) -> None:
    guest = grouped.start("needy")
    guest.wait_until_up()
    limits: dict[str, object] = {"cgroup": {"memory_high": "40MiB", "memory_low": "1GiB", "cpu_weight": 50}}
    configure(mom, grouped, {guest.name: limits}, reclaim=True)
    mom.start()
    eventually("its weight is set", lambda: kernel(guest)[0] == 512)
    # The weight is set before the cycle ends, and what is said of it is seen after that.
    for said in ("cgroups v1 cannot protect memory from reclaim", "cgroups v1 cannot reclaim a part of a group's memory"):
        eventually(said, lambda said=said: any(said in problem["message"] for problem in mom.status()["problems"]))  # type: ignore[misc]  # a lambda
    assert kernel(guest)[1] == UNLIMITED
    assert mom.stop() < 30


def test_pressure_comes_from_the_unified_hierarchy_beside_cgroups_v1(mom: MomRun, grouped: Lab) -> None:
    unified = ROOT / "unified"
    if not (unified / "memory.pressure").exists():
        not_here("the unified hierarchy, with pressure, is needed beside cgroups v1")
    guest = grouped.start("hybrid")
    guest.wait_until_up()
    own = unified / guest.name
    own.mkdir()
    try:
        (own / "cgroup.procs").write_text(str(guest.pid))
        configure(mom, grouped, {})
        mom.start()
        eventually("pressure", lambda: fields_of(mom, guest).get("cgroup_memory_stall") is not None, 60)
        fields = fields_of(mom, guest)
        assert {"host_psi_memory_some_avg10", "host_psi_cpu_some_avg10", "cgroup_memory_current"} <= fields.keys()
        assert mom.stop() < 30
    finally:
        guest.destroy()
        eventually("the group is empty", lambda: not (own / "cgroup.procs").read_text())
        own.rmdir()


# --- cgroups v2, in a guest -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def v2(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the plugin has done, and the kernel has said, in a guest whose kernel has cgroups v2 to itself."""
    if shutil.which("qemu-system-x86_64") is None:
        not_here("qemu-system-x86_64 is missing")
    try:
        lines = list(facts(tmp_path_factory.mktemp("v2")))
    except CannotBuild as error:
        not_here(str(error))
    found: dict[str, Any] = {}
    for line in lines:
        if "FACT {" in line:
            found |= json.loads(line.partition("FACT ")[2])
    assert found.get("done"), "\n".join(lines[-40:])
    return found


def test_the_kernel_takes_and_refuses_what_the_kernel_of_files_does(v2: dict[str, Any]) -> None:
    assert v2["rules"] == []


def test_all_limits_reach_cgroups_v2_and_are_put_back_after_a_crash(v2: dict[str, Any]) -> None:
    controls = {"memory_high", "memory_low", "memory_min", "swap_max", "cpu_weight", "io_max"}
    assert v2["limits"] == {f"cgroup_{name}": "applied" for name in controls}
    assert v2["limits stand"] == {
        "memory.high": str(120 * MIB),
        "memory.low": str(20 * MIB),
        "memory.min": str(8 * MIB),
        "memory.swap.max": str(64 * MIB),
        "cpu.weight": "50",
        "io.max": "1:1 rbps=5242880 wbps=max riops=max wiops=max",
    }
    assert v2["put back"] == v2["limits"]
    free = {"memory.high": "max", "memory.low": "0", "memory.min": "0", "memory.swap.max": "max", "cpu.weight": "100", "io.max": ""}
    assert v2["limits stand no more"] == free


def test_fields_are_those_of_the_kernel(v2: dict[str, Any]) -> None:
    fields = v2["fields"]
    assert 104 << 10 <= fields["cgroup_memory_current"] <= 120 << 10
    assert fields["cgroup_memory_anon"] >= 100 << 10
    assert fields["cgroup_memory_stall"] >= 0
    assert {"host_psi_memory_some_avg10", "host_psi_io_full_avg10", "cgroup_refaults", "cgroup_swap_current"} <= fields.keys()


def test_a_limit_below_the_need_and_a_read_only_tree_are_refused_with_the_reason(v2: dict[str, Any]) -> None:
    assert (
        v2["too low"] == ["the guest needs 12,288 KiB: what it uses or was promised, and QEMU's own"]
        or "the guest needs" in v2["too low"][0]
    )
    assert v2["read-only"] == {"cgroup_memory_low": "refused memory.low is mounted read-only (mount the cgroup file system read-write)"}


def test_reclaim_takes_cold_memory_and_the_guest_does_not_wait_for_it(v2: dict[str, Any]) -> None:
    reclaim = v2["reclaim"]
    assert reclaim["swap_kib"] > 5 << 10
    assert reclaim["counted_kib"] == pytest.approx(reclaim["held_kib"] - reclaim["holds_kib"], rel=0.2)
    assert reclaim["holds_kib"] < reclaim["held_kib"] - (4 << 10)
    assert reclaim["stalled_share"] < 0.01


def test_memory_that_is_in_use_is_found_out_and_left_alone(v2: dict[str, Any]) -> None:
    states = v2["harm"]
    assert any("comes back" in state or "waits for memory" in state for state in states), states
    assert any("tried again in" in state for state in states), states


def test_a_group_that_goes_away_is_no_error(v2: dict[str, Any]) -> None:
    assert v2["gone in a cycle"][0] == [], "no plugin has failed"
    assert v2["gone at the end"] == {"cgroup_swap_max": "gone its control group is gone"}
