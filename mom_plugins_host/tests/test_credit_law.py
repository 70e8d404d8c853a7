"""The law of growth on credit: what always holds."""

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mom_plugins_host.credit.law import Borrower, credit

MIB: Final = 1 << 10

_KIB = st.integers(0, 1 << 32)

_BORROWERS = st.dictionaries(
    st.text(max_size=3), st.builds(Borrower, held=_KIB, promised=_KIB, burst=st.floats(0, 1 << 32), priority=st.floats(0, 100)), max_size=8
)


@given(_KIB, _KIB, _BORROWERS)
def test_allowances_together_are_no_more_than_what_the_host_has_or_has_promised(
    available: int, reserve: int, guests: dict[str, Borrower]
) -> None:
    limits = credit(available, reserve, guests)
    allowed = sum(limits[name] - guest.held for name, guest in guests.items())
    assert allowed <= max(available - reserve, sum(guest.owed for guest in guests.values()), 0)


@given(_KIB, _KIB, _BORROWERS)
def test_no_limit_is_below_what_the_guest_holds_or_was_promised(available: int, reserve: int, guests: dict[str, Borrower]) -> None:
    limits = credit(available, reserve, guests)
    assert all(limits[name] >= max(guest.held, guest.promised) for name, guest in guests.items())


@given(_KIB, _KIB, _KIB, _BORROWERS)
def test_more_available_memory_lowers_no_limit(available: int, more: int, reserve: int, guests: dict[str, Borrower]) -> None:
    before, after = (credit(kib, reserve, guests) for kib in (available, available + more))
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
