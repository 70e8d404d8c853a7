"""Reasons of the balloon law: why a guest grows, shrinks, is swept or keeps its size."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import pytest
from law_guests import GIB, HIDDEN, MIB, a_known_guest, sizes_on

from mom_core import Value
from mom_core.testing import snapshot
from mom_plugins_balloon.law.reasons import sentence
from mom_plugins_balloon.names import REASON, SUGGESTED

HOST: Final[Mapping[str, Value]] = {
    "mem_really_available": 5 * GIB, "mem_watermark_high": 4 * GIB, "mem_watermark_hard": 512 * MIB, "mem_watermark_low": 256 * MIB,
    "mem_reserved": 0, "offload_net": None,
}  # fmt: skip
NEED: Final = 512 * MIB


def a_guest(**more: Value) -> dict[str, Value]:
    """Return a guest of 2 GiB that needs 512 MiB, has needed 1 GiB, and has freed nothing."""
    return a_known_guest(need=NEED, peak=GIB + HIDDEN) | {"guest_guarantee": 0, "mem_stall_floor": 0} | more


def said(host: Mapping[str, Value], guests: Mapping[str, Mapping[str, Value]]) -> dict[str, tuple[float | None, str]]:
    """Return the suggested size of each guest (None without one), and the reason."""
    taken, answers = snapshot(host={**HOST, **host}, guests=guests), {}
    for name, one in sizes_on({**HOST, **host}, guests).items():
        derived = {**taken.guests[name].fields, SUGGESTED: one.target, REASON: one.code.value}
        answers[name] = (one.target, sentence(one.code, replace(taken.guests[name], fields=derived), taken.host))
    return answers


def told(available: float, guest: Mapping[str, Value], reserved: float = 0) -> tuple[float | None, str]:
    """Return the change of a single guest (None without a suggestion), and the reason."""
    size, why = said({"mem_really_available": int(available), "mem_reserved": int(reserved)}, {"web": guest})["web"]
    return None if size is None else int(size) - int(str(guest["balloon_cur"])), why


def small(usable: int, **more: Value) -> dict[str, Value]:
    """Return a guest that lost 1 GiB, with this usable memory."""
    size = GIB
    known = {"mem_available": size - 50 * MIB, "mem_unused": usable, "rss": size + 60 * MIB, "rss_before": size + 60 * MIB}
    need = {"mem_used_before": size - 50 * MIB - usable}
    return a_guest(balloon_cur=size, mem_usable=usable, **known, **need) | more


SWEPT = {"rss": NEED + 60 * MIB + 412 * MIB, "rss_before": NEED + 60 * MIB + 412 * MIB}
CACHE = {"mem_cache_share": 1.0}
FULL = a_guest(mem_unused=40 * MIB, **CACHE)
SUFFERS = CACHE | {"mem_used_peak": GIB - 250 * MIB}
JUST_RESIZED: dict[str, Value] = {"balloon_target_age": 0.5, "balloon_target": 2 * GIB}
SHORT = "the host has {} available and should have 4.00 GiB, so "

# Available and reserved memory of the host, the guest, its change, and the sentence or its begin.
SAID: list[tuple[float, float, dict[str, Value], str, str]] = [
    (5 * GIB, 0, a_guest(), "stays", "the host has 5.00 GiB available and should have 4.00 GiB, so mom takes no memory from this guest"),
    (3 * GIB, 0, a_guest(**SWEPT), "gives",
     SHORT.format("3.00 GiB") + "a sweep reclaims 412 MiB that this guest had used and freed, and then returns its headroom"),
    (3 * GIB, 0, small(GIB - NEED, mem_cache_share=0.0, rss=NEED, rss_before=NEED), "grows",
     "it lacks headroom, as after a sweep, so it gets its headroom back; that costs the host nothing until the guest uses it"),
    (3 * GIB, 0, FULL, "gives", SHORT.format("3.00 GiB") + "mom takes 313 MiB from this guest, page cache included"),
    (3 * GIB, 0, a_guest(kernel_reserved=None, mem_unused=40 * MIB), "stays",
     "the memory that its kernel reserves is not known yet, so mom takes no memory from this guest"),
    (5 * GIB, 2 * GIB, FULL, "gives",
     "the host has 3.00 GiB available beyond its reservations and should have 4.00 GiB, so mom takes "),
    (GIB, 1.25 * GIB, FULL, "gives",
     "the host lacks 256 MiB for its reservations and should have 4.00 GiB, so mom takes "),
    (5 * GIB, 0, small(20 * MIB, **CACHE), "grows", "it runs out of memory, with only 20 MiB usable, so it grows"),
    (200 * MIB, 0, small(20 * MIB, **CACHE), "stays",
     "it runs out of memory, with only 20 MiB usable, but the host has 200 MiB available, and with less than 256 MiB, guests grow only "
     "to their guarantee"),
    (5 * GIB, 0, small(400 * MIB, guest_guarantee=int(1.5 * GIB), **CACHE), "grows",
     "it has less than its guarantee of 1.50 GiB, so it grows"),
    (5 * GIB, 0, small(200 * MIB, swap_in=2000, **SUFFERS), "grows", "it reads 2,000 KiB/s from its swap, so it grows"),
    (5 * GIB, 0, small(200 * MIB, major_fault=300, **SUFFERS), "grows",
     "it waits for its disk, with 300 page faults a second, so it grows"),
    (5 * GIB, 0, small(200 * MIB, mem_stall_floor=300 * MIB, **SUFFERS), "grows",
     "it has only 200 MiB usable; with so little, its programs waited or were killed before, so it grows"),
    (9 * GIB, 0, small(700 * MIB, mem_used_peak=GIB - 800 * MIB, **CACHE), "grows",
     "the host has 9.00 GiB available, clearly more than the required 4.00 GiB, so this guest gets memory back in small steps"),
    (5 * GIB, 0, small(700 * MIB, **CACHE), "grows", "it has less than its target headroom, and uses new memory as page cache"),
    (3 * GIB, 0, a_guest(stats_age=14.0), "stays", "its statistics are 14 s old, too old to act on, so it keeps its size"),
    (3 * GIB, 0, a_guest(stats_age=None), "stays", "its size, its maximum or its kernel's statistics are unknown, so it keeps its size"),
    (3 * GIB, 0, a_guest(**JUST_RESIZED), "stays", "its size changed 0.5 s ago, and mom waits for newer statistics"),
]  # fmt: skip


@pytest.mark.parametrize(("available", "reserved", "guest", "becomes", "words"), SAID)
def test_what_becomes_of_a_guest_is_said(available: float, reserved: float, guest: dict[str, Value], becomes: str, words: str) -> None:
    by, why = told(available, guest, reserved)
    assert ("stays" if by is None else "grows" if by > 0 else "gives") == becomes
    assert why.startswith(words)


def test_who_has_nothing_to_give_and_who_gives_later_are_told() -> None:
    short = "the host has 3.00 GiB available and should have 4.00 GiB"
    assert told(3 * GIB, a_guest()) == (None, f"{short}, but this guest has no memory to spare")
    promised = told(3 * GIB, a_guest(guest_guarantee=2 * GIB, **SWEPT))
    assert promised == (None, f"{short}, but this guest keeps its guarantee of 2.00 GiB")
    held = NEED + 60 * MIB
    guests = {"much": a_guest(rss=held + GIB, rss_before=held + GIB), "little": a_guest(rss=held + 100 * MIB, rss_before=held + 100 * MIB)}
    found = said({"mem_really_available": int(3.5 * GIB)}, guests)
    assert found["much"][0] is not None
    assert found["little"][0] is None
    assert found["little"][1].endswith("and should have 4.00 GiB, but mom shrinks other guests first")


def test_a_host_of_which_nothing_is_known_is_said() -> None:
    words = "the host's available memory or its watermarks are unknown, so no guest changes its size"
    assert said({"mem_really_available": None}, {"web": a_guest()})["web"] == (None, words)
