"""Memory that the kernel cannot reclaim from a guest's process."""

from pathlib import Path

from mom_plugins_qemu.qemu_process import HeldMemory, held_memory


def test_locked_memory_and_huge_pages_of_the_pool_are_held(tmp_path: Path) -> None:
    (tmp_path / "status").write_text("Name:\tqemu\nVmLck:\t    64 kB\nVmRSS:\t  9000 kB\nHugetlbPages:\t  2048 kB\n")
    assert held_memory(str(tmp_path)) == HeldMemory(2048, 64)
    assert held_memory(str(tmp_path / "gone")) == HeldMemory()
