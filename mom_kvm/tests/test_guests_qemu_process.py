"""A guest's process."""

import gc
import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mom_devkit.without_root import MomPower, StandInGuest
from mom_kvm.qemu_process import MappedMemory, Merged, MergedPages, swapped_kib


def test_what_the_host_has_swapped_and_merged_of_it(tmp_path: Path) -> None:
    (tmp_path / "status").write_text("Name:\tVmSwap:\nVmPeak:\t   10 kB\nVmSwap:\t  123456 kB\nThreads:\t5\n")
    assert swapped_kib(str(tmp_path)) == 123456
    (tmp_path / "ksm_stat").write_text("ksm_rmap_items 9\nksm_zero_pages 0\nksm_merging_pages 500\nksm_process_profit -2048\n")
    merged = MergedPages(str(tmp_path))
    assert merged.read() == Merged(500 * os.sysconf("SC_PAGE_SIZE") // 1024, -2)
    (tmp_path / "ksm_stat").write_text("ksm_rmap_items 9\nksm_zero_pages 0\nksm_merging_pages 0\nksm_process_profit -1024\n")
    assert merged.read() == Merged(0, -1), "what it says now"
    (tmp_path / "ksm_stat").write_text("ksm_rmap_items 9\n")
    assert MergedPages(str(tmp_path)).read() is None
    (tmp_path / "ksm_merging_pages").write_text("3\n")
    assert MergedPages(str(tmp_path)).read() == Merged(3 * os.sysconf("SC_PAGE_SIZE") // 1024, None), "an older kernel"


@pytest.mark.parametrize(("shared_kib", "swapped"), [(16 << 10, 2048), (64 << 10, None)])
def test_what_is_in_swap_of_a_guest_with_shared_memory_is_unknown(tmp_path: Path, shared_kib: int, swapped: int | None) -> None:
    (tmp_path / "status").write_text(f"Name:\tqemu\nRssAnon:\t    9000 kB\nRssShmem:\t  {shared_kib} kB\nVmSwap:\t    2048 kB\n")
    assert swapped_kib(str(tmp_path)) == swapped


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "600"]) as one:
        yield one
        one.kill()


def open_files() -> int:
    gc.collect()  # of other tests, which could let go of theirs in the middle of this one
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.processes
def test_of_a_process_that_has_ended_nothing_is_merged_and_no_file_stays_open(process: subprocess.Popen[bytes]) -> None:
    merged, before = MergedPages(f"/proc/{process.pid}"), open_files()
    if merged.read() is None:
        pytest.skip("this kernel does not tell")
    assert (merged.read(), open_files()) == (Merged(0, 0), before + 1)
    process.kill()
    process.wait()
    assert (merged.read(), open_files()) == (None, before)


@pytest.mark.processes
def test_where_few_descriptors_are_left_none_is_kept(process: subprocess.Popen[bytes]) -> None:
    (soft, hard), before = resource.getrlimit(resource.RLIMIT_NOFILE), open_files()
    resource.setrlimit(resource.RLIMIT_NOFILE, (2 * before, hard))
    try:
        told = [MergedPages(f"/proc/{process.pid}") for _ in range(50)]
        assert all(one.read() == told[0].read() for one in told)
        assert open_files() < before + 10, "there may be gaps in the numbers"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def guest(mom_stand_in_guest: StandInGuest) -> StandInGuest:
    return mom_stand_in_guest


@pytest.mark.processes
def test_what_the_kernel_tells_its_own_user_and_root_only_is_known(guest: StandInGuest, mom_power: MomPower) -> None:
    folder = f"/proc/{guest.pid}"
    merged, is_mapped = MergedPages(folder).read(), MappedMemory.of(folder) is not None
    with mom_power(guest.DECLARATION):
        assert (MergedPages(folder).read(), MappedMemory.of(folder) is not None) == (merged, is_mapped)
    assert is_mapped or os.geteuid() != 0
