"""Guests before a move: mom sweeps freed memory, returns the memory that it took, and then keeps their sizes."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from guest_facts import GIB, MIB

from mom_core import (
    Change,
    Decision,
    EngineState,
    Entity,
    Guest,
    Host,
    HypervisorError,
    LedgerEntry,
    MomError,
    PluginContext,
    Scope,
    Snapshot,
    Source,
    Target,
    Value,
)
from mom_kvm import GuestMoves, MovePreparation
from mom_plugins_balloon import BalloonPlugin
from mom_plugins_balloon.moves import KEPT, NOTHING

NEED, BESIDE, HIDDEN = 512 * MIB, 60 * MIB, 50 * MIB
POLICY = Source("50_policy")
ROOMY: Mapping[str, Value] = {"mem_available": 64 * GIB, "mem_really_available": 40 * GIB}
SHORT: Mapping[str, Value] = {"mem_available": 64 * GIB, "mem_really_available": 300 * MIB}


STAT = "4711 (qemu) S 1 1 1 0 -1 0 50 0 0 0 20 10 0 0 20 0 4 0 1000 0 400000 18446744073709551615 " + "0 " * 13 + "3 0 0 0 0 0"


class Resizer:
    """Hypervisor that resizes guests at once, and records commands."""

    uri = "fake:///"

    def __init__(self) -> None:
        self.size = 2 * GIB
        self.idle = GIB
        self.commands: list[tuple[str, int]] = []
        self.error: HypervisorError | None = None

    def guests(self) -> Sequence[Guest]:
        return [Guest("a", "one")]

    def set_balloon(self, guest: Entity, target_kib: int) -> None:
        if self.error is not None:
            raise self.error
        self.commands.append(("set", target_kib))
        self.size = target_kib

    def balloon_sizes(self, guests: Sequence[Entity]) -> Mapping[str, int]:
        return {guest.id: self.size for guest in guests}


class Sweeper(Resizer):
    """Hypervisor that can also sweep guests."""

    def sweep_balloon(self, guest: Entity, bottom_kib: int) -> int:
        if self.error is not None:
            raise self.error
        self.commands.append(("sweep", bottom_kib))
        gave = min(self.idle, self.size - bottom_kib)
        self.idle -= gave
        return gave


class Moves:
    """Moves of the guest."""

    def __init__(self) -> None:
        self.moving = False

    def is_moving(self, guest: Guest) -> bool:
        return self.moving


class Bench:
    """Plugin on a host with one guest of 2 GiB. The guest has used and freed 1 GiB."""

    def __init__(self, folder: Path) -> None:
        self.mode = "enforce"
        self.changes: Sequence[LedgerEntry] = ()
        self.hypervisor: Resizer = Sweeper()
        self.moves = Moves()
        context = PluginContext(
            name="balloon", root=folder / "root", state_directory=folder / "state", offers={GuestMoves: (self.moves,)},
            engine_state=lambda: EngineState(changes=self.changes), configuration=lambda: {"mode": self.mode},
        )  # fmt: skip
        self.plugin = BalloonPlugin(BalloonPlugin.Settings(), context)
        self.taken_before(2 * GIB, 2 * GIB)  # the original size is known
        self.plugin.mom_setup()
        self.changes = ()
        self.context = context
        self.host, self.fields = ROOMY, dict[str, Value]()
        self.dropped: list[str] = []
        self.decided: list[Decision] = []

    @property
    def leaving(self) -> MovePreparation:
        found: MovePreparation = self.plugin.mom_services()[MovePreparation]
        return found

    def taken_before(self, size: int, before: int) -> None:
        """Shrink the guest to `size`; its original size is `before`."""
        self.hypervisor.size = size
        entity = Entity(Scope.GUEST, "a", "one")
        self.changes = [LedgerEntry(entity, "balloon_target", before, size, "balloon", 1.0)]

    def snapshot(self) -> Snapshot:
        size, idle = self.hypervisor.size, self.hypervisor.idle
        known: dict[str, Value] = {
            "balloon_cur": size, "balloon_max": 4 * GIB, "mem_usable": size - NEED, "mem_unused": size - NEED, "stats_age": 0.2,
            "mem_available": size - HIDDEN, "kernel_reserved": HIDDEN, "mem_used_peak": NEED - HIDDEN, "mem_used_before": NEED - HIDDEN,
            "mem_cache_share": 0.6, "rss": BESIDE + NEED + idle, "rss_before": BESIDE + NEED + idle, "qemu_overhead": BESIDE,
            "mem_growth_rate": 10 * MIB,
        }  # fmt: skip
        guest = Guest("a", "one", known | self.fields, {"pid": 4711})
        return Snapshot(host=Host(fields=self.host), guests={"a": guest}, monotonic=self.context.monotonic())

    def cycle(self, *wanted: int) -> None:
        """:param wanted: sizes that a policy decides"""
        seen = self.snapshot()
        guest = seen.guests["a"]
        self.plugin.mom_collect_guests([guest])
        acts = list(self.plugin.mom_act(seen))
        decisions = acts or [Decision(guest.entity, "balloon_target", size, "", POLICY) for size in wanted]
        self.decided += acts
        revisions = list(self.plugin.mom_review(seen, decisions))
        self.dropped += [revision.reason for revision in revisions]
        left = [decision for decision in decisions if all(decision is not revision.before for revision in revisions)]
        for decision in left:
            target = Target(decision.entity, decision.control)
            change = Change(target, decision.value, self.hypervisor.size, source=decision.source)
            self.dropped += [str(error) for error in self.plugin.mom_write(self.hypervisor, [change]).values()]

    def prepared(self, seconds: float = 10.0, cycle: Callable[[], None] | None = None) -> str:
        """Prepare the guest while cycles go on. Return the answer."""
        with ThreadPoolExecutor(1) as pool:
            future: Future[str] = pool.submit(self.leaving.prepare, Entity(Scope.GUEST, "a", "one"), seconds)
            until = time.monotonic() + 60
            while not future.done():
                assert time.monotonic() < until
                (cycle or self.cycle)()
                time.sleep(0.01)
            return future.result()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_leaving_guest_is_swept_and_keeps_its_size(bench: Bench) -> None:
    bench.cycle()
    assert bench.hypervisor.commands == [], "the host has enough memory"
    answer = bench.prepared()
    ((command, bottom),) = bench.hypervisor.commands
    assert command == "sweep"
    assert bench.hypervisor.size == 2 * GIB
    assert bench.hypervisor.idle < 60 * MIB
    assert bottom >= NEED + 32 * MIB, "it keeps its need, and the memory that a sweep leaves"
    assert answer.startswith("reclaimed ")
    assert answer.endswith("arrived")
    (decision,) = bench.decided
    assert "it will be moved" in decision.reason
    bench.cycle()
    assert len(bench.hypervisor.commands) == 1, "once"


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"stats_age": 30.0}, "too old"),
        ({"mem_usable": None}, "its kernel's statistics are unknown"),
        ({"mem_used_before": 100 * MIB}, NOTHING),
        ({"balloon_min": 2 * GIB}, NOTHING),
    ],
    ids=["old", "silent", "growing", "promised"],
)
def test_guest_that_must_not_be_swept_gets_a_reason(bench: Bench, fields: Mapping[str, Value], why: str) -> None:
    bench.fields = dict(fields)
    assert why in bench.prepared()
    assert bench.hypervisor.commands == []


def test_sweep_fits_the_time(bench: Bench) -> None:
    assert NOTHING in bench.prepared(seconds=0.05)
    assert bench.hypervisor.commands == []
    assert "arrived" in bench.prepared(seconds=10.0)


def test_unknown_host_stops_the_sweep(bench: Bench) -> None:
    bench.taken_before(2 * GIB, 3 * GIB)
    bench.host = {}
    answer = bench.prepared()
    assert "the host's available memory or its watermarks are unknown" in answer
    assert answer.endswith("the host may lack memory for its original size of 3.00 GiB")
    assert bench.hypervisor.commands == []


def test_second_preparation_is_refused(bench: Bench) -> None:
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(bench.leaving.prepare, Entity(Scope.GUEST, "a", "one"), 10.0)
        while not bench.plugin._leaving._requests:
            time.sleep(0.001)
        with pytest.raises(MomError, match="is being prepared already"):
            bench.leaving.prepare(Entity(Scope.GUEST, "a", "one"), 0.0)
        while not first.done():
            bench.cycle()
            time.sleep(0.01)
        assert first.result().endswith("arrived")


def test_observing_mom_prepares_nothing(bench: Bench) -> None:
    bench.mode = "observe"
    with pytest.raises(MomError, match="only observes"):
        bench.prepared()
    assert bench.decided == []


def test_leaving_guest_gets_its_memory_back(bench: Bench) -> None:
    bench.taken_before(2 * GIB, 3 * GIB)
    bench.cycle()
    answer = bench.prepared()
    assert [command for command, _ in bench.hypervisor.commands] == ["sweep", "set"]
    assert bench.hypervisor.size == 3 * GIB
    assert answer.endswith("it has 3.00 GiB again")


@pytest.mark.parametrize(
    "other",
    [
        lambda entry: entry._replace(incarnation="another start"),
        lambda entry: entry._replace(applied=GIB),
        lambda entry: entry._replace(before=2 * GIB),
        lambda entry: entry._replace(before=None),
    ],
    ids=["started anew", "resized by others", "as before", "unknown"],
)
def test_size_of_another_process_is_left(bench: Bench, other: Callable[[LedgerEntry], LedgerEntry]) -> None:
    bench.taken_before(2 * GIB, 3 * GIB)
    bench.changes = [other(entry) for entry in bench.changes]
    bench.hypervisor.idle = 0
    bench.prepared()
    assert bench.hypervisor.commands == []


def test_moving_guest_grows_but_does_not_shrink(bench: Bench) -> None:
    bench.cycle(GIB)
    assert bench.hypervisor.commands == [("set", GIB)]
    bench.hypervisor.size, bench.moves.moving = 2 * GIB, True
    bench.hypervisor.commands.clear()
    bench.cycle(1500 * MIB)
    assert bench.hypervisor.commands == []
    assert bench.dropped[-1] == KEPT
    bench.cycle(3 * GIB)
    assert bench.hypervisor.commands == [("set", 3 * GIB)]


def test_cycles_continue_during_the_sweep(bench: Bench) -> None:
    """The process's RSS does not fall, so the sweep ends after three slices."""
    bench.hypervisor = Resizer()
    process = bench.context.root / "proc/4711"
    process.mkdir(parents=True)
    (process / "stat").write_text(STAT)
    size, cycles = 2 * GIB, list[int]()

    def cycle() -> None:
        cycles.append(1)
        bench.fields = {"balloon_cur": size, "mem_usable": size - NEED, "mem_available": size - HIDDEN}
        bench.cycle()

    answer = bench.prepared(cycle=cycle)
    assert answer.startswith("reclaimed ")
    assert answer.endswith("nothing-more")
    assert [kib for _, kib in bench.hypervisor.commands] == [size - 64 * MIB, size - 192 * MIB, size - 320 * MIB, size]
    assert len(cycles) > 3
    assert len(bench.decided) == 1


