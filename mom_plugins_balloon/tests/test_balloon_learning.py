"""Learning guests' bursts, their headroom without stalls, and backed memory that they do not use."""

from typing import Any

import pytest
from guest_facts import MIB

from mom_core import Guest, Host, Snapshot, Value
from mom_plugins_balloon.ballooned_guests import BalloonedGuests
from mom_plugins_balloon.learned import PROCESS_KIB
from mom_plugins_balloon.learning import Learning
from mom_plugins_balloon.sizes import SizeRequest

TOTAL = 1000 * MIB
HIDDEN = 24 * MIB


class Watched:
    """Guest with statistics in each cycle, and its learned habits."""

    def __init__(self) -> None:
        self.learning = Learning(900, 320 * 1024)
        self.records = BalloonedGuests()
        self.now = 0.0
        self.host: dict[str, Value] = {}

    def was_asked(self, target: float, began_at: float, *, arrived: bool = True) -> None:
        """Set mom's present request."""
        memory = self.records.of("a")
        assert memory is not None
        self.records.put("a", memory._replace(request=SizeRequest(int(target), began_at, self.now, arrived=arrived)))

    def says(self, used: float, after: float = 2.0, incarnation: str = "1", age: float | None = 0.0, **more: Value) -> dict[str, float]:
        self.now += after
        fields: dict[str, Value] = {
            "balloon_cur": TOTAL + HIDDEN, "stats_age": age, "mem_available": TOTAL, "mem_usable": int(TOTAL - used),
            "mem_unused": int(TOTAL - used), "mem_disk_caches": 0, "host_swap": 0,
        }  # fmt: skip
        guest = Guest("a", "a", fields | more, incarnation=incarnation)
        self.records.see(Snapshot(Host(fields=self.host), {"a": guest}, monotonic=self.now))
        self.learning.see(self.records)
        columns = self.learning.columns(self.records.of_all([guest]))
        return {name: value for name, (value,) in columns.items() if isinstance(value, int | float)}

    def away(self, seconds: float) -> None:
        """Pass time without answers of the hypervisor."""
        self.now += seconds
        self.records.see(Snapshot(monotonic=self.now))
        self.learning.see(self.records)


@pytest.fixture
def guest() -> Watched:
    return Watched()


def test_peak_counts_in_full_and_then_fades(guest: Watched) -> None:
    guest.says(100 * MIB)
    assert guest.says(600 * MIB)["mem_used_peak"] == 600 * MIB
    assert guest.says(100 * MIB, after=890)["mem_used_peak"] == 600 * MIB
    guest.says(100 * MIB, after=20)
    assert guest.says(100 * MIB, after=900)["mem_used_peak"] < 300 * MIB


def test_kernel_reserved_is_learned_at_rest(guest: Watched) -> None:
    assert "kernel_reserved" not in guest.says(100 * MIB)
    assert guest.says(100 * MIB)["kernel_reserved"] == HIDDEN
    assert guest.says(100 * MIB, balloon_cur=500 * MIB)["kernel_reserved"] == HIDDEN, "it moves: nothing is learnt"


@pytest.mark.parametrize("unknown", ["stats_age", "mem_available", "mem_usable"])
def test_incomplete_statistics_teach_nothing(guest: Watched, unknown: str) -> None:
    for _ in range(2):
        guest.says(100 * MIB)
    lacking: dict[str, Any] = {unknown: None}
    learnt = guest.says(700 * MIB, **lacking)
    assert (learnt["mem_used_peak"], learnt["mem_used_before"]) == (100 * MIB, 100 * MIB)
    assert guest.says(700 * MIB)["mem_used_peak"] == 700 * MIB


