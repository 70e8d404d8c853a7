"""The accounts: each sum is what its name says, the parts are the whole, and what is not known is in no sum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mom_core import Decision, Guest, Host, Outcome, Report, Snapshot, Source, Status, Value, as_number
from mom_plugins_record.report.accounts import LONGEST_GAP, LOOKS_EACH_CYCLE, Accounts, GuestHour, Touched
from mom_plugins_record.report.spread import bin_of, percentile, upper_edge

GIB = 1 << 20
KNOWN: Mapping[str, Value] = {"balloon_max": 4 * GIB, "balloon_cur": 4 * GIB, "rss": 3 * GIB}


def cycle(
    now: float, guests: Mapping[str, Mapping[str, Value]], host: Mapping[str, Value] | None = None, *, incarnation: str = "1", **more: Any
) -> Report:
    there = {name: Guest(name, name, dict(fields), incarnation=incarnation) for name, fields in guests.items()}
    snapshot = Snapshot(Host("vm", dict(host or {})), there, 1_000_000 * 3600 + now, now, int(now))
    return Report(int(now), snapshot.time, "enforce", snapshot, (), (), more.get("outcomes", ()), (), (), 0.0)


def row_of(accounts: Accounts, name: str = "a") -> GuestHour:
    current = accounts.current()
    assert current is not None
    return next(row for row in current[1] if row.id == name)


def after(*cycles: Report) -> Accounts:
    accounts = Accounts()
    for one in cycles:
        accounts.add(one)
    return accounts


def test_a_size_counts_for_the_time_for_which_it_stood() -> None:
    row = row_of(after(cycle(0, {"a": KNOWN}), cycle(10, {"a": KNOWN}), cycle(15, {"a": {**KNOWN, "balloon_cur": 3 * GIB}})))
    assert row.seconds == 15
    assert row.sold_kib_seconds == 15 * 4 * GIB
    assert row.had_kib_seconds == 10 * 4 * GIB + 5 * 3 * GIB
    assert row.ballooned_kib_seconds == 5 * GIB


def test_what_a_guest_once_held_and_holds_no_more_was_given_back_by_a_sweep_once_it_has_its_room_again() -> None:
    held_less = {**KNOWN, "rss": 1 * GIB}
    row = row_of(after(cycle(0, {"a": KNOWN}), cycle(10, {"a": KNOWN}), cycle(20, {"a": held_less})))
    assert row.by_sweeps_kib_seconds == 10 * 2 * GIB
    assert row.by_balloon_kib_seconds == 0


def test_what_stays_away_while_the_balloon_holds_it_was_given_back_by_the_balloon() -> None:
    held_less = {**KNOWN, "rss": 1 * GIB, "balloon_cur": 3 * GIB}
    row = row_of(after(cycle(0, {"a": KNOWN}), cycle(10, {"a": KNOWN}), cycle(20, {"a": held_less})))
    assert row.by_balloon_kib_seconds == 10 * 1 * GIB
    assert row.by_sweeps_kib_seconds == 10 * 1 * GIB


def test_what_a_guest_never_touched_was_given_back_by_no_means() -> None:
    small = {**KNOWN, "balloon_cur": 2 * GIB, "rss": GIB}
    row = row_of(after(cycle(0, {"a": small}), cycle(10, {"a": small})))
    assert row.by_balloon_kib_seconds == row.by_sweeps_kib_seconds == 0
    assert row.ballooned_kib_seconds == 10 * 2 * GIB


def test_a_guest_that_is_started_anew_has_touched_nothing_yet() -> None:
    little = {**KNOWN, "rss": GIB // 2}
    row = row_of(after(cycle(0, {"a": KNOWN}), cycle(10, {"a": KNOWN}), cycle(20, {"a": little}, incarnation="2")))
    assert row.by_sweeps_kib_seconds == 0


@pytest.mark.parametrize(("incarnation", "given"), [("1", 10 * GIB), ("0", 0)])
def test_what_a_guest_has_touched_is_known_after_a_restart_of_mom_and_not_after_one_of_the_guest(incarnation: str, given: int) -> None:
    accounts = Accounts({"a": Touched(incarnation, 4.0 * GIB)})
    accounts.add(cycle(0, {"a": KNOWN}))
    accounts.add(cycle(10, {"a": KNOWN}))
    assert row_of(accounts).by_sweeps_kib_seconds == given


def test_what_the_host_has_swapped_out_is_not_given_back_by_a_sweep() -> None:
    swapped = {**KNOWN, "rss": 1 * GIB, "host_swap": 2 * GIB}
    row = row_of(after(cycle(0, {"a": KNOWN}), cycle(10, {"a": KNOWN}), cycle(20, {"a": swapped})))
    assert row.by_sweeps_kib_seconds == row.by_balloon_kib_seconds == 0
    assert row.swapped_kib_seconds == 10 * 2 * GIB


def test_where_guests_do_not_say_what_of_them_is_swapped_out_all_of_the_hosts_swap_counts_as_theirs() -> None:
    less = {**KNOWN, "rss": 1 * GIB}
    accounts = after(cycle(0, {"a": KNOWN}), cycle(10, {"a": less}, {"swap_usage": 2 * GIB}))
    assert row_of(accounts).by_sweeps_kib_seconds == 0


@pytest.mark.parametrize(("ratio", "given"), [(None, 2.0), (4.0, 1.5), (1.0, 0.0), (0.0, 0.0)])
def test_of_cold_memory_that_is_compressed_on_the_host_only_the_gain_was_given_back(ratio: float | None, given: float) -> None:
    moved = {**KNOWN, "rss": 1 * GIB, "host_swap": 2 * GIB, "offloaded": 3 * GIB}
    row = row_of(after(cycle(0, {"a": KNOWN}), cycle(10, {"a": KNOWN}), cycle(20, {"a": moved}, {"offload_ratio": ratio})))
    assert row.by_cold_kib_seconds == 10 * given * GIB


def test_what_the_kernel_has_swapped_out_without_mom_is_none_of_moms() -> None:
    swapped = {**KNOWN, "rss": 1 * GIB, "host_swap": 2 * GIB, "offloaded": GIB}
    row = row_of(after(cycle(0, {"a": KNOWN}), cycle(10, {"a": swapped})))
    assert row.by_cold_kib_seconds == 10 * GIB


@pytest.mark.parametrize("missing", ["balloon_max", "balloon_cur", "rss"])
def test_the_time_of_a_guest_whose_sizes_are_unknown_is_unknown_and_in_no_sum(missing: str) -> None:
    fields = {name: value for name, value in KNOWN.items() if name != missing}
    row = row_of(after(cycle(0, {"a": fields}), cycle(10, {"a": fields})))
    assert (row.seconds, row.unknown_seconds, row.sold_kib_seconds) == (0, 10, 0)


def test_a_field_of_another_type_is_unknown_and_keeps_no_other_guest_from_its_account() -> None:
    odd = {**KNOWN, "rss": "a lot"}
    accounts = after(cycle(0, {"a": odd, "b": KNOWN}), cycle(10, {"a": odd, "b": KNOWN}))
    assert row_of(accounts, "a").unknown_seconds == 10
    assert row_of(accounts, "b").seconds == 10


def test_the_time_in_which_mom_was_away_is_unknown() -> None:
    accounts = after(cycle(0, {"a": KNOWN}), cycle(LONGEST_GAP + 1, {"a": KNOWN}), cycle(LONGEST_GAP + 6, {"a": KNOWN}))
    current = accounts.current()
    assert current is not None
    assert (current[0].seconds, current[0].unknown_seconds) == (5, LONGEST_GAP + 1)
    assert row_of(accounts).seconds == 5


def test_waiting_counts_as_moms_only_while_mom_holds_something_back() -> None:
    waits = {**KNOWN, "guest_psi_memory_some_avg10": 20.0}
    shrunk = {**waits, "balloon_cur": 3 * GIB}
    row = row_of(after(cycle(0, {"a": waits}), cycle(10, {"a": waits}), cycle(20, {"a": shrunk}), cycle(30, {"a": shrunk})))
    assert row.waited_seconds == pytest.approx(6)
    assert row.waited_for_mom_seconds == pytest.approx(4)
    assert row.late_bursts == 1


def test_waiting_that_no_guest_tells_of_is_unknown() -> None:
    assert row_of(after(cycle(0, {"a": KNOWN}), cycle(10, {"a": KNOWN}))).waiting_known_seconds == 0


def test_programs_that_were_killed_before_mom_came_are_not_counted() -> None:
    row = row_of(after(*(cycle(n, {"a": {**KNOWN, "guest_oom_kills": kills}}) for n, kills in enumerate((7, 7, 9)))))
    assert row.killed == 2


def test_a_promise_is_broken_for_as_long_as_the_guest_has_less() -> None:
    kept, broken = {**KNOWN, "mem_promised": 4 * GIB}, {**KNOWN, "mem_promised": 4 * GIB, "balloon_cur": 3 * GIB}
    row = row_of(after(cycle(0, {"a": kept}), cycle(10, {"a": kept}), cycle(13, {"a": broken})))
    assert (row.promise_kept_seconds, row.promise_broken_seconds) == (10, 3)


def test_empty_pages_that_ksm_has_replaced_are_not_counted_twice() -> None:
    host = {"ksm_saved": 1000, "ksm_zero_pages": 100, "page_size": 4}
    current = after(cycle(0, {}, host), cycle(10, {}, host)).current()
    assert current is not None
    assert current[0].ksm_kib_seconds == 10 * (1000 - 400)


def test_guests_that_had_to_go_are_counted_once_they_went() -> None:
    entity = Guest("a", "a").entity
    outcomes = [
        Outcome(Decision(entity, "guest_pause", 1, "", Source("x")), 0, 1, Status.APPLIED),
        Outcome(Decision(entity, "guest_save", 1, "", Source("x")), 0, 0, Status.FAILED),
        Outcome(Decision(entity, "guest_pause", 0, "", Source("x")), 1, 0, Status.APPLIED),
    ]
    current = after(cycle(0, {}), cycle(5, {}, outcomes=outcomes)).current()
    assert current is not None
    assert current[0].evictions == 1


def test_each_hour_has_its_own_rows_and_a_guest_that_has_left_keeps_its_own() -> None:
    accounts = after(*(cycle(n, {"a": KNOWN, "b": KNOWN}) for n in range(3590, 3600, 5)))
    for now in (3600, 3605):
        accounts.add(cycle(now, {"a": KNOWN}))
    (over,) = accounts.take()
    assert {row.id: row.seconds for row in over[1]} == {"a": 5, "b": 5}
    current = accounts.current()
    assert current is not None
    assert {row.id: row.seconds for row in current[1]} == {"a": 10}
    assert accounts.take() == []


def test_of_many_guests_each_is_looked_at_in_turn_and_none_of_the_time_is_lost() -> None:
    many = {f"g{n}": KNOWN for n in range(2 * LOOKS_EACH_CYCLE)}
    accounts = after(*(cycle(n * 5, many) for n in range(9)))
    current = accounts.current()
    assert current is not None
    looked = {row.id: row.seconds for row in current[1]}
    assert set(looked) == set(many)
    assert set(looked.values()) <= {35, 40}


amounts = st.one_of(st.none(), st.integers(0, 64 * GIB))


@given(
    st.lists(
        st.fixed_dictionaries(dict.fromkeys(("balloon_max", "balloon_cur", "rss", "host_swap", "mem_usable", "offloaded"), amounts)),
        min_size=2,
        max_size=8,
    )
)
def test_the_parts_of_what_was_sold_are_the_whole_and_no_gigabyte_is_given_back_twice(looks: list[dict[str, Value]]) -> None:
    row = row_of(after(*(cycle(10 * n, {"a": fields}) for n, fields in enumerate(looks))))
    parts = row.held_kib_seconds + row.swapped_kib_seconds + row.ballooned_kib_seconds + row.untaken_kib_seconds - row.beyond_kib_seconds
    assert parts == pytest.approx(row.sold_kib_seconds, abs=1)
    assert row.seconds + row.unknown_seconds == 10 * (len(looks) - 1)
    touched = max(sum(as_number(look[name]) or 0 for name in ("rss", "host_swap")) for look in looks)
    given = row.by_balloon_kib_seconds + row.by_sweeps_kib_seconds + row.by_cold_kib_seconds
    assert 0 <= row.by_cold_kib_seconds <= row.swapped_kib_seconds
    assert given + row.held_kib_seconds <= touched * row.seconds + 1


@given(st.floats(1, 1e12))
def test_a_size_is_in_its_bin(kib: float) -> None:
    edge = upper_edge(bin_of(kib))
    assert kib <= edge * (1 + 1e-9)
    assert edge <= kib * 1.0443


def test_a_percentile_is_where_so_much_of_the_time_has_passed() -> None:
    spread = {bin_of(GIB): 95.0, bin_of(2 * GIB): 5.0}
    assert percentile(spread, 0.95) == upper_edge(bin_of(GIB))
    assert percentile(spread, 0.96) == upper_edge(bin_of(2 * GIB))
    assert percentile({}, 0.5) is None


def test_what_is_given_back_now_is_that_of_the_last_cycle() -> None:
    host = {"ksm_saved": 1000}
    accounts = after(cycle(0, {"a": KNOWN}, host), cycle(5, {"a": {**KNOWN, "rss": GIB}}, host))
    now = accounts.given_back()
    assert now is not None
    assert (now.balloon, now.sweeps, now.cold, now.ksm, now.guests) == (0, 2 * GIB, 0, 1000, 1)
    assert Accounts().given_back() is None
