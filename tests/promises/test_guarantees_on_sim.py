"""Guarantees hold on simulated hosts for any decisions and events: stale statistics, restarts, hotplug."""

import random
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mom_core import Decision, Entity, FieldSpec, Guest, PluginContext, PluginSettings, Portion, Scope, Snapshot, Unit, Value, hookimpl
from mom_devkit import PluginRun, run_plugins
from mom_plugins_sim.guest import NOTHING
from mom_plugins_sim.hypervisor import SimHypervisor
from mom_plugins_sim.plugin import SimPlugin
from mom_plugins_sim.scene import GuestScene, Scene
from mom_plugins_sim.workload import draw_workload
from mom_plugins_sim.world import SimulatedGuest, World

MIB = 1024
GIB = 1024 * MIB
INTERVAL = 5.0
STALE = 15.0
"""Age limit of statistics in seconds: three cycles."""

MOST_PLUGGED = 3
"""Largest growth of a guest's memory, as a ratio. A host with four times the guests' memory can then still keep its promises."""

SLACK = 2.0
"""Rounding error of the simulation in KiB."""


@dataclass
class Promised:
    """Promises to one guest: in the YAML file, in its metadata, and by its class."""

    written: str = ""
    metadata: str = ""
    share: float | None = None
    kib: int | None = None
    priority: int | None = None

    def of(self, maximum: float) -> float:
        portions = [Portion.parse(text).kib_of(maximum) or 0.0 for text in (self.written, self.metadata) if text]
        portions += [self.share * maximum] if self.share is not None else []
        portions += [self.kib] if self.kib is not None else []
        return min(maximum, max(portions, default=0.0))


@dataclass
class Sent:
    """Command of mom, with the guest's state at that moment."""

    cycle: int
    guest: str
    target: int
    size: float
    promised: float
    told_need: float | None
    age: float | None


@dataclass
class Stage:
    """Simulated host with promises. It records all commands of mom."""

    scene: Scene
    promised: dict[str, Promised]
    cycle: int = 0
    sent: list[Sent] = field(default_factory=list)
    hypervisor: SimHypervisor | None = None
    wishes: Sequence[float] = ()

    def guests(self) -> list[SimulatedGuest]:
        assert self.hypervisor is not None
        return list(self.hypervisor.world.guests.values())

    def plugins(self) -> dict[str, type | Mapping[str, object]]:
        stage = self

        class Watched(SimHypervisor):
            def set_balloon(self, guest: Entity, target_kib: int) -> None:
                there = self.world.guests[guest.id]
                told, memory = there.statistics.latest, there.memory
                known = told.mem_available is not None and told.mem_usable is not None
                need = told.mem_available - told.mem_usable if known else None  # type: ignore[operator]  # numbers both
                age = self.world.time - there.statistics.at if known else None
                promised = stage.promised[there.listed.name].of(int(memory.maximum))
                stage.sent.append(Sent(stage.cycle, there.listed.name, target_kib, memory.size, promised, need, age))
                super().set_balloon(guest, target_kib)

        class Sim(SimPlugin):
            @cached_property
            def hypervisor(self) -> SimHypervisor:
                clock = self._context.monotonic
                stage.hypervisor = Watched(World(stage.scene, clock()), clock)
                return stage.hypervisor

        class Classes:
            def __init__(self, settings: PluginSettings, context: PluginContext) -> None:
                pass

            @hookimpl
            def mom_declare(self) -> Iterable[FieldSpec]:
                yield FieldSpec("mem_guarantee", Unit.KIB, Scope.GUEST, "promised")
                yield FieldSpec("mem_guarantee_share", Unit.RATIO, Scope.GUEST, "promised")
                yield FieldSpec("priority", Unit.COUNT, Scope.GUEST, "how important")

            @hookimpl
            def mom_collect_guests(self, guests: Sequence[Guest]) -> Mapping[str, Mapping[str, Value]]:
                found = {}
                for guest in guests:
                    one = stage.promised[guest.name]
                    found[guest.id] = {"mem_guarantee": one.kib, "mem_guarantee_share": one.share, "priority": one.priority}
                return found

            @hookimpl
            def mom_report(self) -> None:
                """Mark the end of the cycles: later commands restore sizes."""
                stage.cycle = 0

        class Hostile:
            def __init__(self, settings: PluginSettings, context: PluginContext) -> None:
                pass

            @hookimpl
            def mom_evaluate(self, snapshot: Snapshot) -> Iterable[Decision]:
                """Yield the next size for each guest."""
                for number, guest in enumerate(snapshot.guests.values()):
                    wish = stage.wishes[(stage.cycle + number) % len(stage.wishes)]
                    maximum = guest.fields["balloon_max"]
                    assert isinstance(maximum, int)
                    yield Decision(guest.entity, "balloon_target", int(wish * maximum) if 0 < wish <= 1 else wish, "because")

        return {"sim": Sim, "hostile": Hostile, "classes": Classes, "balloon": {}}

    def run(self, cycles: int, happens: Mapping[int, Sequence[tuple[str, int, float]]] | None = None) -> PluginRun:
        def between(cycle: int) -> None:
            self.cycle = cycle
            for what, which, amount in (happens or {}).get(cycle, ()):
                if self.hypervisor is not None:
                    befall(self, what, which, amount)

        written = {name: {"guarantee": one.written} for name, one in self.promised.items() if one.written}
        with tempfile.TemporaryDirectory() as folder:
            return run_plugins(Path(folder), self.plugins(), cycles=cycles, interval=INTERVAL, guests=written, between=between)


