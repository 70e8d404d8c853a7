"""The watch for memory pressure: what wakes mom, with plain numbers, files, and the real host."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from mom_core import PluginContext
from mom_core.testing import snapshot
from mom_devkit import wait_until
from mom_kvm import AvailableGauge
from mom_plugins_host.host import HostPlugin
from mom_plugins_host.host.watch import HostSettings, HostWatch, Patience, StallGauge

GIB = 1 << 20
LOW = 4 * GIB


class TestAvailableMemory:
    def test_a_fall_since_the_last_cycle_is_told_again_after_each(self) -> None:
        gauge = AvailableGauge()
        gauge.saw(3 * GIB, LOW)
        told, available = [], 3 * GIB
        while available > GIB:
            available -= 10 * 1024
            if why := gauge.why(available, LOW):
                told.append(why)
                gauge.saw(available, LOW)
        assert told[0] == "2.84 GiB available, 160 MiB less than in the last cycle"
        assert 15 < len(told) < 25

    def test_nothing_is_told_before_the_first_cycle_and_while_there_is_plenty(self) -> None:
        gauge = AvailableGauge()
        assert gauge.why(1, LOW) == ""
        gauge.saw(20 * GIB, LOW)
        assert gauge.why(10 * GIB, LOW) == ""


class TestStalls:
    def test_waiting_is_counted_over_the_last_window(self) -> None:
        gauge = StallGauge()
        looks = ((0.0, 0), (0.2, 20_000), (0.4, 30_000), (1.5, 30_000), (2.5, 30_000))
        seen = [gauge.stalled(1_000_000 + total, now) for now, total in looks]
        assert seen == pytest.approx([0.0, 0.02, 0.03, 0.0, 0.0])


def test_trouble_that_goes_on_is_told_at_growing_gaps_and_new_trouble_at_once() -> None:
    patience = Patience()
    told = [now / 5 for now in range(5 * 120) if patience.allows(now / 5)]
    assert told == pytest.approx([0, 1, 3, 7, 15, 31, 61, 91], abs=0.21)
    assert patience.allows(300)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "proc/pressure").mkdir(parents=True)
    put(tmp_path, available=6 * GIB)
    stall(tmp_path, 0)
    return tmp_path


def put(root: Path, available: int, total: int = 20 * GIB) -> None:
    (root / "proc/meminfo").write_text(f"MemTotal: {total:>15} kB\nMemFree: {GIB:>15} kB\nMemAvailable: {available:>15} kB\n")


def stall(root: Path, total: int) -> None:
    (root / "proc/pressure/memory").write_text(f"some avg10=0.00 avg60=0.00 avg300=0.00 total={total}\nfull avg10=0.00 total=0\n")


class Woken(list[str]):
    """Reasons for which the engine was woken."""

    def __init__(self) -> None:
        super().__init__()
        self.event = threading.Event()

    def __call__(self, why: str) -> None:
        self.append(why)
        self.event.set()


@pytest.fixture
def woken() -> Woken:
    return Woken()


MakePlugin = Callable[..., HostPlugin]


@pytest.fixture
def make(woken: Woken, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakePlugin]:
    monkeypatch.setattr("mom_plugins_host.host.watch._JOIN_SECONDS", 60.0)  # so that a late thread does not disturb the next test
    made: list[HostPlugin] = []

    def make(root: Path, every: float = 0.01, **settings: object) -> HostPlugin:
        plugin = HostPlugin(HostPlugin.Settings.model_validate({"watch": "10ms", **settings}), PluginContext(root=root, wake=woken))
        if plugin._watch.settings.watch:
            plugin._watch.settings = plugin._watch.settings.model_copy(update={"watch": every})
        plugin.mom_setup()
        made.append(plugin)
        return plugin

    yield make
    for plugin in made:
        plugin.mom_teardown()


def cycle(plugin: HostPlugin, **others: int) -> None:
    """Run a cycle. `others` are fields from another plugin with precedence."""
    list(plugin.mom_problems(snapshot(host={**plugin.mom_collect_host(), **others})))


class TestTheThread:
    @pytest.mark.parametrize(("settings", "available", "level"), [({}, 3, 4), ({"watch_available": "5GiB"}, 4.9, 5)])
    def test_memory_that_falls_below_a_fifth_of_the_host_or_what_was_set_wakes_mom(
        self, root: Path, make: MakePlugin, woken: Woken, settings: dict[str, object], available: float, level: int
    ) -> None:
        cycle(make(root, **settings))
        put(root, available=int(available * GIB))
        assert woken.event.wait(60)
        assert woken == [f"host memory pressure: {available:.2f} GiB available, less than {level:.2f} GiB"]

    def test_tasks_that_wait_for_memory_wake_mom(self, root: Path, make: MakePlugin, woken: Woken) -> None:
        plugin = make(root)
        plugin._watch.monotonic = lambda: 0.0  # all samples fall into the last second
        cycle(plugin)
        wait_until(lambda: plugin._watch._stalls._samples)
        stall(root, 60_000)
        assert woken.event.wait(60)
        assert woken == ["host memory pressure: tasks waited for memory for 60 ms in the last second"]

    def test_a_host_that_gets_or_loses_memory_in_the_midst_of_a_cycle_stays_this_one(
        self, root: Path, make: MakePlugin, woken: Woken
    ) -> None:
        """In a VM whose own balloon inflates, this happens in each cycle, and such a host needs the watch most."""
        plugin = make(root)
        collected = plugin.mom_collect_host()
        put(root, available=6 * GIB, total=19 * GIB)
        list(plugin.mom_problems(snapshot(host=collected)))
        put(root, available=3 * GIB, total=16 * GIB)
        assert woken.event.wait(60)

    @pytest.mark.parametrize("text", [None, "", "MemTotal: 1 kB\nMemAvailable: x kB\n"])
    def test_files_that_vanish_or_break_do_no_harm(self, root: Path, make: MakePlugin, woken: Woken, text: str | None) -> None:
        for path in (root / "proc/meminfo", root / "proc/pressure/memory"):
            path.unlink() if text is None else path.write_text(text)
        plugin = make(root)
        cycle(plugin)
        assert not woken.event.wait(0.05)
        put(root, available=6 * GIB)
        stall(root, 0)
        cycle(plugin)
        put(root, available=2 * GIB)
        assert woken.event.wait(60)

    def test_it_can_be_switched_off(self, root: Path, make: MakePlugin, woken: Woken) -> None:
        plugin = make(root, watch="0s")
        cycle(plugin)
        put(root, available=GIB)
        assert not woken.event.wait(0.05)
        assert "mom watches memory pressure only in cycles" in [finding.message for finding in plugin.mom_doctor(None)]

    def test_the_end_leaves_no_thread_and_no_open_file(self, root: Path, make: MakePlugin) -> None:
        before = set(Path("/proc/self/fd").iterdir())
        plugin = make(root, every=3600.0)
        cycle(plugin)
        assert any(thread.name == "host-watch" for thread in threading.enumerate())
        plugin.mom_teardown()
        assert not any(thread.name == "host-watch" for thread in threading.enumerate()), "it does not sleep its time out"
        assert set(Path("/proc/self/fd").iterdir()) <= before
        plugin.mom_teardown()


@pytest.mark.parametrize(("plenty", "rest"), [(-1.0, 0.2), (2.0, 0.5), (100.0, 1.0)])
def test_a_host_is_looked_at_before_all_cpus_could_take_what_it_has_to_spare(
    root: Path, woken: Woken, monkeypatch: pytest.MonkeyPatch, plenty: float, rest: float
) -> None:
    monkeypatch.setattr("mom_plugins_host.host.watch.os.cpu_count", lambda: 2)  # 2 GiB per second each
    put(root, available=int((8 + plenty) * GIB))  # falls count below 8 GiB
    assert HostWatch(HostSettings(), PluginContext(root=root, wake=woken)).look() == rest


def test_watching_all_the_time_is_refused() -> None:
    assert HostPlugin.Settings.model_validate({"watch": "0s"}).watch == 0
    with pytest.raises(ValidationError, match="must be at least"):
        HostPlugin.Settings.model_validate({"watch": "1ms"})