@pytest.mark.parametrize("unknown", ["mem_unused", "balloon_cur", "rss", "host_swap", "mem_disk_caches"])
def test_missing_figure_stops_no_other_learning(guest: Watched, unknown: str) -> None:
    known: dict[str, Any] = {"rss": int(PROCESS_KIB + 300 * MIB)}
    for _ in range(2):
        guest.says(100 * MIB, **known)
    assert guest.says(700 * MIB, **(known | {unknown: None}))["mem_used_peak"] == 700 * MIB
    assert guest.says(100 * MIB, **known)["kernel_reserved"] == HIDDEN


@pytest.mark.parametrize("unknown", ["guest_oom_kills", "mem_usable"])
def test_kill_with_an_unknown_figure_sets_no_floor(guest: Watched, unknown: str) -> None:
    known: dict[str, Any] = {"balloon_max": 2 * TOTAL, "guest_oom_kills": 0}
    guest.says(100 * MIB, **known)
    assert "mem_stall_floor" not in guest.says(100 * MIB, **(known | {"guest_oom_kills": 1, unknown: None}))
    assert "mem_stall_floor" in guest.says(100 * MIB, **(known | {"guest_oom_kills": 2}))


def test_measured_qemu_overhead_counts_from_the_first_report(guest: Watched) -> None:
    known: dict[str, Any] = {"rss": HIDDEN + 700 * MIB}
    first = guest.says(100 * MIB, **known, host_qemu_overhead=500 * MIB)
    assert (first["qemu_overhead"], first["mem_used_peak"]) == (500 * MIB, HIDDEN + 200 * MIB)
    for _ in range(3):
        later = guest.says(600 * MIB, **known)
    assert later["qemu_overhead"] == 500 * MIB, "statistics do not correct a measurement"
    assert guest.says(600 * MIB, **known, host_qemu_overhead=90 * MIB)["qemu_overhead"] == 90 * MIB


def test_stalling_guest_gets_a_floor(guest: Watched) -> None:
    guest.says(600 * MIB)
    guest.says(600 * MIB, major_fault=90, mem_unused=10 * MIB)
    known = guest.says(600 * MIB, major_fault=90, mem_unused=10 * MIB)
    assert known["mem_stall_floor"] == 500 * MIB
    assert guest.says(600 * MIB)["mem_stall_floor"] == 500 * MIB, "and not forgotten when it has more"
    assert "mem_stall_floor" not in Watched().says(600 * MIB, major_fault=90), "it reads into free memory"


def test_cache_share_is_remembered(guest: Watched) -> None:
    for _ in range(2):
        known = guest.says(400 * MIB, mem_unused=150 * MIB, mem_disk_caches=450 * MIB)
    assert known["mem_cache_share"] == 0.75
    assert guest.says(400 * MIB)["mem_cache_share"] > 0.7, "and not forgotten when it was taken"


@pytest.mark.parametrize("returning", [False, True], ids=["statistics from the sweep", "the same, when the room is on its way back"])
def test_sweep_does_not_raise_the_cache_share(guest: Watched, returning: bool) -> None:
    for _ in range(2):
        guest.says(100 * MIB, mem_disk_caches=40 * MIB, mem_unused=860 * MIB)
    swept = HIDDEN + 100 * MIB + 72 * MIB
    whole = TOTAL + HIDDEN
    guest.was_asked(*((whole, swept) if returning else (swept, whole)), arrived=not returning)
    known = guest.says(100 * MIB, balloon_cur=swept, mem_available=swept - HIDDEN, mem_unused=32 * MIB, mem_disk_caches=40 * MIB)
    assert known["mem_cache_share"] < 0.05


class CountsAll(Watched):
    """Guest whose kernel counts the balloon's memory as used."""

    def has(self, size: int, used: int = 100 * MIB, caches: int = 40 * MIB, after: float = 2.0) -> dict[str, float]:
        usable = size - HIDDEN - used
        rss = HIDDEN + used + caches + 50 * MIB
        return self.says(TOTAL - usable, after, balloon_cur=size, mem_unused=usable - caches, mem_disk_caches=caches, rss=rss)


