"""Guests' past days: stored by the half hour, small, and unchanged after a restart."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mom_core import MomError, StateFile
from mom_plugins_record.forecast.curve import SLOTS, Calendar, GuestDays
from mom_plugins_record.forecast.files import FILE, LEARNED, content_of, days_from, past_in
from mom_plugins_record.forecast.host_days import HostDays, KnownGuest
from mom_plugins_record.forecast.past import MOST_DAYS, PARTS, GuestPast

GIB = 1 << 20
FIRST = date(2024, 9, 2)
INDEX = (FIRST.toordinal() - date(1970, 1, 1).toordinal()) * SLOTS
SECONDS = INDEX // SLOTS * 86_400.0 + 43_200.0
"""Noon of the first day, in seconds since the epoch."""


def seen(*slots: tuple[int, float], sold: float | None = 4 * GIB) -> GuestPast:
    """Return a guest with these peaks in slots, counted from the first day's first."""
    past = GuestPast()
    for slot, most in slots:
        past.take_in(INDEX + slot, most, sold)
    return past


def host_of(**pasts: GuestPast) -> HostDays:
    """Return a host with these guests, keyed by ID."""
    days = HostDays(Calendar(offset=lambda _: 0.0))
    days.host_name, days.host_kib, days.promisable_kib = "kvm-07", 64 * GIB, 60 * GIB
    for identity, past in pasts.items():
        days.known[identity] = KnownGuest(identity, f"the {identity}", GuestDays(days.calendar), SECONDS, past)
    return days


def kept(past: GuestPast) -> dict[str, Any]:
    """Return the stored content."""
    content: dict[str, Any] = json.loads(json.dumps(content_of(host_of(u1=past))))
    return content


def again(past: GuestPast) -> GuestPast:
    """Return the guest after a restart."""
    return days_from(kept(past)).known["u1"].past


def test_a_day_is_by_half_hours_what_was_used_at_most_in_them() -> None:
    days = again(seen((0, GIB), (1, 2 * GIB), (2, 0.0), (SLOTS + 95, 9 * GIB))).days()
    assert list(days) == [FIRST.toordinal(), FIRST.toordinal() + 1]
    first = days[FIRST.toordinal()]
    assert len(first) == PARTS
    assert first[0] == pytest.approx(2 * GIB, rel=0.01)
    assert first[1:] == [0.0, *[None] * (PARTS - 2)]
    assert days[FIRST.toordinal() + 1][-1] == 4 * GIB, "no more than it was sold"


def test_hotplugged_memory_keeps_the_use_of_that_day() -> None:
    past = seen((0, GIB), (2, 4 * GIB))
    past.take_in(INDEX + 4, 7 * GIB, 8 * GIB)
    past.take_in(INDEX + 6, 3 * GIB, 4 * GIB)
    ((first, second, third, fourth, *rest),) = again(past).days().values()
    assert [first, second, third, fourth] == pytest.approx([GIB, 4 * GIB, 7 * GIB, 3 * GIB], rel=0.04)
    assert set(rest) == {None}


@given(most=st.one_of(st.just(0.0), st.floats(1, 4 * GIB)))
def test_no_use_is_kept_as_less_than_it_was(most: float) -> None:
    (found, *_) = seen((0, most)).days()[FIRST.toordinal()]
    assert found is not None
    assert most * (1 - 1e-6) <= found <= most + 4 * GIB / 248


def test_what_is_older_than_the_last_eight_weeks_is_dropped() -> None:
    past = seen(*((SLOTS * day, GIB) for day in range(MOST_DAYS + 5)), (0, 3 * GIB))
    assert list(past.days()) == [FIRST.toordinal() + day for day in range(5, MOST_DAYS + 5)]
    assert len(json.dumps(kept(past)["guests"])) < 8192


def test_largest_memory_of_qemu_itself_is_kept() -> None:
    past = seen((0, GIB))
    for kib in (90_000, 70_000, None):
        past.see_process(kib, 4)
    found, other = again(past), seen((SLOTS, GIB))
    other.merge(found)
    for one in (found, other):
        assert (one.qemu_kib, one.vcpus) == (90_000, 4)


BROKEN: list[tuple[str, object]] = [
    ("day", "24h"), ("day", None), ("margin", -1.0), ("host_kib", float("nan")), ("guests", None), ("guests", [[]]),
    ("guests", [None] * 10_001), ("guests.0.id", 7), ("guests.0.days.slots", -4), ("guests.0.days.by_day", "AAAA"),
    ("guests.0.days.last", "no base64 ü"), ("guests.0.days.losses", [1.0] * 4),
    ("guests.0.days.wrong.1", 1e300), ("guests.0.past.ordinals.0", 10**9), ("guests.0.past.ordinals", [1, 2]),
    ("guests.0.past.used", "AAAA"), ("guests.0.past.sold.0", -1), ("guests.0.past.qemu_kib", 10**400),
]  # fmt: skip


@pytest.mark.parametrize(("place", "value"), BROKEN)
def test_what_mom_has_not_written_is_refused(place: str, value: object) -> None:
    content: Any = kept(seen((0, GIB)))
    *path, last = (int(part) if part.isdigit() else part for part in place.split("."))
    holder = content
    for part in path:
        holder = holder[part]
    assert holder[last] is not None
    holder[last] = value
    with pytest.raises((ValueError, TypeError, LookupError)):
        days_from(content)


@pytest.mark.parametrize("sold", [None, 0.5, 1e15])
def test_a_size_that_cannot_be_teaches_nothing(sold: float | None) -> None:
    assert kept(seen((0, GIB), sold=sold))["guests"] == []


def test_merge_prefers_the_better_known_day() -> None:
    own, other = seen((2 * SLOTS, GIB), (3 * SLOTS, GIB)), seen((0, 2 * GIB), (2 * SLOTS, 2 * GIB), (2 * SLOTS + 4, 3 * GIB))
    other.take_in(INDEX + 3 * SLOTS, 3 * GIB, 4 * GIB)
    host, nobody, more = host_of(u1=own), HostDays(Calendar()), host_of(u1=other, u2=seen((0, GIB), sold=8 * GIB))
    for one in (host, nobody):
        one.merge(more)
    assert (nobody.host_name, nobody.host_kib, nobody.promisable_kib) == ("kvm-07", 64 * GIB, 60 * GIB)
    assert nobody.known == more.known
    days = {day - FIRST.toordinal(): used for day, used in again(own).days().items()}
    assert {day: used[0] for day, used in days.items()} == pytest.approx({0: 2 * GIB, 2: 2 * GIB, 3: GIB}, rel=0.02)
    assert days[2][2] == pytest.approx(3 * GIB, rel=0.01)
    assert host.known["u2"].name == "the u2"


def test_past_days_of_this_and_other_hosts_are_found(tmp_path: Path) -> None:
    folder, file = tmp_path / "forecast", tmp_path / "forecast" / FILE
    with pytest.raises(MomError, match="there is no daily memory use of guests"):
        past_in(folder)
    StateFile(file, "days", days_from).write(kept(seen((0, GIB))))
    StateFile(file.with_name(LEARNED), "days", days_from).write(kept(seen((SLOTS, GIB))))
    for found, days in ((past_in(folder), 2), (past_in(file), 1)):  # with days learned from recordings, and without
        assert (found.host, found.host_kib, found.promisable_kib) == ("kvm-07", 64 * GIB, 60 * GIB)
        assert [(one.sold_kib, len(one.days)) for one in found.guests] == [(4 * GIB, days)]
