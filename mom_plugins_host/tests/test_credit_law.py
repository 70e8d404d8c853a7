"""The law of growth on credit: what always holds."""

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mom_plugins_host.credit.law import Borrower, credit

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


@pytest.mark.parametrize(("available", "slip"), [(2000, 0.0125), (150, 0.059375), (100, 0.2), (10, 0.2)])
def test_without_swap_limits_allow_for_what_guests_grow_beyond_them(available: int, slip: float) -> None:
    for guest in (Borrower(1000 * MIB), Borrower(1000 * MIB, limit=900 * MIB)):
        plain = credit(available * MIB, 100 * MIB, {"a": Borrower(1000 * MIB)})
        assert credit(available * MIB, 100 * MIB, {"a": guest}, slips=True)["a"] == pytest.approx(plain["a"] / (1 + slip), abs=1)


def test_growth_beyond_a_limit_does_not_raise_it() -> None:
    assert credit(50 * MIB, 100 * MIB, {"a": Borrower(1000 * MIB, limit=990 * MIB)}) == {"a": 990 * MIB}