def test_preparation_without_a_cycle_ends_in_time(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mom_plugins_balloon.moves.BACK_SECONDS", 0.1)
    assert bench.prepared(0.1, cycle=lambda: None) == "the time was too short for the preparation"
    bench.cycle()
    assert bench.hypervisor.commands == [], "nor in a later cycle"


def test_give_back_returns_memory_and_keeps_the_size(bench: Bench) -> None:
    bench.taken_before(GIB, 2 * GIB)
    bench.fields = {"give_back": "it is about to be migrated"}
    bench.cycle(700 * MIB)
    assert bench.hypervisor.commands == [("set", 2 * GIB)]
    (decision,) = bench.decided
    assert decision.reason.startswith("it is about to be migrated: mom returns")
    bench.changes = ()
    bench.cycle(GIB)
    assert bench.hypervisor.size == 2 * GIB
    assert bench.dropped == ["it is about to be migrated: it keeps its size"]
    bench.fields = {}
    bench.cycle(GIB)
    assert bench.hypervisor.size == GIB


def test_give_back_needs_memory_on_the_host(bench: Bench) -> None:
    bench.taken_before(GIB, 2 * GIB)
    bench.host, bench.fields = SHORT, {"give_back": "it is about to be migrated"}
    bench.cycle()
    assert bench.hypervisor.commands == []


def test_refused_sweep_is_reported(bench: Bench) -> None:
    bench.hypervisor.error = HypervisorError("the monitor is gone")
    assert bench.prepared() == "the monitor is gone"
