"""Guests with virtio-mem, whose balloon reaches only a part of their memory. mom neither requests nor counts the rest."""

import time
from collections.abc import Mapping

import pytest
from guest_facts import GIB, LIMITS, MIB

from mom_core import Change, Target, Value
from mom_core.testing import snapshot
from mom_plugins_balloon.ballooned_guests import BalloonedGuests
from mom_plugins_balloon.law.reasons import ReasonCode, sentence
from mom_plugins_balloon.parameters import LawParameters
from mom_plugins_balloon.room import spare_of
from mom_plugins_balloon.seen import suggestions
from mom_plugins_balloon.states import HostWanted

HOST: Mapping[str, Value] = {
    "mem_available": 64 * GIB, "mem_watermark_high": 4 * GIB, "mem_watermark_hard": 512 * MIB, "mem_watermark_low": 256 * MIB,
}  # fmt: skip


def a_guest(**more: Value) -> dict[str, Value]:
    """Return a guest of 2 GiB that needs 512 MiB. The host backs 1 GiB of freed memory, and 60 MiB of QEMU's own."""
    return {
        "balloon_cur": 2 * GIB, "balloon_max": 2 * GIB, "mem_usable": 1536 * MIB, "mem_unused": 1536 * MIB, "stats_age": 0.5,
        "mem_available": 2 * GIB - 50 * MIB, "kernel_reserved": 50 * MIB, "mem_used_peak": 700 * MIB, "mem_used_before": 462 * MIB,
        "mem_cache_share": 0.0, "rss": 1596 * MIB, "rss_before": 1596 * MIB, "qemu_overhead": 60 * MIB, "swap_in": 0, "major_fault": 0,
        "guest_guarantee": 0,
    } | more  # fmt: skip


OF_CACHE: Mapping[str, Value] = {"mem_unused": 40 * MIB, "mem_cache_share": 1.0}


def suggested(available: int, guest: Mapping[str, Value]) -> tuple[float, ReasonCode, str]:
    """Return the law's change of the size, its code and its sentence."""
    taken = snapshot(host={**HOST, "mem_really_available": available}, guests={"web": guest}, properties={"host": {"interval": 5.0}})
    ((target, code, _),) = suggestions(taken, LawParameters(), HostWanted(), LIMITS, interval=5.0)[0]
    return 0 if target is None else target - 2 * GIB, code, sentence(code, taken.guests["web"], taken.host)


@pytest.mark.parametrize("kind", [{}, OF_CACHE], ids=["swept", "trimmed"])
@pytest.mark.parametrize("available", [3 * GIB, GIB, 300 * MIB, 100 * MIB])
def test_law_takes_only_reachable_memory(available: int, kind: Mapping[str, Value]) -> None:
    by, _, _ = suggested(available, a_guest(**kind))
    assert by < -220 * MIB
    by, code, _ = suggested(available, a_guest(**kind, balloon_least=2 * GIB - 220 * MIB))
    assert -220 * MIB <= by < 0
    assert code not in {ReasonCode.OUT_OF_REACH, ReasonCode.NOTHING_TO_GIVE}
    by, code, words = suggested(available, a_guest(**kind, balloon_least=2 * GIB))
    assert (by, code) == (0, ReasonCode.OUT_OF_REACH)
    assert "balloon cannot go below 2.00 GiB" in words


def test_unreachable_memory_is_not_spare() -> None:
    def spare(**more: Value) -> float:
        guests = BalloonedGuests()
        guests.see(snapshot(host=HOST, guests={"web": a_guest(**more)}))
        return spare_of(guests, LawParameters(), LIMITS).total

    assert spare() > 300 * MIB
    assert spare(balloon_least=1400 * MIB) <= 136 * MIB
    assert spare(balloon_least=2 * GIB) == 0


def test_restore_stops_at_the_reach(plugin, hypervisor, seen_by) -> None:
    hypervisor.sizes = {"a": 2 * GIB}
    seen = seen_by(hypervisor, time.monotonic(), a={"balloon_least": 1800 * MIB, "mem_usable": 1900 * MIB})
    plugin.mom_review(seen, [])
    change = Change(Target(seen.guests["a"].entity, "balloon_target"), GIB, 2 * GIB, back=True)
    (said,) = plugin.mom_write(hypervisor, [change]).values()
    assert hypervisor.commands == [("a", 1800 * MIB)]
    assert "not the original 1.00 GiB: below 1.76 GiB, the smallest size that the guest's balloon can reach" in said
