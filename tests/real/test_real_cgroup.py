"""Control groups v2 of a real kernel, in a guest with its own groups."""

import json
import shutil
import statistics
from pathlib import Path
from typing import Any

import pytest
from cgroup_image import facts
from guest_image import CannotBuild
from real_guests import not_here

pytestmark = pytest.mark.real

MIB = 1 << 20

DRIVERS = "import growth_driver, cgroup_driver; growth_driver.try_out(); cgroup_driver.main()"
"""Program of the guest. Growth comes first, because it needs a machine without swap."""


@pytest.fixture(scope="module")
def v2(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Run the drivers in the guest, and return their results."""
    if shutil.which("qemu-system-x86_64") is None:
        not_here("qemu-system-x86_64 is missing")
    try:
        lines = list(facts(tmp_path_factory.mktemp("v2"), DRIVERS, 1024))
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


def test_fields_are_the_kernels_and_all_limits_reach_it_and_are_put_back_after_a_crash(v2: dict[str, Any]) -> None:
    controls = {"memory_high", "memory_low", "memory_min", "swap_max"}
    assert v2["limits"] == {f"cgroup_{name}": "applied" for name in controls}
    assert v2["limits stand"] == {
        "memory.high": str(120 * MIB),
        "memory.low": str(20 * MIB),
        "memory.min": str(8 * MIB),
        "memory.swap.max": str(64 * MIB),
    }
    assert v2["put back"] == v2["limits"]
    free = {"memory.high": "max", "memory.low": "0", "memory.min": "0", "memory.swap.max": "max"}
    assert v2["limits stand no more"] == free
    fields = v2["fields"]
    assert 104 << 10 <= fields["cgroup_memory_current"] <= 120 << 10
    assert fields["cgroup_memory_anon"] >= 100 << 10
    assert "cgroup_swap_current" in fields


def test_what_cannot_be_is_refused_with_the_reason_and_a_group_that_goes_away_is_no_error(v2: dict[str, Any]) -> None:
    assert "the guest needs" in v2["too low"][0]
    assert v2["read-only"]["cgroup_memory_low"].startswith("refused cannot write ")
    assert "/memory.low: Read-only file system (" in v2["read-only"]["cgroup_memory_low"]
    assert v2["gone in a cycle"][0] == [], "no plugin has failed"
    assert v2["gone at the end"] == {"cgroup_swap_max": "gone its control group is gone"}


# --- as user mom, with mom-helper under its units ------------------------------------------------------------------------------------

CAPABILITIES = {"CAP_SYS_NICE": 23, "CAP_SYS_PTRACE": 19, "CAP_SYS_RESOURCE": 24}


def held_by(mask: str) -> set[int]:
    return {number for number in range(64) if int(mask, 16) >> number & 1}


def test_a_mom_without_any_power_does_none_of_it_by_itself(v2: dict[str, Any]) -> None:
    assert held_by(v2["mom's power"]["CapEff"]) == set()
    assert {what: bool(refused) for what, refused in v2["alone"].items()} == {"limit": True, "process": True}, v2["alone"]


def test_the_helper_has_the_power_that_its_unit_says_and_no_more(v2: dict[str, Any]) -> None:
    unit = (Path(__file__).parents[2] / "packaging/mom-helper.service").read_text()
    bounds = next(line for line in unit.splitlines() if line.startswith("CapabilityBoundingSet="))
    named = set(bounds.partition("=")[2].split())
    assert named.issuperset(CAPABILITIES)
    held = held_by(v2["helper's power"]["CapEff"])
    assert held.issuperset(CAPABILITIES.values())
    assert len(held) == len(named)
    assert (v2["helper's power"]["NoNewPrivs"], v2["helper's power"]["Seccomp"]) == ("1", "2")


def test_by_the_helper_all_limits_reach_the_kernel_and_are_put_back_after_a_crash(v2: dict[str, Any]) -> None:
    assert set(v2["helped"].values()) == {"applied"}
    assert v2["helped stand"] == {
        "memory.high": str(100 * MIB),
        "memory.low": str(20 * MIB),
        "memory.min": str(8 * MIB),
        "memory.swap.max": str(64 * MIB),
    }
    assert v2["helped back"] == v2["helped"]
    assert v2["helped stand no more"] == {"memory.high": "max", "memory.low": "0", "memory.min": "0", "memory.swap.max": "max"}


def test_root_restores_as_user_mom_what_a_crash_has_left_to_which_the_helper_writes(v2: dict[str, Any]) -> None:
    assert v2["restored"] == [0, {"cgroup_memory_high": "applied", "cgroup_memory_low": "applied"}]
    assert v2["restored stand"] == v2["helped stand no more"]


def test_what_root_declares_for_another_plugin_is_written_within_its_bounds(v2: dict[str, Any]) -> None:
    assert v2["weighs"] == {"cpu.weight": "50"}
    assert "cpu.weight" in v2["too heavy"]


def test_by_the_helper_memory_is_taken_and_files_of_guests_are_read(v2: dict[str, Any]) -> None:
    for way in ("taken of its group", "taken of its process"):
        kib, why = v2[way]
        assert kib >= 8 << 10, f"{way}: {why}"
    assert v2["went"] >= 8
    assert v2["pressed"], "what is above a new limit goes"
    assert v2["process file"]


def test_no_other_process_is_limited(v2: dict[str, Any]) -> None:
    assert v2["others"] == ["EPERM", "EPERM"]


def test_a_helper_that_is_stopped_puts_back_what_mom_has_forgotten(v2: dict[str, Any]) -> None:
    assert v2["put back by the helper"] == {**v2["helped stand no more"], "cpu.weight": "100"}


# --- growth on credit ----------------------------------------------------------------------------------------------------------------


def test_on_credit_guests_that_want_more_than_the_host_has_are_slowed_down_and_none_is_killed(v2: dict[str, Any]) -> None:
    run = v2["with credit"]
    assert (run["kills"], run["goes_on"]) == (0, [True] * 6), run
    assert run["limited_after"] is not None
    assert statistics.median(run["growth"]) >= 0.05, run
    assert min(run["growth"]) > 0, run


def test_restore_removes_all_limits(v2: dict[str, Any]) -> None:
    restored = v2["end restore"]
    assert restored["limits"] == 6
    assert restored["second"]["free"], restored


def test_the_kernel_kills_guests_of_the_lowest_class_first(v2: dict[str, Any]) -> None:
    killed = v2["class"]["killed"]
    assert killed
    assert killed[0] == 10
