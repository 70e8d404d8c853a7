"""Properties of the law of growth on credit."""

from collections.abc import Collection, Mapping
from itertools import cycle
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mom_core import HypervisorError
from mom_plugins_host.credit.limiter import Borrower, GrowthLimiter, credit

MIB: Final = 1 << 10

_KIB = st.integers(0, 1 << 32)

_BORROWER = st.builds(
    Borrower, held=_KIB, promised=_KIB, burst=st.floats(0, 1 << 32), priority=st.floats(0, 100), limit=st.none() | st.integers(0, 1 << 32)
)
_BORROWERS = st.dictionaries(st.text(max_size=3), _BORROWER, max_size=8)


@given(_KIB, _KIB, _BORROWERS, st.booleans())
def test_allowances_together_are_no_more_than_what_the_host_has_or_has_promised(
    available: int, reserve: int, guests: dict[str, Borrower], slips: bool
) -> None:
    limits = credit(available, reserve, guests, slips=slips)
    allowed = sum(limits[name] - guest.held for name, guest in guests.items())
    assert allowed <= max(available - reserve, sum(guest.owed for guest in guests.values()), 0)


@given(_KIB, _KIB, _BORROWERS)
def test_no_limit_is_below_what_the_guest_may_hold_or_was_promised(available: int, reserve: int, guests: dict[str, Borrower]) -> None:
    limits = credit(available, reserve, guests)
    for name, guest in guests.items():
        may_hold = guest.held if guest.limit is None else min(guest.held, guest.limit)
        assert limits[name] >= max(may_hold, guest.promised)


@given(_KIB, _KIB, _BORROWERS)
def test_without_swap_limits_are_lower_but_keep_promises(available: int, reserve: int, guests: dict[str, Borrower]) -> None:
    limits = credit(available, reserve, guests, slips=True)
    assert all(limits[name] >= max(int(guest.held / 1.2), guest.promised) for name, guest in guests.items())


@given(_KIB, _KIB, _KIB, _BORROWERS, st.booleans())
def test_more_available_memory_lowers_no_limit(available: int, more: int, reserve: int, guests: dict[str, Borrower], slips: bool) -> None:
    before, after = (credit(kib, reserve, guests, slips=slips) for kib in (available, available + more))
    assert all(after[name] >= limit for name, limit in before.items())


def test_a_guest_below_its_guarantee_gets_its_part_first() -> None:
    limits = credit(1000 * MIB, 100 * MIB, {"promised": Borrower(200 * MIB, promised=1000 * MIB), "other": Borrower(300 * MIB)})
    assert limits["promised"] - 1000 * MIB == limits["other"] - 300 * MIB == 50 * MIB


@pytest.mark.parametrize(
    ("first", "second", "ratio"),
    [(Borrower(0, burst=512 * MIB), Borrower(0), 32), (Borrower(0, priority=100), Borrower(0, priority=0), 11)],
)
def test_allowances_follow_bursts_and_priorities(first: Borrower, second: Borrower, ratio: float) -> None:
    limits = credit(1000 * MIB, 0, {"first": first, "second": second})
    assert limits["first"] / limits["second"] == pytest.approx(ratio, rel=1e-4)


@pytest.mark.parametrize(("available", "slip"), [(2000, 0.02157), (150, 0.07172), (100, 0.2), (10, 0.2)])
def test_without_swap_limits_allow_for_what_guests_grow_beyond_them(available: int, slip: float) -> None:
    for guest in (Borrower(1000 * MIB), Borrower(1000 * MIB, limit=900 * MIB)):
        plain = credit(available * MIB, 100 * MIB, {"a": Borrower(1000 * MIB)})
        assert credit(available * MIB, 100 * MIB, {"a": guest}, slips=True)["a"] == pytest.approx(plain["a"] / (1 + slip), rel=1e-5)


def test_growth_beyond_a_limit_does_not_raise_it() -> None:
    assert credit(50 * MIB, 100 * MIB, {"a": Borrower(1000 * MIB, limit=990 * MIB)}) == {"a": 990 * MIB}


class HostWithoutSwap:
    """`GrowthControl` of six guests that fill memory as fast as they can. Linux delays guests beyond their limits after each 256 KiB."""

    PART_KIB: Final = 256
    MIB_PER_SECOND: Final = 300
    READ_SECONDS: Final = 0.02
    """Time between two readings of mom, which may wait for a CPU."""

    def __init__(self, total_mib: int) -> None:
        self.total, self.now = total_mib * MIB, 0.0
        self.held = dict.fromkeys("abcdef", 8 * MIB)
        self.most = 1.5 * self.total / len(self.held)
        self.limits: dict[str, int | None] = dict.fromkeys(self.held)
        self.wakes = dict.fromkeys(self.held, 0.0)

    @property
    def left(self) -> int:
        return self.total - sum(self.held.values())

    def available_kib(self) -> int:
        self.run(self.READ_SECONDS)
        return self.left

    def slips(self) -> bool:
        return True

    def held_kib(self, guests: Collection[str]) -> Mapping[str, int]:
        self.run(self.READ_SECONDS)
        return {name: self.held[name] for name in guests}

    def slowed(self, guests: Collection[str]) -> Mapping[str, int]:
        return dict.fromkeys(guests, int(self.now * 1000))

    def limit_growth(self, limits: Mapping[str, int | None]) -> Mapping[str, HypervisorError]:
        self.limits |= limits
        return {}

    def watch_growth(self, look: object) -> None:
        """Not called: the test calls `look`."""

    def run(self, seconds: float) -> None:
        end, step = self.now + seconds, 0.01
        while self.now < end:
            self.now += step
            for name, wakes in self.wakes.items():
                for _ in range(int(self.MIB_PER_SECOND * MIB * step / self.PART_KIB) if wakes <= self.now else 0):
                    self.held[name] += self.PART_KIB * (self.held[name] < self.most)
                    limit = self.limits[name]
                    delay = 0.0 if limit is None else min(2.0, 64 * max(0.0, self.held[name] / limit - 1) ** 2)
                    if delay > 0.01:
                        self.wakes[name] = self.now + delay
                        break


@pytest.mark.parametrize("late", [0.1, 0.5, 2.0])
@pytest.mark.parametrize("total_mib", [760, 8000])
def test_late_looks_delay_guests_but_do_not_let_them_exhaust_the_host(total_mib: int, late: float) -> None:
    host = HostWithoutSwap(total_mib)
    limiter = GrowthLimiter(host, lambda: host.now)
    pauses = cycle((0.01, late))
    while host.now < 10:
        borrowers = {name: Borrower(kib, most=host.most) for name, kib in host.held.items()}
        limiter.update(borrowers, 0.1 * host.total, 0.02 * host.total)
        limiter.look()
        host.run(next(pauses))
        assert host.left > 0
    assert min(host.held.values()) > host.total / 8, "all go on"
