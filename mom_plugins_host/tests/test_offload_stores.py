"""Swap of a host: free space, and the budget of writes to disks."""

from dataclasses import replace
from pathlib import Path

import pytest
from offload_hosts import SWAPS, ZRAM_SWAPS

from mom_devkit import host_of
from mom_kvm import SwapStore
from mom_plugins_host.offload.stores import StoreRoom, WriteBudget, ratio_of, room_of, stores_of

GIB = 1 << 20
ZRAM_STORE = SwapStore("zram0", SwapStore.Kind.ZRAM, 8 * GIB, 4 * GIB, 4 * GIB, GIB)
DISK = SwapStore("/dev/nvme0n1p2", SwapStore.Kind.DISK, 8 * GIB, 8 * GIB)


def test_areas_come_in_the_order_in_which_the_kernel_fills_them_and_names_may_hold_spaces(tmp_path: Path) -> None:
    swaps = f"{SWAPS}/my\\040swap file 1048576 0 -2\n/dev/zram0 partition 1048576 0 100\nbroken line\n/dev/sda2 partition x y z\n"
    stores = stores_of(host_of(tmp_path, {"proc/swaps": swaps}))
    assert [(store.name, store.kind) for store in stores] == [("/dev/zram0", SwapStore.Kind.ZRAM), ("/my swap", SwapStore.Kind.DISK)]


def test_a_disk_with_moving_parts_is_told_by_its_queue_also_for_a_partition(tmp_path: Path) -> None:
    files = {"proc/swaps": f"{SWAPS}/dev/sda2 partition 1048576 0 -2\n", "sys/devices/sda/queue/rotational": "1\n"}
    root = host_of(tmp_path, {**files, "sys/devices/sda/sda2/partition": "2\n"})
    (root / "sys/class/block").mkdir(parents=True)
    (root / "sys/class/block/sda2").symlink_to("../../devices/sda/sda2")
    assert [store.kind for store in stores_of(root)] == [SwapStore.Kind.ROTATING]


def behind_zswap(root: Path, takes_kib: int, **parameters: int) -> list[SwapStore]:
    """Return two disks of 8 GiB behind the zswap of a host of 16 GiB. Its pool compresses to a third."""
    files = {
        "proc/swaps": f"{SWAPS}/dev/vda2 partition {8 * GIB} {GIB} -2\n/dev/vdb2 partition {8 * GIB} 0 -3\n",
        "proc/meminfo": f"MemTotal: {16 * GIB} kB\nZswap: {takes_kib} kB\nZswapped: {3 * takes_kib} kB\n",
        "sys/module/zswap/parameters/enabled": "Y\n",
    }
    return stores_of(host_of(root, files | {f"sys/module/zswap/parameters/{name}": f"{value}\n" for name, value in parameters.items()}))


def test_no_more_goes_to_zswap_than_its_pool_takes_whatever_the_disk_behind_it(tmp_path: Path) -> None:
    roomy = behind_zswap(tmp_path / "roomy", GIB, max_pool_percent=20, accept_threshold_percent=90)
    pool = 3 * (0.2 * 0.9 * 16 * GIB - GIB)
    assert sum(store.free_kib for store in roomy) == pytest.approx(pool, abs=2)
    assert room_of(roomy, 0).kib == pytest.approx(0.95 * pool - 0.05 * GIB, abs=4)
    assert behind_zswap(tmp_path / "unsaid", GIB) == roomy, "what the kernel has by itself"
    full = behind_zswap(tmp_path / "full", 3 * GIB, max_pool_percent=20, accept_threshold_percent=90)
    assert [(store.kind, store.size_kib, store.free_kib) for store in full] == [
        (SwapStore.Kind.ZSWAP, GIB, 0),
        (SwapStore.Kind.ZSWAP, 0, 0),
    ]
    assert room_of(full, 1 << 40) == StoreRoom(
        0, "swap, or the zswap pool in front of it, is full, except for 5 % that mom keeps for the kernel"
    )


def test_where_the_kernel_does_not_say_how_full_zswap_is_the_rules_of_the_disk_behind_it_hold(tmp_path: Path) -> None:
    files = {"proc/swaps": f"{SWAPS}/dev/vda2 partition 1048576 0 -2\n", "sys/module/zswap/parameters/enabled": "Y\n"}
    (store,) = stores_of(host_of(tmp_path, {**files, "proc/meminfo": "MemTotal: 16777216 kB\n"}))
    assert store.kind is SwapStore.Kind.DISK


MOVING = f"{DISK.name} is a rotating disk: reading a page back takes 10 ms"
WRITTEN = "the limit of writes to disks is reached (disk_writes)"


@pytest.mark.parametrize(
    ("stores", "writable", "room"),
    [
        ([], 0, StoreRoom(0, "the host has no swap")),
        ([ZRAM_STORE], 0, StoreRoom(4 * GIB - int(0.4 * GIB), "")),
        ([replace(ZRAM_STORE, free_kib=GIB // 4)], 0, StoreRoom(0, "swap is full, except for 5 % that mom keeps for the kernel")),
        ([replace(ZRAM_STORE, takes_kib=int(3.6 * GIB)), DISK], GIB, StoreRoom(0, "the content of zram0 compresses only to 1/1.1")),
        ([replace(DISK, kind=SwapStore.Kind.ROTATING)], GIB, StoreRoom(0, MOVING)),
        ([DISK], 1000.0, StoreRoom(1000, "", disk=True)),
        ([DISK, DISK], 1000.0, StoreRoom(1000, WRITTEN, disk=True)),
        ([DISK], 100, StoreRoom(0, WRITTEN)),
        ([DISK], 0, StoreRoom(0, WRITTEN)),
    ],
)
def test_a_twentieth_is_kept_and_a_barred_store_bars_those_after_it(stores: list[SwapStore], writable: float, room: StoreRoom) -> None:
    assert room_of(stores, writable) == room


def test_a_day_has_its_budget_and_a_mom_that_is_started_anew_gets_no_new_day() -> None:
    budget = WriteBudget(24_000, now=0.0)
    assert budget.left(0.0) == 1000
    budget.spend(budget.left(10.0), 10.0)
    assert budget.left(10.0) == 0
    assert budget.left(3610.0) == 1000
    assert budget.left(30 * 3600) == 24_000


def test_a_file_of_the_kernel_that_says_nonsense_is_no_store(tmp_path: Path) -> None:
    odd = {"proc/swaps": ZRAM_SWAPS, "sys/block/zram0/mm_stat": "x y z\n"}
    (store,) = stores_of(host_of(tmp_path, odd))
    assert store.held_kib is None
    assert ratio_of([store]) is None
