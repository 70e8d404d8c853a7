"""Memory of QEMU processes from their page tables."""

import pytest
from smaps_texts import mapping, ram

from mom_kvm.host_side import MappedMemory

MIB = 1024
CODE_CACHE = mapping(256 * MIB, 90 * MIB, "rd wr ex mr mw me dc ac hg")
HEAP = mapping(30 * MIB, 20 * MIB, swap=4 * MIB)
VIDEO = ram(16 * MIB, 2 * MIB)
OWN = CODE_CACHE + HEAP + VIDEO
OWN_KIB = (90 + 20 + 4 + 2) * MIB


def outside(smaps: str, maximum: int | None) -> int | None:
    memory = MappedMemory.parse(smaps.encode())
    assert memory is not None
    return memory.outside(maximum)


@pytest.mark.parametrize(
    ("guests", "maximum", "known"),
    [
        (ram(256 * MIB, 200 * MIB, swap=30 * MIB), 256 * MIB, True),
        (ram(256 * MIB, 0), 256 * MIB, True),
        (ram(512 * MIB, 9) + ram(128 * MIB, 9) * 2, 768 * MIB, True),
        (ram(256 * MIB, 9) + ram(500 * MIB, 9), 256 * MIB, None),
        (ram(256 * MIB, 9) + ram(4096 * MIB, 900), 356 * MIB, False),
        (ram(256 * MIB, 9) + ram(256 * MIB, 200 * MIB), 256 * MIB, False),
        ("", 256 * MIB, False),
        (ram(256 * MIB, 9), None, False),
        (ram(256 * MIB, 9), 0, False),
    ],
    ids=[
        "one block", "untouched, or hugetlbfs", "NUMA nodes and a DIMM", "memory of a device", "virtio-mem",
        "a device as large as the guest", "no such block", "unknown size", "no size",
    ],
)  # fmt: skip
def test_memory_outside_of_the_guests_is_measured(guests: str, maximum: int | None, known: bool | None) -> None:
    more = 9 if known is None else 0
    assert outside(OWN + guests, maximum) == (OWN_KIB + more if known is not False else None)


def test_memory_in_huge_pages_is_counted_in_all_mappings() -> None:
    memory = MappedMemory.parse((mapping(9, 9, huge=4) + ram(9, 9, huge=2)).encode())
    assert memory is not None
    assert memory.huge == 6
