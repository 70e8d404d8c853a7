"""Limits of a platform: the available memory below which it stops guests, and the limits of guests' control groups."""

from guest_facts import GIB, LIMITS, MIB

from mom_core import Decision, Entity, Host, LedgerEntry, Scope, Snapshot
from mom_core.testing import snapshot
from mom_devkit import put_back
from mom_plugins_balloon.law.share import decide
from mom_plugins_balloon.parameters import LawParameters
from mom_plugins_balloon.seen import guest_memories, host_memory
from mom_plugins_balloon.states import HostWanted

HOST = {"mem_available": 64 * GIB, "mem_really_available": 6 * GIB}


def state_with(plugin, seen_by, hypervisor, line):
    host = {**HOST, "mem_evicts_below": line}
    plugin.mom_act(Snapshot(Host(fields=host), seen_by(hypervisor).guests, monotonic=1.0))
    list(plugin.mom_act(Snapshot(Host(fields=host), seen_by(hypervisor).guests, monotonic=2.0)))
    return plugin.mom_collect_host()


def test_watermarks_are_above_the_platforms_threshold(plugin, hypervisor, seen_by):
    before = state_with(plugin, seen_by, hypervisor, None)
    above = state_with(plugin, seen_by, hypervisor, 2 * GIB)
    for name in ("high", "hard", "low"):
        assert above[f"mem_watermark_{name}"] == before[f"mem_watermark_{name}"] + 2 * GIB
    assert (before["host_memory_state"], above["host_memory_state"]) == ("high", "soft")


def short_guest(**fields):
    """Return a guest with 1 of its 2 GiB that runs out of memory."""
    known = {"balloon_cur": GIB, "balloon_max": 2 * GIB, "mem_usable": 4 * MIB, "stats_age": 1.0, "mem_available": 900 * MIB}
    return snapshot(host={"mem_available": 64 * GIB, "mem_really_available": 32 * GIB}, guests={"a": {**known, **fields}})


def grown_to(seen):
    host = host_memory(seen, HostWanted(), 5.0)
    assert host is not None
    (found,) = decide(host, guest_memories(seen), LawParameters(), LIMITS)
    return found.target


def test_control_group_limits_growth():
    free = grown_to(short_guest(rss=900 * MIB))
    assert free is not None
    assert free > 1200 * MIB
    assert grown_to(short_guest(rss=None, host_limit_room=0)) == free, "its RSS is unknown"
    assert grown_to(short_guest(rss=900 * MIB, host_limit_room=300 * MIB)) == 1200 * MIB
    assert grown_to(short_guest(rss=900 * MIB, qemu_overhead=50 * MIB, host_limit_room=300 * MIB)) == 1150 * MIB, "QEMU's memory counts"
    assert grown_to(short_guest(rss=900 * MIB, host_limit_room=0)) is None, "it is at its limit"


def wants(value):
    return Decision(Entity(Scope.GUEST, "a", "name-a"), "balloon_target", value)


def test_restore_ignores_the_control_group(plugin, hypervisor, seen_by):
    hypervisor.sizes["a"] = GIB
    plugin.mom_review(seen_by(hypervisor, a={"rss": 900 * MIB, "host_limit_room": 0}), [])
    put_back(plugin, [LedgerEntry(Entity(Scope.GUEST, "a", "name-a"), "balloon_target", 2 * GIB, GIB, "balloon", 0.0, "")], hypervisor)
    assert hypervisor.commands == [("a", 2 * GIB)]
