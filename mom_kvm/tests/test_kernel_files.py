"""Small files of the kernel, and invalid content in them."""

import os
from pathlib import Path

import pytest

from mom_kvm import ProcessStat, parse_number_list

TICKS = os.sysconf("SC_CLK_TCK")
KSMD = "37 (ksmd) S 2 0 0 0 -1 2097216 0 0 0 0 25 75 0 0 25 5 1 0 26 0 0 18446744073709551615\n"


def told(text: str) -> tuple[str, bool, float] | None:
    found = ProcessStat.parse(text.encode())
    return None if found is None else (found.name, found.is_kernel_thread, found.cpu_seconds)


def test_a_thread_of_the_kernel_is_told_from_a_program_that_calls_itself_so() -> None:
    assert told(KSMD) == ("ksmd", True, 100 / TICKS)
    assert told(KSMD.replace("2097216", "4194560")) == ("ksmd", False, 100 / TICKS)
    assert told(KSMD.replace("(ksmd)", "(a) b (ksmd)")) == ("a) b (ksmd", True, 100 / TICKS)


@pytest.mark.parametrize("bad", ["", "37", "37 (ksmd", "37 ksmd) S", "37 (ksmd) S 2 0 0 0 -1", KSMD.replace(" 25 75 ", " 25 -7 ")])
def test_a_malformed_stat_is_no_process(bad: str) -> None:
    assert ProcessStat.parse(bad.encode()) is None


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        *((text, frozenset()) for text in ("", "\n")),
        *(("0\n", {0}), ("0-3\n", {0, 1, 2, 3}), ("0-1,4, 8-9", {0, 1, 4, 8, 9}), ("0-3,^2,8", {0, 1, 3, 8}), ("0-8191", {*range(8192)})),
        *((text, None) for text in ("a", "1-", "0-", "-1", "3-1", "1,,2", "8192", "0-99999999", "9999999999", "1;2", "1 2", "\u00b2")),
    ],
)
def test_a_list_of_cpus_or_nodes_is_read_and_a_malformed_one_is_none(text: str, numbers: set[int] | None) -> None:
    assert parse_number_list(text) == numbers


def test_processes_are_found_by_their_names_and_an_unreadable_proc_is_no_empty_one(tmp_path: Path) -> None:
    for name, comm in (("10", "numad"), ("9", "numad"), ("2", "kthreadd"), ("self", "numad"), ("\u00b2", "numad"), ("77", "")):
        (tmp_path / name).mkdir()
        if comm:
            (tmp_path / name / "comm").write_text(f"{comm}\n")
    assert ProcessStat.ids(tmp_path) == [2, 9, 10, 77]
    assert ProcessStat.id_of("numad", tmp_path) == 9
    assert ProcessStat.id_of("ksmtuned", tmp_path) == 0
    assert ProcessStat.ids(tmp_path / "away") is None
    assert ProcessStat.id_of("numad", tmp_path / "away") == 0


def test_a_process_knows_for_how_long_it_has_run_where_the_kernel_says_for_how_long_it_runs_itself(tmp_path: Path) -> None:
    own = ProcessStat.of(Path("/proc/self"))
    assert own is not None
    age = own.age(Path("/proc"))
    assert age is not None
    assert 0 <= age < 86_400
    assert own.age(tmp_path) is None
    for text in ("", "soon 1\n"):
        (tmp_path / "uptime").write_text(text)
        assert own.age(tmp_path) is None
    (tmp_path / "uptime").write_text(f"{own.started / TICKS + 12:.2f} 1.00\n")
    assert own.age(tmp_path) == pytest.approx(12, abs=0.02)
