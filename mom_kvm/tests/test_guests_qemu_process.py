"""QEMU process of a guest."""

import os
from pathlib import Path

import pytest

from mom_devkit.without_root import MomPower, StandInGuest
from mom_kvm.host_side import MappedMemory, Merged, merged_pages, swapped_kib


def test_what_the_host_has_swapped_and_merged_of_it(tmp_path: Path) -> None:
    (tmp_path / "status").write_text("Name:\tVmSwap:\nVmPeak:\t   10 kB\nVmSwap:\t  123456 kB\nThreads:\t5\n")
    assert swapped_kib(str(tmp_path)) == 123456
    (tmp_path / "ksm_stat").write_text("ksm_rmap_items 9\nksm_zero_pages 0\nksm_merging_pages 500\nksm_process_profit -2048\n")
    assert merged_pages(str(tmp_path)) == Merged(500 * os.sysconf("SC_PAGE_SIZE") // 1024, -2)
    (tmp_path / "ksm_stat").write_text("ksm_rmap_items 9\n")
    assert merged_pages(str(tmp_path)) is None
    (tmp_path / "ksm_merging_pages").write_text("3\n")
    assert merged_pages(str(tmp_path)) == Merged(3 * os.sysconf("SC_PAGE_SIZE") // 1024, None), "an older kernel"


@pytest.mark.parametrize(("shared_kib", "swapped"), [(16 << 10, 2048), (64 << 10, None)])
def test_what_is_in_swap_of_a_guest_with_shared_memory_is_unknown(tmp_path: Path, shared_kib: int, swapped: int | None) -> None:
    (tmp_path / "status").write_text(f"Name:\tqemu\nRssAnon:\t    9000 kB\nRssShmem:\t  {shared_kib} kB\nVmSwap:\t    2048 kB\n")
    assert swapped_kib(str(tmp_path)) == swapped


@pytest.fixture
def guest(mom_stand_in_guest: StandInGuest) -> StandInGuest:
    return mom_stand_in_guest


@pytest.mark.processes
def test_what_the_kernel_tells_its_own_user_and_root_only_is_known(guest: StandInGuest, mom_power: MomPower) -> None:
    folder = f"/proc/{guest.pid}"
    merged, is_mapped = merged_pages(folder), MappedMemory.of(folder) is not None
    with mom_power(guest.DECLARATION):
        assert (merged_pages(folder), MappedMemory.of(folder) is not None) == (merged, is_mapped)
    assert is_mapped or os.geteuid() != 0
