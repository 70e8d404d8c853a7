"""The law, the review and the write judge a guest by the same facts."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from guest_facts import GIB, MIB

from mom_core import Change, Columns, Decision, Entity, Guest, Host, PluginContext, Revision, Snapshot, Target, Value
from mom_core.model import GuestTable
from mom_devkit import HandClock
from mom_kvm import GuestMoves
from mom_plugins_balloon import BalloonPlugin
from mom_plugins_balloon.names import REASON, SUGGESTED

HOST = {"mem_available": 16 * GIB, "mem_watermark_high": 2 * GIB, "mem_watermark_hard": 400 * MIB, "mem_watermark_low": 200 * MIB}
SHORT, ENOUGH = 500 * MIB, 8 * GIB


class World:
    """Guests of 4 GiB that need 1 GiB and have page cache in the rest, and the plugin in cycles."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.clock, self.moving = HandClock(1000.0), set[str]()
        self.sizes = dict.fromkeys(names, 4 * GIB)
        context = PluginContext("balloon", folder, folder / "state", monotonic=self.clock, interval=5.0, offers={GuestMoves: (self,)})
        self.plugin = BalloonPlugin(BalloonPlugin.Settings(), context)
        self.plugin.mom_setup()

    def is_moving(self, guest: Guest) -> bool:
        return guest.id in self.moving

    def set_balloon(self, guest: Entity, target_kib: int) -> None:
        self.sizes[guest.id] = target_kib

    def balloon_sizes(self, guests: Sequence[Entity]) -> dict[str, int]:
        return {guest.id: self.sizes[guest.id] for guest in guests}

    def told(self, size: int) -> dict[str, Value]:
        """Return statistics of a kernel whose total includes the balloon."""
        usable = size - GIB
        return {
            "balloon_cur": size, "balloon_max": 4 * GIB, "stats_age": 1.0, "mem_available": 4 * GIB - 64 * MIB, "mem_usable": usable,
            "mem_unused": 40 * MIB, "mem_disk_caches": usable - 40 * MIB, "rss": size,
        }  # fmt: skip

    def cycle(self, available: int) -> tuple[dict[str, Value], Sequence[Revision]]:
        """Run one cycle; return the law's suggestions that change sizes, and what the review changed of them."""
        self.clock.now += 5.0
        listed = tuple(Guest(name, name, incarnation="1") for name in self.sizes)
        columns = {**self.plugin.mom_collect_guests(listed), **Columns.of_rows([self.told(size) for size in self.sizes.values()])}
        host = Host(fields={**HOST, "mem_really_available": available})
        in_order = [*listed]  # like in the engine: the same guests, in another sequence
        snapshot = Snapshot(host, GuestTable(in_order, Columns(columns)), monotonic=self.clock.now)
        derived = self.plugin.mom_derive(snapshot)
        suggested = {name: derived.guests[name] for name in (SUGGESTED, REASON)}
        snapshot = replace(snapshot, guests=GuestTable(in_order, Columns({**columns, **suggested})))
        list(self.plugin.mom_act(snapshot))
        sizes: dict[str, Value] = {
            guest.id: size for guest, size in zip(listed, derived.guests[SUGGESTED], strict=True) if size is not None
        }
        decisions = [Decision(guest.entity, "balloon_target", sizes[guest.id]) for guest in listed if guest.id in sizes]
        revisions = list(self.plugin.mom_review(snapshot, decisions))
        changes = [
            Change(Target(one.entity, one.control), one.value, self.sizes[one.entity.id])
            for one in decisions
            if all(revision.before is not one for revision in revisions)
        ]
        self.plugin.mom_write(self, changes)  # type: ignore[arg-type]  # all that it needs of a hypervisor
        return sizes, revisions


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path, "a", "b")
    for _ in range(3):
        assert world.cycle(ENOUGH) == ({}, [])
    return world


def test_law_counts_only_on_permitted_memory_after_a_shrink(world: World) -> None:
    """The kernels' totals include the balloon, so their statistics do not show whether they are from after the shrink."""
    first, revisions = world.cycle(SHORT)
    assert first
    assert revisions == []
    for _ in range(5):
        _, revisions = world.cycle(SHORT)
        assert revisions == []


def test_others_give_for_a_moving_guest(world: World) -> None:
    world.moving = {"a"}
    sizes, revisions = world.cycle(SHORT)
    assert (list(sizes), revisions) == (["b"], [])


def test_law_waits_for_a_moving_balloon(world: World) -> None:
    world.sizes["a"] = 3 * GIB
    assert [list(world.cycle(SHORT)[0]), list(world.cycle(SHORT)[0])] == [["b"], ["a", "b"]]


def test_law_first_learns_what_the_kernel_reserves(tmp_path: Path) -> None:
    """Balloons that move in each cycle never rest between two statistics."""
    world = World(tmp_path, "a", "b")
    assert [list(world.cycle(SHORT)[0]) for _ in range(3)] == [[], [], ["a", "b"]]


def test_law_does_not_wait_below_the_hard_watermark(tmp_path: Path) -> None:
    assert list(World(tmp_path, "a").cycle(300 * MIB)[0]) == ["a"]