def test_counted_balloon_is_not_use() -> None:
    guest, whole, swept = CountsAll(), TOTAL + HIDDEN, HIDDEN + 200 * MIB
    for _ in range(2):
        before = guest.has(whole)
    guest.was_asked(swept, whole)
    for _ in range(2):
        known = guest.has(swept)
    assert known["kernel_counts_balloon"] == 1
    assert known["mem_used_before"] == TOTAL - (200 - 100) * MIB, "so much is used, as it counts"
    assert known["mem_used_peak"] - known["mem_used_before"] == before["mem_used_peak"] - before["mem_used_before"], "no burst was seen"
    assert known["mem_cache_share"] == before["mem_cache_share"]
    guest.was_asked(whole, swept)
    for _ in range(2):
        known = guest.has(whole)
    assert known["mem_used_peak"] == before["mem_used_peak"]
    assert known["mem_cache_share"] == before["mem_cache_share"]
    assert guest.has(whole, used=600 * MIB)["mem_used_peak"] == 600 * MIB


def test_habits_outlive_an_absent_hypervisor(guest: Watched) -> None:
    guest.says(600 * MIB, rss=700 * MIB)
    for _ in range(2):
        before = guest.says(600 * MIB, rss=700 * MIB, mem_unused=10 * MIB, mem_disk_caches=390 * MIB, major_fault=90)
    assert before["kernel_reserved"] == HIDDEN
    guest.away(10)
    guest.says(200 * MIB, rss=900 * MIB)
    after = guest.says(200 * MIB, rss=900 * MIB)
    for name in ("mem_used_peak", "kernel_reserved", "mem_stall_floor"):
        assert after[name] == before[name]
    assert after["mem_cache_share"] > 0.9
    assert guest.learning.growth_kib == 0, "nobody knows how fast it grew meanwhile"


def test_room_counts_while_the_hypervisor_is_away(guest: Watched) -> None:
    guest.says(100 * MIB, rss=int(PROCESS_KIB + 300 * MIB))
    guest.away(5)
    assert guest.learning.room_kib == TOTAL + HIDDEN - 300 * MIB
    guest.away(1000)
    assert guest.learning.room_kib == 0, "there are no guests any more"


