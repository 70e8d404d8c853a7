"""A guest's process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mom_plugins_libvirt.qemu_process import Merged, merged, pid_of, swapped_kib, times_of

UUID = "c0c1f094-e0eb-461c-82d5-fd2a0fe0d115"


def process(proc: Path, pid: int, uuid: str = UUID) -> None:
    (proc / str(pid)).mkdir(parents=True)
    (proc / str(pid) / "cmdline").write_bytes(b"\0".join([b"qemu-system-x86_64", b"-name", b"guest=x", b"-uuid", uuid.encode(), b""]))


def pid_file(folder: Path, name: str, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.pid").write_text(text)


def test_the_pid_is_in_libvirts_file(tmp_path: Path) -> None:
    process(tmp_path / "proc", 4711)
    pid_file(tmp_path / "run", "web 1", "4711\n")
    assert pid_of(tmp_path / "run", tmp_path / "proc", "web 1", UUID) == 4711


def test_a_file_named_as_in_xml_is_found(tmp_path: Path) -> None:
    process(tmp_path / "proc", 4711)
    pid_file(tmp_path / "run", "a&apos;b&lt;", "4711")
    assert pid_of(tmp_path / "run", tmp_path / "proc", "a'b<", UUID) == 4711


def test_another_guests_process_does_not_count(tmp_path: Path) -> None:
    process(tmp_path / "proc", 4711, "another")
    pid_file(tmp_path / "run", "web", "4711")
    assert pid_of(tmp_path / "run", tmp_path / "proc", "web", UUID) is None
    assert pid_of(tmp_path / "run", tmp_path / "proc", "none", UUID) is None


@pytest.mark.parametrize("name", ["../evil", "/evil", "..", ".", "", "x\0y", "n" * 5000, "\ud800"])
def test_no_name_leaves_the_folder(tmp_path: Path, name: str) -> None:
    process(tmp_path / "proc", 4711)
    pid_file(tmp_path, "evil", "4711")
    pid_file(tmp_path / "run", "web", "4711")
    assert pid_of(tmp_path / "run", tmp_path / "proc", name, UUID) is None


@pytest.mark.parametrize("text", ["", "-1", "0", "word", "12 34", "99999999999", "1.5"])
def test_what_is_no_pid_is_unknown(tmp_path: Path, text: str) -> None:
    pid_file(tmp_path / "run", "web", text)
    assert pid_of(tmp_path / "run", tmp_path / "proc", "web", UUID) is None


STAT = "7 (evil) S 1 2 ) 3) S 1 7 7 0 -1 4194560 12345 0 67 0 150 250 0 0 20 0 5 0 99 1 2\n"


def test_counters_are_the_kernels_whatever_the_program_is_called(tmp_path: Path) -> None:
    (tmp_path / "stat").write_text(STAT)
    times = times_of(str(tmp_path))
    assert times is not None
    assert (times.started, times.minor_faults, times.major_faults) == (99, 12345, 67)
    assert times.cpu_seconds == 400 / os.sysconf("SC_CLK_TCK")
    assert times_of(str(tmp_path / "gone")) is None


def test_a_process_that_has_ended_counts_nothing(tmp_path: Path) -> None:
    for state in ("Z", "X"):
        (tmp_path / "stat").write_text(STAT.replace(") S 1 7", f") {state} 1 7"))
        assert times_of(str(tmp_path)) is None


def test_what_the_host_has_swapped_and_merged_of_it(tmp_path: Path) -> None:
    (tmp_path / "status").write_text("Name:\tVmSwap:\nVmPeak:\t   10 kB\nVmSwap:\t  123456 kB\nThreads:\t5\n")
    assert swapped_kib(str(tmp_path)) == 123456
    (tmp_path / "ksm_stat").write_text("ksm_rmap_items 9\nksm_zero_pages 0\nksm_merging_pages 500\nksm_process_profit -2048\n")
    assert merged(str(tmp_path)) == Merged(500 * os.sysconf("SC_PAGE_SIZE") // 1024, -2)
    (tmp_path / "ksm_stat").write_text("ksm_rmap_items 9\n")
    assert merged(str(tmp_path)) is None
    (tmp_path / "ksm_merging_pages").write_text("0\n")
    assert merged(str(tmp_path)) == Merged(0, None), "an older kernel"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.binary(max_size=100), st.binary(max_size=60).map(lambda b: STAT.encode() + b), st.just(b"\nVmSwap:")))
def test_no_content_raises(tmp_path: Path, content: bytes) -> None:
    for name in ("stat", "status", "ksm_stat", "ksm_merging_pages"):
        (tmp_path / name).write_bytes(content)
    times_of(str(tmp_path))
    swapped_kib(str(tmp_path))
    merged(str(tmp_path))
