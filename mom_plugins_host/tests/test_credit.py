"""Growth on credit in the plugin `cgroup`: limits follow the host's available memory, and are removed in time."""

from collections.abc import Iterator
from typing import Any, Final

import pytest
from cgroup_fake import MIB, Bench, Cycle

from mom_core import Entity, Host, Status, Value
from mom_devkit import put_back
from mom_plugins_host.credit.control import CREDIT, DELAY

TOTAL, HIGH, LOW = 64 << 20, 1000 * MIB, 200 * MIB

MEMORY_HIGH: Final = "cgroup_memory_high"


@pytest.fixture
def on_credit(bench: Bench) -> Iterator[Bench]:
    """Yield the plugin with `credit: true`, on a host with watermarks."""
    bench.fresh(credit=True)
    bench.context.serves = False  # tests call `look`, instead of a thread
    bench.host = Host(fields={"mem_available": TOTAL, "mem_watermark_high": HIGH, "mem_watermark_low": LOW})
    available(bench, 4 * HIGH)
    yield bench
    bench.plugin.mom_teardown()


def available(bench: Bench, kib: float, swap: int = TOTAL) -> None:
    bench.kernel.host("proc/meminfo", f"MemTotal: {TOTAL} kB\nMemAvailable: {int(kib)} kB\nSwapFree: {swap} kB\n")


def holds(bench: Bench, name: str, kib: float) -> None:
    (bench.kernel.folder(bench.path(name)) / "memory.current").write_text(str(int(kib) << 10))


def limit(bench: Bench, name: str) -> float | None:
    text = bench.kernel.value(bench.path(name), "memory.high")
    return None if text == "max" else int(text) >> 10


def cycle(bench: Bench, *wanted: tuple[Entity, str, Value]) -> Cycle:
    """Run a cycle and then `look`, like the thread."""
    ended = bench.cycle(*wanted)
    bench.plugin._credit.limiter.look()
    return ended


def short(bench: Bench, **guests: float) -> Cycle:
    """Start guests with these KiB, and let the host run short: 600 MiB are available."""
    for name, kib in guests.items():
        bench.add(name, int(kib))
    cycle(bench)
    available(bench, 600 * MIB)
    return cycle(bench)


def test_guests_have_no_limits_while_the_host_has_plenty(on_credit: Bench) -> None:
    on_credit.add("a", 500 * MIB)
    outcome = cycle(on_credit).outcomes["a", CREDIT]
    fields = cycle(on_credit).fields("a")
    assert (outcome.status, outcome.before, outcome.after) == (Status.APPLIED, 0, 1)
    assert (fields[CREDIT], fields[MEMORY_HIGH], limit(on_credit, "a")) == (1, -1, None)


def test_limits_share_out_what_a_short_host_has_beyond_its_reserve(on_credit: Bench) -> None:
    short(on_credit, a=500 * MIB, b=900 * MIB)
    given = [(limit(on_credit, "a") or 0) - 500 * MIB, (limit(on_credit, "b") or 0) - 900 * MIB]
    assert given == [175 * MIB, 175 * MIB]  # of 400 MiB less an eighth
    assert cycle(on_credit).fields("a")[MEMORY_HIGH] == 675 * MIB


