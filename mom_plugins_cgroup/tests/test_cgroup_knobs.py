"""What the kernel writes into its files, and what mom makes of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mom_plugins_cgroup import knobs
from mom_plugins_cgroup.devices import ImpossibleLimit, by_device, completed, free, line_of, parsed, parsed_v1
from mom_plugins_cgroup.names import IO_LATENCY, IO_MAX


@pytest.mark.parametrize(
    ("text", "kib"),
    [(b"max\n", -1), (b"0\n", 0), (b"1048576\n", 1024), (b"9223372036854771712\n", -1), (b"", None), (b"-5\n", None), (b"much", None)],
)
def test_limits_of_memory_are_read(text: bytes, kib: int | None) -> None:
    assert knobs.memory_kib(text) == kib


@given(st.integers(0, 1 << 45), st.booleans())
def test_a_limit_of_memory_is_written_as_it_was_read(kib: int, unified: bool) -> None:
    assert knobs.memory_kib(knobs.memory_text(kib, unified=unified).encode()) == kib
    assert knobs.memory_text(-1, unified=unified) == ("max" if unified else "-1")


@given(st.integers(2, 262_144))
def test_every_share_of_cgroups_v1_is_put_back_as_it_was(shares: int) -> None:
    percent = knobs.weight_percent(str(shares).encode(), unified=False)
    assert percent is not None
    assert knobs.weight_number(percent, unified=False) == shares
    assert not knobs.weight_complaint(percent, unified=False)


def test_the_usual_weight_is_one_hundred_percent_in_both_versions() -> None:
    assert knobs.weight_percent(b"100\n", unified=True) == knobs.weight_percent(b"1024\n", unified=False) == 100.0
    assert knobs.weight_number(50.0, unified=False) == 512


@pytest.mark.parametrize(("value", "unified"), [(0, True), (10_001, True), (0.1, False), (25_601, False), ("1", True), (None, True)])
def test_a_weight_outside_of_the_kernels_bounds_is_refused_with_them(value: Any, unified: bool) -> None:
    assert knobs.weight_complaint(value, unified=unified).startswith(f"a weight is {'1 to 10000' if unified else '0.195312 to 25600'} %")


def test_lines_of_io_limits_are_read_and_written() -> None:
    text = "8:16 rbps=max wbps=max riops=max wiops=max\n8:0 rbps=2097152 wbps=max riops=max wiops=120 new=5\n(unknown) rbps=1\n"
    (item,) = parsed(IO_MAX, text)
    assert item == {"device": "8:0", "rbps": 2097152, "wbps": -1, "riops": -1, "wiops": 120}
    assert line_of(IO_MAX, "8:0", by_device(IO_MAX, [item])["8:0"]) == "8:0 rbps=2097152 wbps=max riops=max wiops=120"
    assert parsed(IO_LATENCY, "8:0 target=5000\n8:16 target=0\n") == [{"device": "8:0", "target": 5000}]
    assert line_of(IO_LATENCY, "8:0", {"target": -1}) == "8:0 target=0"


def test_the_four_files_of_cgroups_v1_make_one_list() -> None:
    assert parsed_v1({"rbps": "8:0 5\n8:16 6\n", "wiops": "8:0 7\n", "wbps": "", "riops": "junk\n"}) == [
        {"device": "8:0", "rbps": 5, "wbps": -1, "riops": -1, "wiops": 7},
        {"device": "8:16", "rbps": 6, "wbps": -1, "riops": -1, "wiops": -1},
    ]


def test_what_is_not_mentioned_stays_and_what_is_free_is_left_out() -> None:
    present: Any = [
        {"device": "8:0", "rbps": 5, "wbps": -1, "riops": -1, "wiops": 7},
        {"device": "8:16", "rbps": 9, "wbps": -1, "riops": -1, "wiops": -1},
    ]
    assert completed(IO_MAX, [{"device": "8:0", "wbps": 8}, {"device": "8:16", "rbps": -1}], present) == [
        {"device": "8:0", "rbps": 5, "wbps": 8, "riops": -1, "wiops": 7}
    ]
    assert completed(IO_MAX, [{"device": "8:16", **free(IO_MAX)}, *present[:1]], present) == present[:1]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("fast", "no list"),
        ([{"rbps": 5}], "needs its `device`"),
        ([{"device": "sda", "rbps": 5}], "needs its `device`"),
        ([{"device": "8:0", "speed": 5}], "'speed' is none of"),
        ([{"device": "8:0", "rbps": 0}], "above 0"),
        ([{"device": "8:0", "rbps": 1.5}], "above 0"),
        ([{"device": "8:0", "rbps": True}], "above 0"),
        ([5], "needs its `device`"),
    ],
)
def test_an_impossible_list_is_refused_with_the_reason(value: Any, reason: str) -> None:
    with pytest.raises(ImpossibleLimit, match=reason):
        completed(IO_MAX, value, [])


@given(st.text(max_size=100))
def test_any_text_of_limits_is_read(text: str) -> None:
    parsed(IO_MAX, text)
    parsed_v1({"rbps": text})
