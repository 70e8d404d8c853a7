"""What is said of a guest by the balloon law: why it grows, gives, is swept, or is left as it is."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import pytest

from mom_core import Value
from mom_core.testing import snapshot
from mom_plugins_balloon.limits import ShrinkLimits
from mom_plugins_balloon.names import REASON, SUGGESTED
from mom_plugins_balloon.observed import suggestions
from mom_plugins_balloon.parameters import LawParameters
from mom_plugins_balloon.reasons import sentence
from mom_plugins_balloon.states import HostWanted

MIB: Final = 1024
GIB: Final = 1024 * MIB
LIMITS = ShrinkLimits(32 * MIB, 0.05, 15.0)
"""As a plugin without settings has them, in cycles of 5 s."""

HOST: Final[Mapping[str, Value]] = {
    "mem_really_available": 5 * GIB, "mem_watermark_high": 4 * GIB, "mem_watermark_hard": 512 * MIB, "mem_watermark_low": 256 * MIB,
    "mem_reserved": 0, "balloon_goal": "balanced", "offload_net": None,
}  # fmt: skip
NEED: Final = 512 * MIB


def a_guest(**more: Value) -> dict[str, Value]:
    """One of 2 GiB that needs 512 MiB, is known to have needed 1 GiB, and has used and freed nothing."""
    fields: dict[str, Value] = dict.fromkeys(
        ("balloon_min", "balloon_target", "balloon_target_age", "balloon_obstacle", "reclaim_cost", "host_swap")
    )
    return fields | {
        "balloon_cur": 2 * GIB,
        "balloon_max": 2 * GIB,
        "mem_usable": 2 * GIB - NEED,
        "stats_age": 1.0,
        "swap_in": 0,
        "major_fault": 0,
        "guest_guarantee": 0,
        "mem_available": 2 * GIB - 50 * MIB,
        "mem_unused": 2 * GIB - NEED,
        "kernel_reserved": 50 * MIB,
        "mem_used_peak": GIB,
        "mem_used_before": NEED - 50 * MIB,
        "mem_stall_floor": 0,
        "mem_cache_share": 0.0,
        "rss": NEED + 60 * MIB,
        "rss_before": NEED + 60 * MIB,
        "qemu_overhead": 60 * MIB,
        **more,
    }


def said(host: Mapping[str, Value], guests: Mapping[str, Mapping[str, Value]]) -> dict[str, tuple[float | None, str]]:
    """What is suggested of each guest (None: nothing), and why."""
    taken = snapshot(host={**HOST, **host}, guests=guests, properties={"host": {"interval": 5.0}})
    found = suggestions(taken, LawParameters(), HostWanted(), LIMITS, interval=5.0)
    answers = {}
    for guest, one in zip(taken.guests.values(), found, strict=True):
        derived = replace(guest, fields={**guest.fields, SUGGESTED: one.target, REASON: one.code.value})
        answers[guest.name] = (one.target, sentence(one.code, derived, taken.host))
    return answers


def told(available: float, guest: Mapping[str, Value], reserved: float = 0) -> tuple[float | None, str]:
    """By how much a guest that is alone changes (None: nothing is suggested), and why."""
    size, why = said({"mem_really_available": int(available), "mem_reserved": int(reserved)}, {"web": guest})["web"]
    return None if size is None else int(size) - int(str(guest["balloon_cur"])), why


def small(usable: int, **more: Value) -> dict[str, Value]:
    """A guest of which 1 GiB was taken, in which so much is usable."""
    size = GIB
    known = {"mem_available": size - 50 * MIB, "mem_unused": usable, "rss": size + 60 * MIB, "rss_before": size + 60 * MIB}
    need = {"mem_used_before": size - 50 * MIB - usable}
    return a_guest(balloon_cur=size, mem_usable=usable, **known, **need) | more


def test_a_guest_is_left_alone_while_the_host_has_enough() -> None:
    assert told(7 * GIB, a_guest()) == (
        None,
        "the host has 7.00 GiB available, more than the 4.00 GiB that it is to have: nothing has to be taken",
    )


def test_between_enough_and_room_it_says_from_when_on_memory_goes_back() -> None:
    by, why = told(5 * GIB, a_guest())
    assert by is None
    assert why == (
        "the host has 5.00 GiB available, and is to have 4.00 GiB: nothing has to be taken, "
        "and memory that was taken goes back only when it has clearly more"
    )


def test_a_sweep_says_what_the_host_lacks_and_what_the_guest_held() -> None:
    by, why = told(3 * GIB, a_guest(rss=NEED + 60 * MIB + 412 * MIB, rss_before=NEED + 60 * MIB + 412 * MIB))
    assert by == -412 * MIB
    assert why == (
        "the host has 3.00 GiB available, less than the 4.00 GiB that it is to have; the guest holds 412 MiB that it had used and freed, "
        "so it is swept: that is taken, and it gets its headroom back in a moment"
    )


def test_after_a_sweep_it_says_why_the_room_comes_back() -> None:
    by, why = told(3 * GIB, small(GIB - NEED, mem_cache_share=0.0, rss=NEED, rss_before=NEED))
    assert by == GIB
    assert why == "it has less than its headroom, as after a sweep, and headroom costs the host nothing until it is used: it gets it back"


def test_a_trim_says_what_kind_of_memory_is_taken_and_how_much_there_is_of_it() -> None:
    by, why = told(3.9 * GIB, a_guest(kernel_reserved=None))
    assert by is not None
    assert by < 0
    assert why.startswith(
        "the host has 3.90 GiB available, less than the 4.00 GiB that it is to have; guests give memory that holds nothing, and "
    )
    assert (
        "; guests give page cache, too, beyond what they were seen to need"
        in told(3 * GIB, a_guest(kernel_reserved=None, mem_unused=40 * MIB))[1]
    )
    assert "; guests give of their margins, too, as far as no guest" in told(GIB, a_guest(kernel_reserved=None, mem_unused=40 * MIB))[1]
    lean = {"balloon_cur": 720 * MIB, "mem_usable": 208 * MIB, "mem_unused": 40 * MIB, "mem_available": None}
    assert "; guests give of their headroom for bursts, too" in told(100 * MIB, a_guest(kernel_reserved=None, **lean))[1]


def test_what_is_reserved_is_not_counted() -> None:
    by, why = told(5 * GIB, a_guest(kernel_reserved=None), reserved=2 * GIB)
    assert by is not None
    assert why.startswith("the host has 3.00 GiB available beyond what is reserved, less than the 4.00 GiB that it is to have; guests give")


def test_what_is_reserved_and_not_there_is_no_negative_amount() -> None:
    why = told(GIB, a_guest(kernel_reserved=None), reserved=1.25 * GIB)[1]
    assert why.startswith("256 MiB of what is reserved are not available on the host, which is to have 4.00 GiB more; guests give")


def test_who_has_nothing_to_give_and_who_gives_later_are_told() -> None:
    short = "the host has 3.00 GiB available, less than the 4.00 GiB that it is to have"
    assert told(3 * GIB, a_guest()) == (None, f"{short}, but this guest has nothing now that could be taken for it")
    held = NEED + 60 * MIB
    guests = {"much": a_guest(rss=held + GIB, rss_before=held + GIB), "little": a_guest(rss=held + 100 * MIB, rss_before=held + 100 * MIB)}
    found = said({"mem_really_available": int(3.5 * GIB)}, guests)
    assert found["much"][0] is not None
    assert found["little"][0] is None
    assert found["little"][1].endswith("that it is to have, but others give before this guest does")


def test_a_guest_that_runs_out_says_so_and_why_it_gets_nothing_in_danger() -> None:
    by, why = told(5 * GIB, small(20 * MIB, mem_cache_share=1.0))
    assert by is not None
    assert by > 0
    assert why == "it runs out of memory, as only 20 MiB are usable in it: it grows at once, and others give for it if they must"
    by, why = told(200 * MIB, small(20 * MIB, mem_cache_share=1.0))
    assert by is None
    assert (
        why == "it runs out of memory, as only 20 MiB are usable in it, but the host has 200 MiB available, "
        "and with less than 256 MiB no guest grows"
    )


def test_a_promise_that_is_not_kept_is_named() -> None:
    by, why = told(5 * GIB, small(400 * MIB, guest_guarantee=int(1.5 * GIB), mem_cache_share=1.0))
    assert by is not None
    assert by >= 512 * MIB
    assert why.startswith("it has less than the 1.50 GiB that it is promised: it grows at once")


@pytest.mark.parametrize(
    ("symptom", "words"),
    [
        ({"swap_in": 2000}, "it reads 2,000 KiB/s back from its swap: it grows, as far as"),
        ({"major_fault": 300}, "it waits for its disk, with 300 page faults a second: it grows, as far as"),
        (
            {"mem_stall_floor": 300 * MIB},
            "only 200 MiB are usable in it, with which it was seen to wait for its disk: it grows, as far as",
        ),
    ],
)
def test_a_guest_that_suffers_says_from_what(symptom: Mapping[str, Value], words: str) -> None:
    by, why = told(5 * GIB, small(200 * MIB, mem_cache_share=1.0, mem_used_peak=GIB - 250 * MIB, **symptom))
    assert by is not None
    assert by > 0
    assert why.startswith(words)


def test_what_was_taken_comes_back_when_the_host_has_room() -> None:
    by, why = told(9 * GIB, small(700 * MIB, mem_cache_share=1.0, mem_used_peak=GIB - 800 * MIB))
    assert by is not None
    assert by > 0
    assert why == (
        "the host has 9.00 GiB available, clearly more than the 4.00 GiB that it is to have: this one gets back "
        "what was taken from it, a little at a time"
    )


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"stats_age": 14.0}, "its statistics are 14 s old, too old to act upon: it keeps its size"),
        ({"mem_usable": None}, "it does not tell what is usable in it, so it keeps its size"),
        ({"stats_age": None}, "its size, its maximum or the age of its statistics is unknown, so it keeps its size"),
        (
            {"balloon_target_age": 0.5, "balloon_target": 2 * GIB},
            "its size was changed 0.5 s ago, and its statistics are from before that: mom waits for newer ones",
        ),
    ],
)
def test_a_guest_that_is_held_says_why(fields: Mapping[str, Value], words: str) -> None:
    assert told(3 * GIB, a_guest(**fields)) == (None, words)


def test_a_host_of_which_nothing_is_known_is_said() -> None:
    words = "what the host has available, or is to have, is unknown, so no guest's size is changed"
    assert said({"mem_really_available": None}, {"web": a_guest()})["web"] == (None, words)


def test_of_every_guest_something_is_said() -> None:
    guests = {
        "a": a_guest(), "b": small(20 * MIB), "c": small(200 * MIB, swap_in=5000), "d": a_guest(stats_age=99.0),
        "e": a_guest(mem_usable=None), "f": a_guest(kernel_reserved=None), "g": small(700 * MIB, mem_cache_share=1.0),
        "h": a_guest(rss=2 * GIB, rss_before=2 * GIB),
    }  # fmt: skip
    for available in (100 * MIB, 400 * MIB, GIB, 3 * GIB, 5 * GIB, 20 * GIB):
        for name, (_, words) in said({"mem_really_available": available}, guests).items():
            assert words, name
            assert "unknown amount" not in words
