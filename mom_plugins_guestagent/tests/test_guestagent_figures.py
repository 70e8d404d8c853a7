"""Figures from a guest's files and answers, and their plausibility."""

import math

from agent_servers import FILES, LOADAVG, MEMINFO, PRESSURE, VMSTAT
from hypothesis import given
from hypothesis import strategies as st

from mom_plugins_guestagent.fields import FIELDS, FIGURES, judge
from mom_plugins_guestagent.guestd import figures

HONEST = figures("\n".join(FILES.values()))
NAMES = [spec.name.removeprefix("guest_") for spec in FIGURES]
MEMORY = {name for name in NAMES if name.startswith("mem_")}


def test_files_are_read_as_the_kernel_writes_them() -> None:
    assert figures("\n".join(FILES.values())) == {
        "mem_available": 1000000, "mem_unused": 300000, "mem_usable": 600000, "mem_free": 600000, "mem_disk_caches": 301000,
        "swap_total": 200000, "swap_usage": 50000, "swap_in": 40, "swap_out": 80, "major_fault": 100, "minor_fault": 4900, "oom_kills": 1,
        "psi_memory_some_avg10": 1.5, "psi_memory_some_avg60": 0.7, "psi_memory_some_avg300": 0.1, "psi_memory_some_total": 123456,
        "psi_memory_full_avg10": 0.5, "psi_memory_full_avg60": 0.2, "psi_memory_full_avg300": 0.0, "psi_memory_full_total": 3456,
        "load_1": 0.5, "load_5": 0.4, "load_15": 0.3,
    }  # fmt: skip


def test_what_a_kernel_does_not_have_is_absent() -> None:
    old = figures(MEMINFO.replace("MemAvailable:     600000 kB\n", ""))
    assert "mem_usable" not in old
    assert "psi_memory_some_avg10" not in old
    assert old["mem_unused"] == 300000
    assert figures("") == {}
    assert set(figures(PRESSURE + LOADAVG + VMSTAT)) == set(HONEST) - MEMORY - {"swap_total", "swap_usage", "swap_in", "swap_out"}


def test_an_honest_guest_is_believed_and_every_field_is_declared() -> None:
    first = judge(HONEST, 100.0, maximum_kib=1 << 20)
    assert first.lies == ()
    later = judge({**HONEST, "swap_in": 140, "major_fault": 120, "minor_fault": 6900}, 110.0, first, 1 << 20)
    fields = later.fields
    assert (fields["swap_in"], fields["swap_out"], fields["major_fault"], fields["minor_fault"]) == (10, 0, 2, 200)
    assert fields["mem_available"] == 1000000
    assert fields["guest_psi_memory_some_avg10"] == 1.5
    assert fields["guest_load_1"] == 0.5
    assert fields["guest_oom_kills"] == 1
    assert fields.keys() <= {spec.name for spec in FIELDS}


def test_figures_that_contradict_each_other_are_all_dropped_and_the_rest_is_kept() -> None:
    others = {"mem_unused": 1000001, "mem_usable": 2000000, "mem_free": 200000}
    sizes: list[object] = [0, 1 << 60, -5, "1" * 40, math.nan, "NaN", True, [1]]
    for name, wrong in (*others.items(), *(("mem_available", size) for size in sizes)):
        judged = judge({**HONEST, name: wrong}, 1.0)
        assert judged.lies, (name, wrong)
        assert not MEMORY & judged.fields.keys(), (name, wrong)
        assert judged.fields["swap_total"] == 200000
    assert judge(HONEST, 1.0, maximum_kib=999_999).lies == ("the agent reports more memory than the guest's maximum",)
    assert judge({**HONEST, "swap_usage": 200001}, 1.0).lies
    assert judge({**HONEST, "psi_memory_some_avg10": 100.01}, 1.0).lies
    assert judge({**HONEST, "load_5": 1e9}, 1.0).lies
    first = judge(HONEST, 100.0)
    assert judge({**HONEST, "swap_in": 1 << 55}, 101.0, first).lies


numbers = st.one_of(
    st.integers(), st.floats(), st.text(max_size=50), st.none(), st.booleans(), st.integers(0, 1 << 21), st.integers(10**39, 10**41),
    st.integers(0, 1 << 63).map(str), st.floats(0, 200).map(lambda number: f"{number:.2f}"), st.lists(st.integers()),
)  # fmt: skip
sayings = st.dictionaries(st.one_of(st.sampled_from(NAMES), st.text(max_size=30)), numbers)


@given(sayings, sayings, st.floats(0, 1e6), st.one_of(st.none(), st.integers(0, 1 << 40)))
def test_whatever_a_guest_says_fields_are_possible(first: dict[str, object], second: dict[str, object], seconds: float, most: int) -> None:
    before = judge(first, 100.0, None, most)
    judged = judge(second, 100.0 + seconds, before, most)
    fields = judged.fields
    assert fields.keys() <= {spec.name for spec in FIELDS}
    numbers = {name: value for name, value in fields.items() if isinstance(value, int | float)}
    assert numbers.keys() == fields.keys()
    assert all(math.isfinite(number) and 0 <= number < 1 << 63 for number in numbers.values())
    for name in numbers.keys() & MEMORY:
        assert numbers[name] <= numbers["mem_available"] <= (1 << 50 if most is None else most)
    assert all(lie.isprintable() and len(lie) < 100 for lie in judged.lies)
    assert len(set(judged.lies)) <= len(NAMES) + 8
