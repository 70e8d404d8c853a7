"""How much memory can be sold at a given risk, from guests' days."""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date

import pytest

from mom_core import MomError, format_kib
from mom_plugins_record.advise.command import QemuMemory, lines_of, rows, sold_on
from mom_plugins_record.advise.ratio import SoldAtRisk, month_risk, needed_kib, sold_at_risk
from mom_plugins_record.forecast.past import PastGuest, PastHost

GIB = 1 << 20
MONDAY = date(2024, 9, 2).toordinal()
CENTURY = 36_525
"""Days since the epoch, in the far future."""

PARTS = 8
SOLD = 4 * GIB
HOST = 60 * GIB


def learned(*uses: Callable[[int, int], float | None], days: int = 28, sold: float = SOLD) -> list[PastGuest]:
    """Return guests with this use (GiB), from day and part of the day."""

    def day(use: Callable[[int, int], float | None], number: int) -> Sequence[float | None]:
        return [None if (gib := use(number, part)) is None else gib * GIB for part in range(PARTS)]

    return [PastGuest(sold, {MONDAY + number: day(use, number) for number in range(days)}) for use in uses]


def sold(guests: Sequence[PastGuest], risk: float = 0.01) -> float:
    found = sold_at_risk(guests, HOST, risk=risk)
    assert isinstance(found, SoldAtRisk), found
    return found.sold_kib / HOST


def always(gib: float) -> Callable[[int, int], float]:
    return lambda day, part: gib