def test_without_free_swap_limits_are_lower_as_the_kernel_only_delays_guests_at_their_limit(on_credit: Bench) -> None:
    short(on_credit, a=500 * MIB)
    available(on_credit, LOW)
    on_credit.plugin._credit.limiter.look()
    assert limit(on_credit, "a") == 500 * MIB
    available(on_credit, LOW, swap=TOTAL // 200)
    on_credit.plugin._credit.limiter.look()
    assert limit(on_credit, "a") == pytest.approx(500 * MIB / 1.2, abs=8)


def test_guests_that_could_use_up_what_the_host_has_left_are_limited_before_it_is_short(on_credit: Bench) -> None:
    on_credit.add("a", 500 * MIB)
    cycle(on_credit)
    available(on_credit, 1700 * MIB)  # a guest of 2 GiB, with 64 MiB for QEMU, can grow by 1612 MiB
    cycle(on_credit)
    assert limit(on_credit, "a") == 500 * MIB + 0.875 * 1500 * MIB


def test_a_guest_that_reaches_its_limit_gets_more_from_what_others_do_not_use(on_credit: Bench) -> None:
    short(on_credit, a=500 * MIB, b=900 * MIB)
    holds(on_credit, "a", 675 * MIB)
    available(on_credit, 425 * MIB)
    on_credit.plugin._credit.limiter.look()
    a, b = (limit(on_credit, name) or 0 for name in "ab")
    assert a - 675 * MIB > 10 * (b - 900 * MIB) > 0
    assert a - 675 * MIB + b - 900 * MIB <= 225 * MIB


def test_limits_are_lifted_once_the_host_has_enough(on_credit: Bench) -> None:
    short(on_credit, a=500 * MIB)
    enough = LOW + (2048 + 64 - 500) * MIB  # a guest of 2 GiB, with 64 MiB for QEMU, may grow by this much
    available(on_credit, int(enough + 0.05 * HIGH))
    cycle(on_credit)
    assert limit(on_credit, "a") is not None  # available memory varies
    available(on_credit, int(enough + 0.2 * HIGH))
    cycle(on_credit)
    assert limit(on_credit, "a") is None


def test_a_guest_that_waits_for_minutes_grows_once_there_is_memory(on_credit: Bench) -> None:
    short(on_credit, a=500 * MIB)
    available(on_credit, LOW)
    holds(on_credit, "a", 600 * MIB)
    for _ in range(1100):
        on_credit.plugin._credit.limiter.look()
    available(on_credit, LOW + 80 * MIB)
    on_credit.plugin._credit.limiter.look()
    assert limit(on_credit, "a") == 670 * MIB


@pytest.mark.parametrize("unknown", ["mem_available", "MemAvailable"])
def test_unknown_memory_of_the_host_lifts_limits(on_credit: Bench, unknown: str) -> None:
    short(on_credit, a=500 * MIB)
    if unknown == "MemAvailable":
        on_credit.kernel.host("proc/meminfo", "MemTotal: 5 kB\n")
    else:
        on_credit.host = Host()
    cycle(on_credit)
    assert limit(on_credit, "a") is None


def test_a_guest_for_which_nothing_is_left_is_reported(on_credit: Bench) -> None:
    short(on_credit, a=500 * MIB)
    available(on_credit, LOW)
    on_credit.host = Host(fields={**on_credit.host.fields, "mem_really_available": LOW})
    limiter = on_credit.plugin._credit.limiter
    limiter.monotonic = lambda: on_credit.clock
    cycle(on_credit)
    assert cycle(on_credit).fields("a")[DELAY] == 0  # it no longer grows
    (on_credit.kernel.folder(on_credit.path("a")) / "memory.events").write_text("low 0\nhigh 7\nmax 0\n")
    limiter.look()
    on_credit.clock += 1.2
    limiter.look()
    ended = cycle(on_credit)
    assert ended.fields("a")[DELAY] == pytest.approx(1.2)
    assert [problem.message for problem in ended.problems] == ["its growth was delayed by 1.2 s: the host has 200 MiB available"]


def test_a_stop_and_a_restore_after_a_crash_lift_limits(on_credit: Bench) -> None:
    short(on_credit, a=500 * MIB, b=500 * MIB)
    on_credit.plugin.mom_teardown()
    assert (limit(on_credit, "a"), limit(on_credit, "b")) == (None, None)
    short(on_credit)
    assert limit(on_credit, "a") is not None
    on_credit.fresh(credit=True)  # after a crash
    outcomes = put_back(on_credit.plugin, tuple(on_credit.ledger.values()), on_credit.hypervisor)
    assert [(outcome.before, outcome.after, outcome.status) for outcome in outcomes] == [(1, 0, Status.APPLIED)] * 2
    assert (limit(on_credit, "a"), limit(on_credit, "b")) == (None, None)


def test_the_next_mom_takes_over_what_a_crashed_one_has_limited(on_credit: Bench) -> None:
    short(on_credit, a=500 * MIB)
    on_credit.fresh(credit=True)
    available(on_credit, 4 * HIGH)
    assert cycle(on_credit).outcomes["a", CREDIT].after == 1
    assert limit(on_credit, "a") is None


def test_a_limit_that_another_program_has_set_stays(on_credit: Bench) -> None:
    on_credit.add("a", 500 * MIB)
    on_credit.kernel.put(str(on_credit.kernel.folder(on_credit.path("a")) / "memory.high"), str(700 << 20))
    available(on_credit, 600 * MIB)
    ended = cycle(on_credit)
    assert (ended.fields("a").get(CREDIT), limit(on_credit, "a")) == (None, 700 * MIB)
    assert [problem.message for problem in ended.problems] == ["mom cannot limit the growth of a"]


def test_a_guest_on_credit_gets_no_other_limit(on_credit: Bench) -> None:
    short(on_credit, a=500 * MIB)
    guest = next(guest.entity for guest in on_credit.hypervisor.guests())
    for kib in (900 * MIB, 1 * MIB):  # the second is also impossible
        expected = "mom itself limits the guest's growth with memory.high: set memory_credit to 0 first"
        assert cycle(on_credit, (guest, MEMORY_HIGH, kib)).reasons == [expected]
    cycle(on_credit, (guest, CREDIT, 0))
    assert limit(on_credit, "a") is None


def test_a_guest_with_a_limit_of_its_own_is_not_on_credit(on_credit: Bench) -> None:
    on_credit.set("a", memory_high="700MiB")
    short(on_credit, a=500 * MIB)
    assert limit(on_credit, "a") == 700 * MIB


def test_limits_that_systemd_has_reset_are_set_again(on_credit: Bench) -> None:
    short(on_credit, a=500 * MIB)
    on_credit.kernel.put(str(on_credit.kernel.folder(on_credit.path("a")) / "memory.high"), "max")
    cycle(on_credit)
    assert limit(on_credit, "a") is not None


@pytest.mark.parametrize("group", ["/kubepods.slice/kubepods-pod1.slice/a.scope", ""])
def test_pods_and_guests_without_a_group_are_named(on_credit: Bench, group: str) -> None:
    settings: dict[str, Any] = {"group": group} if group else {"controllers": "cpu"}
    on_credit.add("a", 500 * MIB, **settings)
    assert [problem.message for problem in cycle(on_credit).problems] == ["mom cannot limit the growth of a"]


def test_the_lowest_priority_is_not_taken_for_an_unknown_one(on_credit: Bench) -> None:
    on_credit.add("low", 500 * MIB, priority=0)
    on_credit.add("unknown", 500 * MIB)
    short(on_credit)
    assert (limit(on_credit, "low") or 0) < (limit(on_credit, "unknown") or 0)


def test_a_restarted_guest_is_put_on_credit_again(on_credit: Bench) -> None:
    on_credit.add("a", 500 * MIB)
    cycle(on_credit)
    on_credit.hypervisor.known["a"].incarnation = "2"
    assert cycle(on_credit).outcomes["a", CREDIT].after == 1