def befall(stage: Stage, what: str, which: int, amount: float) -> None:
    """Change one guest."""
    guests = stage.guests()
    guest = guests[which % len(guests)]
    memory = guest.memory
    if what == "mute":
        guest.mute = not guest.mute
    elif what == "hangs":
        guest.hangs = not guest.hangs
    elif what == "stuck":
        memory.stuck = not memory.stuck
    elif what == "reboots":
        guest.listed = replace(guest.listed, incarnation=f"{guest.listed.incarnation}x")
        memory.size = memory.target = memory.maximum
        memory.anon = memory.swapped = memory.cache = memory.touched = 0.0
        guest.statistics.latest = NOTHING
    elif what == "others-resize":
        memory.target = memory.size = max(memory.kernel + memory.anon + memory.low * 2, amount * memory.maximum)
    elif what == "memory-plugged":
        begun = next(one.memory for one in stage.scene.guests if one.name == guest.listed.name)
        memory.maximum = min(memory.maximum * (1 + amount), max(memory.maximum, MOST_PLUGGED * begun))
        memory.size = min(memory.size + amount * memory.maximum / 2, memory.maximum)
        memory.target = memory.size
    elif what == "memory-unplugged":
        memory.maximum = max(memory.kernel + memory.anon + memory.swapped + 4 * memory.low, memory.maximum * (1 - amount / 2))
        memory.size, memory.target = min(memory.size, memory.maximum), min(memory.target, memory.maximum)
    elif what == "promised-more":
        stage.promised[guest.listed.name].share = min(1.0, 0.5 + amount / 2)
    elif what == "promised-by-metadata":
        text = f"{amount * 100:.2f}%"
        stage.promised[guest.listed.name].metadata = text
        guest.listed = replace(guest.listed, properties={**guest.listed.properties, "mem_guarantee": text})
    elif what == "nobody-decides":
        stage.wishes = [float("nan")]
    else:
        raise AssertionError(what)


EVENTS = (
    "mute", "hangs", "stuck", "reboots", "others-resize", "memory-plugged", "memory-unplugged", "promised-more", "promised-by-metadata",
)  # fmt: skip

portions = st.sampled_from(["", "", "100%", "75%", "37.5%", "1%", "300MiB", "1GiB", "999GiB", "0B"])
promises = st.builds(
    Promised,
    written=portions,
    share=st.none() | st.floats(0, 1),
    kib=st.none() | st.integers(0, 3 * GIB),
    priority=st.none() | st.integers(0, 100),
)
wishes = st.lists(
    st.sampled_from([0, -5, 1, 1024, 2048, 40 * MIB, 64 * MIB, float("nan"), float("inf"), 1 << 62]) | st.floats(0.001, 1),
    min_size=1,
    max_size=6,
)