def test_pinned_guest_has_no_room(guest: Watched) -> None:
    told = {"balloon_cur": TOTAL, "stats_age": 1.0, "mem_available": TOTAL, "mem_usable": TOTAL // 2, "rss": 80 * MIB}
    huge = Guest("a", "a", told, {"pinned": "the guest's memory is in huge pages"})
    guest.records.see(Snapshot(guests={"a": huge}))
    guest.learning.see(guest.records)
    assert guest.learning.room_kib == 0


def test_only_a_repeated_rise_is_a_burst(guest: Watched) -> None:
    for used in (100, 100, 400, 700, 700, 100, 100, 100, 100):
        known = guest.says(used * MIB, after=2)
        assert "mem_burst" not in known, "it came once"
    known = guest.says(650 * MIB, after=2)
    assert known["mem_burst"] == 550 * MIB
    assert guest.says(700 * MIB, after=2)["mem_burst"] == 600 * MIB
    for _ in range(100):
        known = guest.says(100 * MIB, after=10)
    assert "mem_burst" not in known, "it has not come for long"


def test_growth_rate_has_a_minimum_for_new_guests(guest: Watched) -> None:
    assert guest.says(100 * MIB, after=2)["mem_growth_rate"] == 320 * MIB
    assert guest.says(1500 * MIB, after=2)["mem_growth_rate"] == 1400 * MIB, "twice the mean of two seconds"
    for _ in range(500):
        known = guest.says(100 * MIB, after=10)
    assert known["mem_growth_rate"] < 20 * MIB


def test_time_of_freed_memory_is_remembered_for_a_minute(guest: Watched) -> None:
    assert guest.says(600 * MIB, rss=900 * MIB)["mem_freed_age"] == 0, "a new guest may just have done so"
    assert guest.says(600 * MIB, rss=905 * MIB)["mem_freed_age"] == 2
    assert guest.says(500 * MIB, rss=905 * MIB)["mem_freed_age"] == 0
    assert guest.says(500 * MIB, rss=800 * MIB)["mem_freed_age"] == 0
    assert guest.says(500 * MIB, rss=790 * MIB)["mem_freed_age"] == 2, "so little comes and goes"
    assert guest.says(600 * MIB, rss=790 * MIB, after=50)["mem_freed_age"] == 52
    assert "mem_freed_age" not in guest.says(600 * MIB, rss=790 * MIB, after=10)


def test_returned_memory_is_hollow_until_touched(guest: Watched) -> None:
    assert guest.says(600 * MIB, rss=900 * MIB)["mem_hollow"] == 0
    assert guest.says(100 * MIB, rss=500 * MIB)["mem_hollow"] == 400 * MIB
    assert guest.says(100 * MIB, rss=400 * MIB, host_swap=100 * MIB)["mem_hollow"] == 400 * MIB
    assert guest.says(500 * MIB, rss=800 * MIB, host_swap=0)["mem_hollow"] == 100 * MIB
    assert guest.says(700 * MIB, rss=1000 * MIB)["mem_hollow"] == 0


class TestKilledPrograms:
    LACKED = 600 * MIB

    def told(self, guest, kills, taken=LACKED, used=200 * MIB) -> dict[str, float]:
        usable = int(TOTAL - taken - used)
        kernel = {"mem_available": int(TOTAL - taken), "mem_usable": usable, "mem_unused": usable}
        size = int(TOTAL + HIDDEN - taken)
        return guest.says(used, balloon_cur=size, balloon_max=TOTAL + HIDDEN, guest_oom_kills=kills, after=2.0, age=0.0, **kernel)

    def test_kill_floor_adds_half_of_the_lacking_memory(self, guest: Watched) -> None:
        self.told(guest, 3)
        assert "mem_stall_floor" not in self.told(guest, 3), "what stood there at first is no news"
        assert self.told(guest, 4)["mem_stall_floor"] == 200 * MIB + self.LACKED / 2
        assert self.told(guest, None)["mem_stall_floor"] == 200 * MIB + self.LACKED / 2
        learnt = self.told(guest, 5, used=100 * MIB)
        assert learnt["mem_stall_floor"] == learnt["mem_kill_floor"] == 300 * MIB + self.LACKED / 2
        guest.now += 2000
        assert 0 < self.told(guest, 5)["mem_kill_floor"] < learnt["mem_kill_floor"], "it fades"

    def test_size_before_the_kill_counts(self, guest: Watched) -> None:
        self.told(guest, 0)
        assert self.told(guest, 1, taken=0)["mem_stall_floor"] == 800 * MIB + self.LACKED / 2

    def test_kill_at_the_maximum_sets_no_floor(self, guest: Watched) -> None:
        self.told(guest, 0, taken=0)
        assert "mem_stall_floor" not in self.told(guest, 1, taken=0)


def test_headroom_after_running_out_is_kept_for_a_minute(guest: Watched) -> None:
    size = TOTAL + HIDDEN
    guest.says(900 * MIB)
    learnt = guest.says(990 * MIB, balloon_reason="runs-out", balloon_suggested=size + 50 * MIB)
    assert learnt["mem_kept_headroom"] == 60 * MIB
    assert guest.says(990 * MIB, after=59)["mem_kept_headroom"] == 60 * MIB
    assert "mem_kept_headroom" not in guest.says(990 * MIB, after=1)


def test_single_stall_sets_no_floor(guest: Watched) -> None:
    guest.says(600 * MIB)
    for faults in (90, 0, 90, 0):
        assert "mem_stall_floor" not in guest.says(600 * MIB, major_fault=faults, mem_unused=10 * MIB)
