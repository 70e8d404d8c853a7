"""Accounts: sums are correct, parts add up, and unknown values are in no sum."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mom_core import Condition, Decision, Guest, Host, Outcome, Report, Snapshot, Source, Status, Value, Verdict, as_number
from mom_plugins_record.report.accounts import FIELDS, LONGEST_GAP, Accounts, values_of
from mom_plugins_record.report.hours import GIVEN_BACK, SOLD, AccountedHour, GuestHour, bin_of, percentile, upper_edge

GIB = 1 << 20
KNOWN: Mapping[str, Value] = {"balloon_max": 4 * GIB, "balloon_cur": 4 * GIB, "rss": 3 * GIB}


def cycle(
    now: float, guests: Mapping[str, Mapping[str, Value]], host: Mapping[str, Value] | None = None, *, incarnation: str = "1", **more: Any
) -> Report:
    there = {name: Guest(name, name, dict(fields), incarnation=incarnation) for name, fields in guests.items()}
    snapshot = Snapshot(Host("vm", dict(host or {})), there, 1_000_000 * 3600 + now, now, int(now))
    return Report(int(now), snapshot.time, "enforce", snapshot, (), (), more.get("outcomes", ()), (), (), 0.0)


def current_of(accounts: Accounts) -> tuple[AccountedHour, dict[str, GuestHour]]:
    current = accounts.current()
    assert current is not None
    return current[0], {row.id: row for row in current[1]}


def row_of(accounts: Accounts) -> GuestHour:
    return current_of(accounts)[1]["a"]


NOTHING_KNOWN = dict.fromkeys((*GIVEN_BACK, "given_back_ksm"))


def after(*cycles: Report) -> Accounts:
    accounts = Accounts()
    for one in cycles:
        accounts.add(one)
    return accounts


SWAPPED = {"rss": GIB, "host_swap": 2 * GIB}
MOVED = {**SWAPPED, "offloaded": 3 * GIB}


@pytest.mark.parametrize(
    ("fields", "host", "incarnation", "balloon", "sweeps", "cold"),
    [
        pytest.param({"rss": GIB}, {}, "1", 0, 2, 0, id="swept, with its room again"),
        pytest.param({"rss": GIB, "balloon_cur": 3 * GIB}, {}, "1", 1, 1, 0, id="kept away by the balloon, and swept"),
        pytest.param({"balloon_cur": 3 * GIB}, {}, "1", 0, 0, 0, id="never touched"),
        pytest.param({"rss": GIB}, {}, "2", 0, 0, 0, id="started anew"),
        pytest.param(SWAPPED, {}, "1", 0, 0, 0, id="swapped out by the kernel"),
        pytest.param({"rss": GIB}, {"swap_usage": 2 * GIB}, "1", 0, 0, 0, id="swapped out, which guests do not say"),
        pytest.param({**SWAPPED, "offloaded": GIB}, {}, "1", 0, 0, 1, id="swapped out, by mom in part"),
        pytest.param(MOVED, {}, "1", 0, 0, 2, id="offloaded to a disk"),
        pytest.param(MOVED, {"offload_ratio": 4.0}, "1", 0, 0, 1.5, id="offloaded, compressed to a quarter"),
        pytest.param(MOVED, {"offload_ratio": 1.0}, "1", 0, 0, 0, id="offloaded, and not compressed"),
        pytest.param(MOVED, {"offload_ratio": 0.0}, "1", 0, 0, 0, id="offloaded, with a ratio that is none"),
    ],
)
def test_memory_is_given_back_by_one_means(
    fields: Mapping[str, Value], host: Mapping[str, Value], incarnation: str, balloon: float, sweeps: float, cold: float
) -> None:
    row = row_of(after(cycle(0, {"a": KNOWN}), cycle(10, {"a": {**KNOWN, **fields}}, host, incarnation=incarnation)))
    assert [row.sums[f"{name}_kib_seconds"] for name in GIVEN_BACK] == [10 * gib * GIB for gib in (balloon, sweeps, cold)]


@pytest.mark.parametrize("missing", ["balloon_max", "balloon_cur", "rss"])
def test_time_with_unknown_sizes_is_in_no_sum(missing: str) -> None:
    fields = {name: value for name, value in KNOWN.items() if name != missing}
    row = row_of(after(cycle(0, {"a": fields}), cycle(10, {"a": fields})))
    assert (row.sums["seconds"], row.sums["unknown_seconds"], row.sums["sold_kib_seconds"]) == (0, 10, 0)


def test_the_time_in_which_mom_was_away_is_unknown() -> None:
    accounts = after(cycle(0, {"a": KNOWN}), cycle(LONGEST_GAP + 1, {"a": KNOWN}), cycle(LONGEST_GAP + 6, {"a": KNOWN}))
    host, _ = current_of(accounts)
    assert (host.sums["seconds"], host.sums["unknown_seconds"]) == (5, LONGEST_GAP + 1)
    assert row_of(accounts).sums["seconds"] == 5


UNKNOWN = Verdict([Condition("guests", "the guests are unknown: no answer", plugins=("core",))])


def unlisted(now: float) -> Report:
    """Return a cycle without a list of guests."""
    return replace(cycle(now, {}), verdict=UNKNOWN)


def test_time_without_a_list_is_unknown() -> None:
    there, swept = {"a": KNOWN}, {"a": {**KNOWN, "rss": GIB}}
    accounts = after(cycle(0, there), cycle(10, swept), unlisted(20))
    assert accounts.given_back() == NOTHING_KNOWN, "nothing is known now"
    accounts.add(cycle(30, swept))
    host, rows = current_of(accounts)
    assert (host.sums["seconds"], host.sums["unknown_seconds"], host.most["guests_most"]) == (20, 10, 1)
    assert (rows["a"].sums["seconds"], rows["a"].sums["unknown_seconds"]) == (20, 0)
    assert rows["a"].sums["sold_kib_seconds"] == host.sums["guests_sold_kib_seconds"] == 20 * 4 * GIB
    assert accounts.given_back()["given_back_sweeps"] == 2 * GIB


def test_listed_guests_are_known_despite_the_condition() -> None:
    there = {"a": KNOWN}
    accounts = after(cycle(0, there), unlisted(5), replace(cycle(10, there), verdict=UNKNOWN))
    assert accounts.given_back() == {**dict.fromkeys(GIVEN_BACK, 0), "given_back_ksm": None}
    host, rows = current_of(accounts)
    assert (host.sums["seconds"], host.sums["unknown_seconds"], rows["a"].sums["seconds"]) == (5, 5, 5)


@pytest.mark.parametrize(("incarnation", "sweeps"), [("1", 2 * GIB), ("2", 0)])
@pytest.mark.parametrize("gone", [[3595], [3595, 3605, 7000]], ids=["for a cycle", "for an hour"])
def test_touched_size_survives_absence_at_the_full_hour(incarnation: str, sweeps: int, gone: list[int]) -> None:
    less = {"a": {**KNOWN, "rss": GIB}}
    accounts = after(cycle(3590, {"a": KNOWN}), cycle(3592, less), *(cycle(now, {}) for now in gone))
    for seconds in (10, 15):
        accounts.add(cycle(gone[-1] + seconds, less, incarnation=incarnation))
    assert accounts.given_back()["given_back_sweeps"] == sweeps


def test_touched_size_of_a_departed_guest_is_forgotten() -> None:
    accounts = after(cycle(0, {"a": KNOWN}), *(cycle(600 * n, {}) for n in range(1, 24)), cycle(4 * 3600, {"a": {**KNOWN, "rss": GIB}}))
    assert accounts.given_back()["given_back_sweeps"] == 0


def test_stalls_count_for_mom_only_while_it_holds_memory() -> None:
    waits = {**KNOWN, "guest_psi_memory_some_avg10": 20.0}
    shrunk = {**waits, "balloon_cur": 3 * GIB}
    row = row_of(after(cycle(0, {"a": waits}), cycle(10, {"a": waits}), cycle(20, {"a": shrunk}), cycle(30, {"a": shrunk})))
    assert row.sums["waited_seconds"] == pytest.approx(6)
    assert row.sums["waited_for_mom_seconds"] == pytest.approx(4)


def test_earlier_kills_are_not_counted() -> None:
    row = row_of(after(*(cycle(n, {"a": {**KNOWN, "guest_oom_kills": kills}}) for n, kills in enumerate((7, 7, 9)))))
    assert row.sums["killed"] == 2


def test_a_promise_is_broken_for_as_long_as_the_guest_has_less() -> None:
    kept, broken = {**KNOWN, "mem_promised": 4 * GIB}, {**KNOWN, "mem_promised": 4 * GIB, "balloon_cur": 3 * GIB}
    row = row_of(after(cycle(0, {"a": kept}), cycle(10, {"a": kept}), cycle(13, {"a": broken})))
    assert (row.sums["promise_kept_seconds"], row.sums["promise_broken_seconds"]) == (10, 3)


def test_zero_pages_are_not_counted_as_ksm() -> None:
    host = {"ksm_saved": 1000, "ksm_zero_pages": 100, "page_size": 4}
    assert current_of(after(cycle(0, {}, host), cycle(10, {}, host)))[0].sums["ksm_kib_seconds"] == 10 * (1000 - 400)


def test_guests_that_had_to_go_are_counted_once_they_went() -> None:
    entity = Guest("a", "a").entity
    outcomes = [
        Outcome(Decision(entity, "guest_pause", 1, "", Source("x")), 0, 1, Status.APPLIED),
        Outcome(Decision(entity, "guest_save", 1, "", Source("x")), 0, 0, Status.FAILED),
        Outcome(Decision(entity, "guest_pause", 0, "", Source("x")), 1, 0, Status.APPLIED),
    ]
    assert current_of(after(cycle(0, {}), cycle(5, {}, outcomes=outcomes)))[0].sums["evictions"] == 1


def test_returning_guest_has_one_row() -> None:
    there = {"a": {**KNOWN, "guest_oom_kills": 0}}
    accounts = after(cycle(0, there), cycle(10, there), cycle(20, {}), cycle(30, {"a": {**KNOWN, "guest_oom_kills": 2}}), cycle(35, there))
    current = accounts.current()
    assert current is not None
    (row,) = current[1]
    assert (row.sums["seconds"], row.sums["killed"]) == (15, 2), "and what happened while it was not listed is known by what it counts"


amounts = st.one_of(st.none(), st.integers(0, 64 * GIB))


@given(
    st.lists(
        st.fixed_dictionaries(dict.fromkeys(("balloon_max", "balloon_cur", "rss", "host_swap", "mem_usable", "offloaded"), amounts)),
        min_size=2,
        max_size=8,
    )
)
def test_parts_of_sold_memory_add_up(looks: list[dict[str, Value]]) -> None:
    row = row_of(after(*(cycle(10 * n, {"a": fields}) for n, fields in enumerate(looks))))
    sold, _, held, swapped, ballooned, untaken, beyond, *given_back = (row.sums[f"{name}_kib_seconds"] for name in (*SOLD, *GIVEN_BACK))
    assert held + swapped + ballooned + untaken - beyond == pytest.approx(sold, abs=1)
    assert row.sums["seconds"] + row.sums["unknown_seconds"] == 10 * (len(looks) - 1)
    touched = max(sum(as_number(look[name]) or 0 for name in ("rss", "host_swap")) for look in looks)
    assert 0 <= given_back[-1] <= swapped
    assert sum(given_back) + held <= touched * row.sums["seconds"] + 1


def test_a_percentile_is_where_so_much_of_the_time_has_passed() -> None:
    spread = {bin_of(GIB): 95.0, bin_of(2 * GIB): 5.0}
    assert percentile(spread, 0.95) == upper_edge(bin_of(GIB))
    assert percentile(spread, 0.96) == upper_edge(bin_of(2 * GIB))
    assert percentile({}, 0.5) is None


def test_what_is_given_back_now_is_that_of_the_last_cycle() -> None:
    host = {"ksm_saved": 1000}
    accounts = after(cycle(0, {"a": KNOWN}, host), cycle(5, {"a": {**KNOWN, "rss": GIB}}, host))
    assert [*accounts.given_back().values()] == [0, 2 * GIB, 0, 1000]
    assert Accounts().given_back() == {}
    silent = {name: value for name, value in KNOWN.items() if name != "rss"}
    accounts.add(cycle(10, {"a": silent, "b": KNOWN}, host))
    assert [*accounts.given_back().values()] == [0, 0, 0, 1000], "of those that are known"
    accounts.add(cycle(15, {"a": silent}, host))
    assert accounts.given_back() == {**NOTHING_KNOWN, "given_back_ksm": 1000}
    accounts.add(cycle(20, {}, host))
    assert [*accounts.given_back().values()] == [0, 0, 0, 1000], "without guests, nothing is"


@pytest.mark.parametrize("missing", ["balloon_max", "rss"])
def test_sums_without_sizes_are_unknown(missing: str) -> None:
    silent = {name: value for name, value in KNOWN.items() if name != missing}
    accounts = after(*(cycle(now, {"a": {**silent, "mem_promised": GIB}}) for now in (0, 10)))
    host, _ = current_of(accounts)
    values = values_of(accounts.given_back(), host)
    assert set(values.values()) == {None}
    assert len(values) == len(FIELDS)
