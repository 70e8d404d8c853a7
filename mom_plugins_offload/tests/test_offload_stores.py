"""What swap a host has, how much it still takes, and what may be written to disks."""

from __future__ import annotations

from pathlib import Path

import pytest
from offload_hosts import SWAPS, ZRAM, ZRAM_SWAPS

from mom_devkit import host_of
from mom_plugins_offload import OffloadPlugin
from mom_plugins_offload.stores import StoreRoom, net_share, ratio_of, room_of, stores_of
from mom_plugins_offload.writes import WriteBudget
from mom_toolkit import StoreKind, SwapStore

GIB = 1 << 20
ZRAM_STORE = SwapStore("zram0", StoreKind.ZRAM, 8 * GIB, 4 * GIB, 4 * GIB, GIB)
DISK = SwapStore("/dev/nvme0n1p2", StoreKind.DISK, 8 * GIB, 8 * GIB)


def test_a_zram_device_says_what_it_holds_and_what_that_takes(tmp_path: Path) -> None:
    (store,) = stores_of(host_of(tmp_path, ZRAM))
    assert store == SwapStore("/dev/zram0", StoreKind.ZRAM, 6291452, 6291452 - 1048576, 1 << 20, 320 << 10)


def test_a_zram_device_with_a_limit_takes_no_more_than_what_compresses_into_it(tmp_path: Path) -> None:
    limited = {**ZRAM, "sys/block/zram0/mm_stat": f"{1 << 30} {300 << 20} {320 << 20} {512 << 20} {320 << 20} 0 0 0 0\n"}
    (store,) = stores_of(host_of(tmp_path, limited))
    assert store.free_kib == pytest.approx((512 - 320) * 1024 * 1024 / 320, rel=0.01)


def test_areas_come_in_the_order_in_which_the_kernel_fills_them_and_names_may_hold_spaces(tmp_path: Path) -> None:
    swaps = f"{SWAPS}/my\\040swap file 1048576 0 -2\n/dev/zram0 partition 1048576 0 100\nbroken line\n/dev/sda2 partition x y z\n"
    stores = stores_of(host_of(tmp_path, {"proc/swaps": swaps}))
    assert [(store.name, store.kind) for store in stores] == [("/dev/zram0", StoreKind.ZRAM), ("/my swap", StoreKind.DISK)]


def test_a_disk_with_moving_parts_is_told_by_its_queue_also_for_a_partition(tmp_path: Path) -> None:
    files = {"proc/swaps": f"{SWAPS}/dev/sda2 partition 1048576 0 -2\n", "sys/devices/sda/queue/rotational": "1\n"}
    root = host_of(tmp_path, {**files, "sys/devices/sda/sda2/partition": "2\n"})
    (root / "sys/class/block").mkdir(parents=True)
    (root / "sys/class/block/sda2").symlink_to("../../devices/sda/sda2")
    assert [store.kind for store in stores_of(root)] == [StoreKind.ROTATING]


def test_zswap_stands_before_the_disk_behind_it(tmp_path: Path) -> None:
    files = {
        "proc/swaps": f"{SWAPS}/dev/vda2 partition 1048576 0 -2\n",
        "proc/meminfo": "MemTotal: 16777216 kB\nZswap: 100000 kB\nZswapped: 300000 kB\n",
        "sys/module/zswap/parameters/enabled": "Y\n",
    }
    (store,) = stores_of(host_of(tmp_path, files))
    assert (store.kind, store.held_kib, store.takes_kib) == (StoreKind.ZSWAP, 300000, 100000)


def test_a_host_without_swap_or_without_proc_has_no_store(tmp_path: Path) -> None:
    assert stores_of(tmp_path) == []
    assert stores_of(host_of(tmp_path, {"proc/swaps": SWAPS})) == []
    assert "no swap" in room_of([], 0).why


def test_a_twentieth_of_each_store_is_kept_for_the_kernel() -> None:
    assert room_of([ZRAM_STORE], 0).kib == 4 * GIB - int(0.4 * GIB)
    full = room_of([SwapStore("zram0", StoreKind.ZRAM, 8 * GIB, GIB // 4)], 0)
    assert full.kib == 0
    assert "swap is full" in full.why


def test_nothing_goes_where_it_hardly_compresses_nor_to_what_comes_after_it() -> None:
    poor = SwapStore("zram0", StoreKind.ZRAM, 8 * GIB, 4 * GIB, 4 * GIB, int(3.6 * GIB))
    room = room_of([poor, DISK], GIB)
    assert room.kib == 0
    assert "compresses to 1/1.1" in room.why


def test_nothing_goes_to_a_disk_with_moving_parts() -> None:
    room = room_of([SwapStore("/dev/sda2", StoreKind.ROTATING, 8 * GIB, 8 * GIB)], GIB)
    assert room.kib == 0
    assert "moving parts" in room.why


def test_no_more_goes_to_a_disk_than_may_be_written() -> None:
    assert room_of([DISK], 1000.0) == type(room_of([DISK], 0))(1000, "", disk=True)
    assert room_of([DISK], 0).kib == 0
    assert "has been written" in room_of([DISK], 0).why


def test_what_is_compressed_gives_the_host_less_than_what_is_on_a_disk() -> None:
    assert ratio_of([ZRAM_STORE]) == 4.0
    assert net_share([ZRAM_STORE]) == 0.75
    assert net_share([DISK]) == 1.0
    assert 0.5 < net_share([SwapStore("zram0", StoreKind.ZRAM, GIB, GIB, 0, 0)]) < 0.7


def test_a_day_has_its_budget_and_a_mom_that_is_started_anew_gets_no_new_day() -> None:
    budget = WriteBudget(24_000, now=0.0)
    assert budget.left(0.0) == 1000
    budget.spend(1000, 10.0)
    assert budget.left(20.0) == 0
    assert budget.left(3700.0) == 1000
    assert budget.left(23.5 * 3600) == 23_000
    assert budget.left(25 * 3600 + 1) == 24_000  # what was written is a day old


def test_it_is_suggested_to_hosts_with_compressed_swap_only(tmp_path: Path) -> None:
    assert OffloadPlugin.mom_suggest(host_of(tmp_path / "zram", ZRAM)) is not None
    assert OffloadPlugin.mom_suggest(host_of(tmp_path / "disk", {"proc/swaps": f"{SWAPS}/dev/sda2 partition 1048576 0 -2\n"})) is None
    assert OffloadPlugin.mom_suggest(tmp_path / "nothing") is None


def test_a_file_of_the_kernel_that_says_nonsense_is_no_store(tmp_path: Path) -> None:
    odd = {"proc/swaps": ZRAM_SWAPS, "sys/block/zram0/mm_stat": "x y z\n"}
    (store,) = stores_of(host_of(tmp_path, odd))
    assert store.held_kib is None
    assert ratio_of([store]) is None


def test_what_is_left_of_a_days_writes_is_said_though_the_disk_has_room() -> None:
    disk = SwapStore("/dev/sda2", StoreKind.DISK, 8 * GIB, 7 * GIB)
    assert room_of([disk], 100).why == "what may be written to disks in a day has been written"
    assert room_of([disk], GIB) == StoreRoom(GIB, "", disk=True)