@pytest.mark.parametrize("parts", [PARTS // 2, PARTS - 1])
def test_a_day_that_is_not_over_changes_nothing(parts: int) -> None:
    def busy_at_night(seed: int) -> Callable[[int, int], float]:
        return lambda day, part: uneven(seed, 0.05)(day, part) * (1.0 if part == PARTS - 1 else 0.3)

    whole = learned(*[busy_at_night(seed) for seed in range(10)])
    today = MONDAY + 28
    begun = [replace(one, days={**one.days, today: [0.3 * GIB] * parts + [None] * (PARTS - parts)}) for one in whole]
    assert sold_at_risk(begun, HOST) == sold_at_risk(whole, HOST)


def by_turns(first: bool) -> Callable[[int, int], float]:
    return lambda day, part: 3.0 if (part < PARTS // 2) is first else 0.5


def uneven(seed: int, spread: float = 0.3) -> Callable[[int, int], float]:
    return lambda day, part: max(0.1, random.Random(f"{seed} {day} {part}").gauss(1.5, spread))  # noqa: S311  # days, not secrets


def together(seed: int, spread: float = 0.3) -> Callable[[int, int], float]:
    return lambda day, part: max(0.1, random.Random(f"{day} {part}").gauss(1.5, spread))  # noqa: S311  # as above


def test_of_guests_that_always_use_the_same_as_many_fit_as_fit() -> None:
    ratio = SOLD / needed_kib(2 * GIB, SOLD)
    assert ratio - 0.04 <= sold(learned(*[always(2)] * 10)) <= ratio


def test_guests_that_take_turns_share_memory() -> None:
    apart = sold(learned(*[by_turns(first=number % 2 == 0) for number in range(20)]))
    assert apart > 1.25 * sold(learned(*[by_turns(first=True)] * 20))


def test_what_moves_guests_together_is_not_averaged_away() -> None:
    assert sold(learned(*map(together, range(20)))) < 0.9 * sold(learned(*map(uneven, range(20))))


def test_working_days_count_though_most_days_are_idle() -> None:
    busy = sold(learned(*[lambda day, part: 3.0 if day % 7 < 5 else 0.5] * 20))
    assert busy <= SOLD / needed_kib(3 * GIB, SOLD)
    assert busy > sold(learned(*[lambda day, part: 3.6 if day % 7 == 6 else 0.5] * 20))


def test_unknown_parts_and_days_are_filled_in() -> None:
    whole = learned(*[lambda day, part: 1.0 + part / PARTS] * 10)
    holes = learned(*[lambda day, part: None if part in {0, 1} and day > 3 else 1.0 + part / PARTS] * 10)
    assert sold(holes) == pytest.approx(sold(whole), abs=0.03)
    gone = [replace(one, days={day: used for day, used in one.days.items() if place > 3 or day % 5}) for place, one in enumerate(whole)]
    assert sold(gone) == pytest.approx(sold(whole), abs=0.03)


@pytest.mark.parametrize(
    ("guests", "capacity", "why"),
    [
        (learned(always(1), days=13), HOST, "13 days are known for at least half of the guests, and 14 are needed"),
        ([], HOST, "0 days are known"),
        (learned(lambda day, part: None), HOST, "0 days are known"),
        (learned(always(1)), 0, "the host has no memory for guests"),
    ],
)
def test_too_little_gives_no_number(guests: Sequence[PastGuest], capacity: float, why: str) -> None:
    found = sold_at_risk(guests, capacity)
    assert isinstance(found, str)
    assert why in found


def test_the_risk_of_a_month_is_that_of_its_days() -> None:
    drawn = random.Random(7)  # noqa: S311  # as above

    def peak() -> float:  # Gumbel's distribution
        return 0.7 - 0.05 * math.log(-math.log(drawn.random()))

    months = [max(peak() for _ in range(30)) for _ in range(4000)]
    for capacity in (0.9, 1.0):
        seen = sum(one > capacity for one in months) / len(months)
        assert month_risk([[peak() / capacity for _ in range(20_000)]]) == pytest.approx(seen, rel=0.15, abs=0.01)


def of_host(guests: Sequence[PastGuest]) -> PastHost:
    """Return a host of 64 GiB."""
    return PastHost("kvm-07", 64 * GIB, 60 * GIB, guests)


class TestWhatIsSaid:
    def test_of_a_host_and_what_is_to_be_set_where(self) -> None:
        host = sold_on(of_host(learned(*[always(2)] * 10)), 0.01)
        ratio = host.ratio or 0.0
        assert (host.ratio_today, host.guests) == (round(40 / 60, 2), 10)
        assert host.result is not None
        could = format_kib(host.result.sold_kib)
        assert f"kvm-07: {could} can be sold, {ratio:.2f} times the 60.00 GiB for guests: " in "".join(lines_of(host, 0.01))
        assert "at most 1 % (95 % confidence" in "".join(lines_of(host, 0.01))
        assert [(where, most, today) for where, _, most, today in rows(host)] == [
            ("OpenStack nova", f"{ratio:.2f}", "0.67"), ("KubeVirt", f"{100 * ratio:.0f}", "67"),
            ("Apache CloudStack", f"{ratio:.2f}", "0.67"), ("Proxmox VE", could, "40.00 GiB"),
        ]  # fmt: skip
        assert host.reserved_mib == 4096

    def test_of_qemus_own_memory_and_what_is_to_be_set(self) -> None:
        sizes, vcpus = [40, 100, 400], [1, 4, 2]
        guests = [
            replace(one, qemu_kib=mib * 1024.0, vcpus=count)
            for one, mib, count in zip(learned(*[always(2)] * 3), sizes, vcpus, strict=True)
        ]
        host = sold_on(of_host([*guests, *learned(always(2))]), 0.01)
        assumed = 30 + 8 + 32 + 2 * 8
        pod = 4096 / 512 + 25 + 100 + 25 + 40 + assumed
        ratio = math.ceil(100 * (pod + 400 - assumed) / pod) / 100
        assert host.qemu == QemuMemory(3, 100 * 1024, 400 * 1024, ratio, 400 - assumed)
        assert f"{ratio:.2f}" in {possible for _, name, possible, _ in rows(host) if name == "additionalGuestMemoryOverheadRatio"}
        assert "QEMU itself holds 100 MiB (median) to 400 MiB on top of a guest's memory, as measured for 3 guests" in lines_of(host, 0.01)
        calm = sold_on(of_host([guests[0]]), 0.01).qemu
        assert calm is not None
        assert (calm.overhead_ratio, calm.reserved_mib) == (1.0, 0), "less than KubeVirt assumes"

    def test_guests_that_are_gone_are_not_sold_today(self) -> None:
        guests = learned(*[always(2)] * 10)
        gone = replace(guests[0], days={day: used for day, used in guests[0].days.items() if day < MONDAY + 20})
        assert sold_on(of_host([gone, *guests[1:]]), 0.01).sold_today_kib == 36 * GIB

    def test_stray_future_day_leaves_all_guests_present(self) -> None:
        guests = learned(*[always(2)] * 10)
        stray = {MONDAY + CENTURY: [float(GIB), *[None] * (PARTS - 1)]}
        ahead = [replace(one, days={**one.days, **stray}) for one in guests[:3]]
        host = sold_on(of_host([*ahead, *guests[3:]]), 0.01)
        assert (host.guests, host.sold_today_kib) == (10, 40 * GIB)
        gone = replace(ahead[0], days={day: used for day, used in ahead[0].days.items() if not MONDAY + 20 <= day < MONDAY + 28})
        assert sold_on(of_host([gone, *guests[1:]]), 0.01).guests == 9, "but those that are gone"

    def test_what_a_host_keeps_where_its_mom_has_not_said_it(self) -> None:
        known = replace(of_host(learned(*[always(2)] * 10)), promisable_kib=None)
        assert sold_on(known, 0.01).for_guests_kib == pytest.approx(0.95 * 64 * GIB)
        with pytest.raises(MomError, match="the memory of kvm-07 was unknown"):
            sold_on(replace(known, host_kib=None), 0.01)