@st.composite
def stages(draw: st.DrawFn, oversold: bool) -> Stage:
    source = random.Random(draw(st.integers(0, 1000)))  # noqa: S311  # a world that repeats itself is the purpose
    made, promised, total = [], {}, 0
    for number in range(draw(st.integers(1, 4))):
        memory = draw(st.sampled_from([512 * MIB, GIB, 2 * GIB, 5 * GIB]))
        total += memory
        kind, workload = draw_workload(source, memory)
        name = f"{kind}-{number}"
        promised[name] = draw(promises)
        identity = f"00000000-0000-4000-8000-00000000000{number}"
        silent, swap = draw(st.integers(0, 9)) == 0, memory / 4 if draw(st.booleans()) else 0.0
        made.append(GuestScene(identity, name, memory, workload, swap, statistics_period=draw(st.sampled_from([1.0, 5.0])), silent=silent))
    host = max(2 * GIB, total // 2) if oversold else 4 * total + 4 * GIB
    return Stage(Scene(float(host), made), promised, wishes=draw(wishes))


happenings = st.dictionaries(
    st.integers(2, 14), st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(0, 3), st.floats(0, 1)), min_size=1, max_size=3), max_size=6
)
thoroughly = settings(max_examples=settings().max_examples // 2, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def assert_needs_are_respected(stage: Stage) -> None:
    """Check all commands before mom's end. At its end, mom restores the original sizes."""
    for one in stage.sent:
        if one.cycle and one.target < one.size - SLACK:
            assert one.told_need is not None, f"shrunk without statistics: {one}"
            assert one.target >= one.told_need - SLACK, f"shrunk below what it needs: {one}"
            assert one.age is not None
            assert one.age <= STALE, f"shrunk by old statistics: {one}"


@pytest.mark.long
@thoroughly
@given(stages(oversold=False), happenings)
def test_mom_asks_no_guest_to_go_below_its_guarantee_or_its_need(stage: Stage, happens: dict[int, list[tuple[str, int, float]]]) -> None:
    stage.run(15, happens)
    for one in stage.sent:
        assert one.target >= one.promised - SLACK, f"asked to go below its guarantee: {one}"
    assert_needs_are_respected(stage)


@pytest.mark.long
@thoroughly
@given(stages(oversold=False))
def test_no_guest_is_ever_smaller_than_its_guarantee_when_nobody_else_resizes_it(stage: Stage) -> None:
    run = stage.run(12)
    for name, one in stage.promised.items():
        for size, maximum in zip(run.values(name, "balloon_cur"), run.values(name, "balloon_max"), strict=True):
            assert isinstance(size, int)
            assert isinstance(maximum, int)
            assert size >= one.of(maximum) - SLACK


@pytest.mark.long
@thoroughly
@given(stages(oversold=True), happenings)
def test_on_a_host_that_promised_too_much_what_holds_of_it_holds(stage: Stage, happens: dict[int, list[tuple[str, int, float]]]) -> None:
    run = stage.run(15, happens)
    assert_needs_are_respected(stage)
    for report, after in zip(run.reports, run.reports[1:], strict=False):
        standing = {guest.name: guest.fields.get("guest_guarantee") for guest in after.snapshot.guests.values()}
        for one in stage.sent:
            holds = standing.get(one.guest)
            if one.cycle == report.number and isinstance(holds, int):
                # A new promise is a field at once, and holds from that cycle on.
                assert one.target >= min(holds, one.promised) - SLACK, f"asked to go below what holds of its guarantee ({holds}): {one}"
        promised, room = after.snapshot.host.fields.get("mem_promised"), after.snapshot.host.fields.get("mem_promisable")
        if isinstance(promised, int) and isinstance(room, int):
            assert sum(kib for kib in standing.values() if isinstance(kib, int)) <= max(room + len(standing), 0)
            assert report.verdict is not None
            reported = any(condition.name == "promises" and not condition.over for condition in report.verdict.conditions)
            assert reported == (promised > room + len(standing)) or abs(promised - room) <= len(standing)


def test_a_guest_gets_back_what_it_is_promised_now_though_nobody_decides_it() -> None:
    source = random.Random(1)  # noqa: S311  # a world that repeats itself is the purpose
    _, workload = draw_workload(source, 2 * GIB)
    guest = GuestScene("00000000-0000-4000-8000-000000000001", "vm", 2 * GIB, workload, statistics_period=1.0)
    stage = Stage(Scene(float(16 * GIB), [guest]), {"vm": Promised()}, wishes=[0.6])
    run = stage.run(8, {4: [("nobody-decides", 0, 0), ("promised-more", 0, 0.8)]})
    sizes = run.values("vm", "balloon_cur")
    assert isinstance(sizes[3], int)
    assert isinstance(sizes[-1], int)
    assert sizes[3] < 0.7 * 2 * GIB
    assert sizes[-1] >= 0.9 * 2 * GIB - SLACK
    assert stage.sent[-1].cycle == 0, "at the end it has all, as before mom"
