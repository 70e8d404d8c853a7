"""Summary of a run. Unknown values are not zero."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from mom_core import Report, Value
from mom_core.testing import snapshot
from mom_kvm import RunSummary

GIB = 1 << 20


def summed(hosts: Sequence[Mapping[str, Value]], guests: Sequence[Mapping[str, Value]] = ()) -> RunSummary:
    """Return the summary of cycles of 5 s with these hosts, and a guest with a class."""
    summary = RunSummary("recorded")
    for number, host in enumerate(hosts):
        taken = snapshot(host=host, guests={"web": {"sla_class": "gold", **guests[number]}} if guests else {})
        taken = replace(taken, monotonic=5.0 * number)
        summary.add(Report(number, taken.time, "enforce", taken, (), (), (), (), (), 0.01))
    return summary


def test_what_guests_were_sold_and_do_not_hold_is_of_the_time_in_which_it_was_known() -> None:
    summary = summed(
        [{}] * 4,
        [{"balloon_max": 4 * GIB, **held} for held in ({"rss": 3 * GIB}, {"rss": GIB / 2, "host_swap": GIB / 2}, {"rss": 5 * GIB}, {})],
    )
    assert dict(summary.rows())["unbacked guest memory, on average"] == "1.50 GiB"
    assert summary.unbacked.most == 3 * GIB


SOLD: Mapping[str, Value] = {"balloon_max": 4 * GIB, "mem_promised": GIB}


def test_programs_that_were_killed_stay_so_when_the_guest_does_not_tell_any_more() -> None:
    told: Sequence[Mapping[str, Value]] = [
        {**SOLD, "balloon_cur": GIB, **more} for more in ({"guest_oom_kills": 3}, {"guest_oom_kills": None}, {})
    ]
    assert summed([{}] * 3, told).classes["gold"].as_json()["killed"] == 3


def test_a_class_of_guests_of_which_nothing_was_known_is_said_to_be_so() -> None:
    summary = summed([{}] * 2, [SOLD] * 2)
    gold = json.loads(json.dumps(summary.as_json(), allow_nan=False))["classes"]["gold"]
    assert (gold["had_share"], gold["least_share"], gold["killed"]) == (None, None, None)
    headings, row = summary.class_rows()
    shown = dict(zip(headings, row, strict=True))
    assert (shown["had on average"], shown["at least"], shown["killed"]) == ("unknown", "unknown", "unknown")
