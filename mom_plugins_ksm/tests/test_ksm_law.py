"""KSM law, on fixed hosts and on simulated ones."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mom_core import Value
from mom_core.testing import snapshot
from mom_plugins_ksm.fields import CpuUsage, Yield, ksm_fields
from mom_plugins_ksm.law import KsmMemory, KsmParameters
from mom_plugins_ksm.law import decide as law
from mom_plugins_ksm.suggested import KsmSuggestions, sizes_in, state_in
from mom_plugins_sim.ksm import Ksm

GIB, MIB = 1 << 20, 1 << 10  # KiB
PAGE = 4096

AMPLE: dict[str, Value] = {
    "mem_available": 24 * GIB, "mem_really_available": 12 * GIB, "mem_free": 13 * GIB, "cpu_count": 4, "ksm_run": 0,
    "ksm_pages_to_scan": 100, "ksm_sleep_millisecs": 20, "ksm_full_scans": 10, "ksm_saved": 0, "ksm_yield": None, "ksm_clock": 1000.0,
    "ksm_advisor_mode": "none", "ksmd_cpu_usage": None, "ksmd_cpu_pages": None,
}  # fmt: skip
SHORT: dict[str, Value] = {**AMPLE, "mem_really_available": 2 * GIB}  # for 24 GiB, short is 4.8 GiB, and ample 7.2 GiB
BETWEEN: dict[str, Value] = {**AMPLE, "mem_really_available": 6 * GIB}
AT_THE_LIMIT = 6666
"""Pages a batch for 50 % of a CPU: 20 ms of 3 us each."""
RESTING = KsmMemory(short=True, looks=False, until=10, since=900.0, wait=600)
LOOKING = replace(RESTING, looks=True)
SCANNING = replace(LOOKING, until=12)
RUNS: dict[str, Value] = {"ksm_run": 1, "ksm_pages_to_scan": 1000, "ksmd_cpu_usage": 50.0}
RESTS: dict[str, Value] = {"ksm_run": 1, "ksm_pages_to_scan": 64, "ksm_sleep_millisecs": 200, "ksmd_cpu_usage": 0.1}


@dataclass
class Memory:
    """State of the law."""

    kept: KsmMemory = field(default_factory=KsmMemory)


def decide(
    host: Mapping[str, Value],
    memory: Memory | KsmMemory | None = None,
    guests: Mapping[str, Mapping[str, Value]] | None = None,
    parameters: KsmParameters | None = None,
    /,
    **changes: Value,
) -> dict[str, int]:
    """Return the knobs that the law sets."""
    kept = memory if isinstance(memory, Memory) else Memory(memory or KsmMemory())
    found = snapshot(host={**host, **changes}, guests=guests or {})
    seen = state_in(found, sizes_in(found, {}))
    if seen is None:
        return {}
    wanted, kept.kept = law(seen, kept.kept, parameters or KsmParameters())
    knobs = {"ksm_run": wanted.run, "ksm_pages_to_scan": wanted.pages, "ksm_sleep_millisecs": wanted.sleep_ms}
    return {name: value for name, value in knobs.items() if value is not None}


# --- when to merge
# ----------------------------------------------------------------------------------------------------------------------------


POOR = {"ksm_sleep_millisecs": 200, "ksm_pages_to_scan": 64}
START = {"ksm_run": 1, "ksm_pages_to_scan": AT_THE_LIMIT}
SOLD: dict[str, dict[str, Value]] = {f"g{n}": {"balloon_max": 2 * GIB, "rss": GIB // 4} for n in range(12)}
ONE_SOLD: dict[str, dict[str, Value]] = {"g": {"balloon_max": 30 * GIB}}
IDLE: dict[str, Value] = {"ksmd_cpu_usage": 0.0, "ksm_pages_to_scan": 10_000}
ADVISED: dict[str, Value] = {"ksm_advisor_mode": "scan-time", "ksm_sleep_millisecs": 100}

DECIDED: dict[str, tuple[dict[str, Value], KsmMemory | None, dict[str, int]]] = {
    "ample memory leaves KSM off": (AMPLE, None, {}),
    "short memory switches it on at the CPU limit": (SHORT, None, START),
    "short memory stays short between them": (BETWEEN | RUNS, SCANNING, {"ksm_pages_to_scan": 500}),
    "a KSM that runs is stopped between them where memory was ample": (BETWEEN | RUNS, replace(LOOKING, short=False), {"ksm_run": 0}),
    "ample memory switches it off and what is merged stays merged": (AMPLE | RUNS | {"ksm_saved": GIB}, LOOKING, {"ksm_run": 0}),
    "memory that is ample only thanks to KSM is short": (AMPLE | RUNS | {"ksm_saved": 6 * GIB}, LOOKING, {"ksm_pages_to_scan": 500}),
    "less is scanned where ksmd uses more": (SHORT | RUNS | {"ksmd_cpu_usage": 66.7}, SCANNING, {"ksm_pages_to_scan": 500}),
    "more is scanned where it uses less": (SHORT | RUNS | {"ksmd_cpu_usage": 40.0}, SCANNING, {"ksm_pages_to_scan": 1500}),
    "an idle ksmd gets twice what was expected at most": (SHORT | RUNS | IDLE, SCANNING, {"ksm_pages_to_scan": 2 * AT_THE_LIMIT + 1}),
    "unknown CPU time means what is expected": (SHORT | RUNS | {"ksmd_cpu_usage": None}, SCANNING, {"ksm_pages_to_scan": AT_THE_LIMIT}),
    "a scan that was worth its time is followed by another": (SHORT | RUNS | {"ksm_yield": 600.0}, LOOKING, {}),
    "the speed falls with the yield": (SHORT | RUNS | {"ksm_yield": 256.0}, LOOKING, {"ksm_pages_to_scan": 500}),
    "a look goes on to its end though nothing is found yet": (SHORT | RUNS | {"ksm_yield": -100.0}, SCANNING, {}),
    "it is not slowed down with the advisor on": (SHORT | RUNS | ADVISED | {"ksm_yield": 0.0, "ksm_saved": -20_000}, LOOKING, {}),
    "free memory stands in for MemAvailable": (SHORT | {"mem_really_available": None, "mem_free": GIB}, None, START),
    "pages that are unknown while it runs are not corrected": (SHORT | RUNS | {"ksm_pages_to_scan": None}, SCANNING, {}),
    "a usage of the pages before these corrects nothing": (SHORT | RUNS | {"ksmd_cpu_usage": 66.7, "ksmd_cpu_pages": 500}, SCANNING, {}),
    "no more pages than the most": (
        SHORT | RUNS | {"cpu_count": 64, "ksmd_cpu_usage": 40.0, "ksm_pages_to_scan": 29_000},
        SCANNING,
        {"ksm_pages_to_scan": 30_000},
    ),
    "savings that are unknown end no rest and free no books": (SHORT | RESTS | {"ksm_saved": None}, replace(RESTING, base=GIB), {}),
    "books that need more than KSM saves are no room": (
        SHORT | RUNS | {"mem_really_available": 7 * GIB, "ksm_saved": -GIB},
        SCANNING,
        {"ksm_pages_to_scan": 500},
    ),
}


@pytest.mark.parametrize(("host", "memory", "decided"), DECIDED.values(), ids=DECIDED)
def test_what_is_decided(host: dict[str, Value], memory: KsmMemory | None, decided: dict[str, int]) -> None:
    assert decide(host, memory) == decided


def test_oversold_host_merges_gently_before_memory_is_short() -> None:
    assert decide(AMPLE, None, SOLD) == {"ksm_run": 1, "ksm_pages_to_scan": 350}  # 5 % of a CPU
    assert decide(AMPLE, None, dict(list(SOLD.items())[:9])) == decide(AMPLE, None, {"tells nothing": {}}) == {}
    assert decide(AMPLE, replace(LOOKING, short=False, seen=frozenset("g")), ONE_SOLD, **RUNS, ksm_yield=600.0) == POOR


@pytest.mark.parametrize(("total", "start"), [(2, 0.5), (8, 2), (24, 4.8), (64, 12.8), (512, 57.6), (1024, 83.2), (4096, 236.8)])
def test_start_makes_sense_from_small_to_large_hosts(total: int, start: float) -> None:
    below, above = int((start - 0.01) * GIB), int((start + 0.01) * GIB)
    assert decide(SHORT, mem_available=total * GIB, mem_really_available=below)["ksm_run"] == 1
    assert decide(SHORT, mem_available=total * GIB, mem_really_available=above) == {}


# --- how fast ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cpus", "pages"), [(1, 952), (2, 2222), (4, AT_THE_LIMIT), (64, 15555), (None, 2222)])
def test_an_eighth_of_the_cpus_but_never_more_than_70_percent_of_one(cpus: int | None, pages: int) -> None:
    assert decide(SHORT, cpu_count=cpus)["ksm_pages_to_scan"] == pages


@pytest.mark.parametrize(("available", "pages"), [(4.79, 364), (3.6, 2528), (2.4, AT_THE_LIMIT), (0, AT_THE_LIMIT)])
def test_ksmd_is_faster_the_less_memory_is_available(available: float, pages: int) -> None:
    assert decide(SHORT, mem_really_available=int(available * GIB))["ksm_pages_to_scan"] == pytest.approx(pages, rel=0.01)


# --- worth ---------------------------------------------------------------------------------------------------------------------------


def test_new_guest_lengthens_a_look() -> None:
    memory = Memory(replace(SCANNING, begun=9, seen=frozenset("g")))
    decide({**SHORT, **RUNS}, memory, {"g": {}, "new": {}}, ksm_full_scans=11)
    assert memory.kept.until == 14


def test_growing_guests_lengthen_a_look_for_a_limited_time() -> None:
    memory = Memory(replace(SCANNING, begun=9, seen=frozenset("g")))
    until = []
    for scan in range(10, 22):
        decide({**SHORT, **RUNS}, memory, {"g": {"rss": (scan - 9) * 100 * MIB}}, ksm_full_scans=scan, ksm_yield=-10.0)
        until.append(memory.kept.until)
    assert until[:6] == [13, 14, 15, 16, 17, 18]
    assert until[-1] == 18
    assert memory.kept.looks is False


def test_ksm_is_unmerged_if_its_own_memory_exceeds_its_savings() -> None:
    memory = Memory(LOOKING)
    assert decide(SHORT, memory, **RUNS, ksm_yield=0.0, ksm_saved=-20_000) == {"ksm_run": 2, **POOR}, "slowly, too: 2 may be refused"
    stopped = {**RUNS, "ksm_run": 2, "ksm_full_scans": 0}
    assert decide(SHORT, memory, **stopped) == {}
    assert decide(SHORT, memory, **stopped, ksm_clock=2000.0)["ksm_run"] == 1, "after some time it is tried again"


# --- rest ----------------------------------------------------------------------------------------------------------------------------


VAIN = {"paid": False}
LOOKS: dict[str, tuple[bool, dict[str, Any], dict[str, int], dict[str, Value]]] = {
    "a new guest, though looking was in vain": (True, {**VAIN, "since": 999.0}, {"new": 10 * MIB}, {}),
    "guests that have grown": (True, {}, {"g": 70 * MIB}, {}),
    "none that have grown by less than 2 % of all": (False, {"held": 4 * GIB}, {"g": 4 * GIB + 70 * MIB}, {}),
    "guests that have grown after a vain look, not at once": (False, {**VAIN, "since": 860.0}, {"g": 70 * MIB}, {}),
    "guests that have grown after a vain look, a little later": (True, {**VAIN, "since": 840.0}, {"g": 70 * MIB}, {}),
    "merged memory that is lost": (True, {"base": GIB}, {}, {"ksm_saved": GIB * 8 // 10}),
    "time": (True, {}, {}, {"ksm_clock": 1501.0}),
    "a clock that began anew": (True, {}, {}, {"ksm_clock": 5.0}),
    "memory that gets short": (True, {"short": False}, {}, {}),
}


@pytest.mark.parametrize(("looks", "memory", "held", "changes"), LOOKS.values(), ids=LOOKS)
def test_what_ends_a_rest(looks: bool, memory: dict[str, Any], held: dict[str, int], changes: dict[str, Value]) -> None:
    known = replace(RESTING, seen=frozenset(held) - {"new"}, **memory)
    guests: dict[str, dict[str, Value]] = {name: {"rss": kib} for name, kib in held.items()}
    assert ("ksm_pages_to_scan" in decide({**SHORT, **RESTS}, known, guests, **changes)) is looks


def test_returned_memory_that_a_guest_takes_again_is_new() -> None:
    memory = Memory(replace(RESTING, held=GIB, seen=frozenset("g")))
    assert decide({**SHORT, **RESTS}, memory, {"g": {"rss": GIB // 2}}) == {}
    assert "ksm_pages_to_scan" in decide({**SHORT, **RESTS}, memory, {"g": {"rss": GIB // 2 + 70 * MIB}})


def test_rests_get_longer_while_looks_save_nothing() -> None:
    memory = Memory(LOOKING)
    waits = []
    for _ in range(6):
        memory.kept = replace(memory.kept, looks=True, since=1000.0, base=0)
        decide(SHORT, memory, **RUNS, ksm_yield=0.0)
        waits.append(memory.kept.wait)
    assert waits == [600, 1200, 2400, 4800, 7200, 7200]
    memory.kept = replace(memory.kept, looks=True, base=100 * MIB)
    decide(SHORT, memory, **RUNS, ksm_yield=0.0, ksm_saved=100 * MIB)
    assert memory.kept.wait == 7200, "what was saved before the look is not its gain"
    memory.kept = replace(memory.kept, looks=True, base=0)
    decide(SHORT, memory, **RUNS, ksm_yield=0.0, ksm_saved=100 * MIB)
    assert memory.kept.wait == 600


def test_new_guest_waits_for_a_part_of_the_rest_after_several_vain_looks() -> None:
    memory = Memory(replace(RESTING, since=1000.0, wait=1200, rest=1200, paid=False, begun=10, held=GIB, seen=frozenset("g")))
    for clock, looks in ((1000.0, False), (1299.0, False), (1301.0, True)):
        decide({**SHORT, **RESTS}, memory, {"g": {"rss": GIB}, "new": {"rss": 10 * MIB}}, ksm_clock=clock)
        assert memory.kept.looks is looks


@pytest.mark.parametrize(("worth", "looks"), [(0.0, False), (256.0, True)])
def test_guest_that_comes_late_in_a_look_is_new_after_it(worth: float, looks: bool) -> None:
    memory = Memory(replace(SCANNING, begun=4, until=13, seen=frozenset("g"), held=GIB))
    guests: dict[str, dict[str, Value]] = {"g": {"rss": GIB}, "new": {"rss": 10 * MIB}}
    for scans in (11, 13):
        decide({**SHORT, **RUNS}, memory, guests, ksm_full_scans=scans, ksm_yield=worth)
    assert memory.kept.looks is looks
    decide({**SHORT, **RUNS}, memory, guests, ksm_full_scans=13, ksm_yield=worth)
    assert (memory.kept.until, memory.kept.seen) == (16, frozenset({"g", "new"}))


# --- unknown figures -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unknown", ["ksm_run", "mem_available", "ksm_full_scans", "ksm_clock"])
@pytest.mark.parametrize("run", [0, 1])
def test_unknown_field_decides_nothing(unknown: str, run: int) -> None:
    assert decide(SHORT, **{"ksm_run": run, unknown: None}) == {}


TOLD: dict[str, dict[str, Value]] = {f"g{n}": {"balloon_max": 2 * GIB, "rss": GIB} for n in range(12)}
UNTOLD: dict[str, dict[str, Value]] = {name: {} for name in TOLD}


def suggestions_after(memory: KsmMemory) -> KsmSuggestions:
    """Return the law with this memory, and with the guests of `TOLD`."""
    known = replace(memory, held=12 * GIB, seen=frozenset(snapshot(guests=TOLD).guests))
    return KsmSuggestions(KsmParameters(), known)


def reason_at(
    law: KsmSuggestions, second: float, host: dict[str, Value], guests: Mapping[str, Mapping[str, Value]], **more: Value
) -> Value:
    found = snapshot(host={**host, "ksm_clock": second, **more}, guests=guests)
    return law.of(replace(found, monotonic=second))["ksm_reason"]


@pytest.mark.parametrize("host", [SHORT, AMPLE], ids=["short", "sold"])
@pytest.mark.parametrize(
    ("first", "then"), [({"g0": {}}, {"g0": {}}), (UNTOLD, UNTOLD), (None, UNTOLD)], ids=["of one guest", "of all", "of all that were gone"]
)
def test_figures_missing_for_a_moment_change_nothing(
    host: dict[str, Value], first: dict[str, dict[str, Value]] | None, then: dict[str, dict[str, Value]]
) -> None:
    rests = suggestions_after(replace(RESTING, short=host is SHORT))
    course = enumerate((TOLD, {} if first is None else TOLD | first, TOLD | then, TOLD))
    reasons = [reason_at(rests, 1000.0 + second, {**host, **RESTS}, guests) for second, guests in course]
    assert reasons == ["rest"] * 4


def test_guests_that_are_missing_for_a_moment_are_not_new_afterwards() -> None:
    rests, some = suggestions_after(RESTING), {name: TOLD[name] for name in ("g0", "g1", "g2")}
    course = {0: TOLD, 5: some, 15: TOLD, 20: some, 75: some, 80: some, 85: TOLD}
    reasons = {second: reason_at(rests, 1000.0 + second, {**SHORT, **RESTS}, guests) for second, guests in course.items()}
    assert reasons == {**dict.fromkeys(course, "rest"), 85: "look"}, "who was away for a minute is new"


sizes = st.one_of(st.none(), st.integers(0, 4096 * GIB))
counts = st.one_of(st.none(), st.integers(0, 2**32 - 1))
hosts = st.fixed_dictionaries(
    {
        "mem_available": st.one_of(st.none(), st.integers(1, 4096 * GIB)),
        "mem_really_available": sizes,
        "mem_free": sizes,
        "cpu_count": st.one_of(st.none(), st.integers(1, 1024)),
        "ksm_run": st.sampled_from([None, 0, 1, 2]),
        "ksm_pages_to_scan": counts,
        "ksm_sleep_millisecs": counts,
        "ksm_full_scans": counts,
        "ksm_saved": st.one_of(st.none(), st.integers(-(2**30), 2**42)),
        "ksm_yield": st.one_of(st.none(), st.floats(-(2**30), 2**30)),
        "ksm_clock": st.one_of(st.none(), st.floats(0, 2**30)),
        "ksm_advisor_mode": st.sampled_from([None, "none", "scan-time"]),
        "ksmd_cpu_usage": st.one_of(st.none(), st.floats(0, 200)),
    }
)
guests_of = st.dictionaries(st.sampled_from("abc"), st.fixed_dictionaries({"balloon_max": sizes, "rss": sizes}))


@settings(deadline=None)
@given(st.lists(st.tuples(hosts, guests_of), min_size=1, max_size=6))
def test_values_stay_within_bounds(course: list[tuple[dict[str, Value], dict[str, dict[str, Value]]]]) -> None:
    memory = Memory()
    for host, guests in course:
        decided = decide(host, memory, guests)
        assert decided.get("ksm_run", 0) in {0, 1, 2}
        assert 64 <= decided.get("ksm_pages_to_scan", 64) <= 30000
        assert decided.get("ksm_sleep_millisecs", 20) in {20, 200}
        assert "ksm_merge_across_nodes" not in decided


# --- simulated hosts ---------------------------------------------------------------------------------------------------------------


@dataclass
class Answering:
    """Host with guests, and a simulated KSM that follows the law. Sizes in MiB."""

    equal: int = 128
    own: int = 60
    guests: int = 8
    available: int = 3 * 1024
    ksm: Ksm = field(default_factory=Ksm)
    memory: Memory = field(default_factory=Memory)
    seconds: float = 0.0
    decisions: list[dict[str, int]] = field(default_factory=list)
    interval: float = 5.0
    price: float = 1.0  # CPU time for a page, as a multiple of the usual: up to 3 while many pages are merged
    usage: CpuUsage = field(default_factory=CpuUsage)
    yields: Yield = field(default_factory=Yield)

    def cycles(self, count: int) -> float:
        """Run cycles, and return the CPU seconds of ksmd."""
        before = self.ksm.cpu_seconds
        for _ in range(count):
            self.seconds += self.interval
            self.ksm.step(self.guests * self.equal * MIB, self.guests * (self.equal + self.own) * MIB, self.interval)
            found = self.ksm.read()
            host: dict[str, Value] = {**AMPLE, **ksm_fields(found, PAGE), "cpu_count": 2, "ksm_clock": self.seconds}
            host["ksmd_cpu_usage"] = self.usage.percent(self.price * self.ksm.cpu_seconds, self.seconds, found["pages_to_scan"])
            host["ksmd_cpu_pages"] = self.usage.pages
            host["ksm_yield"] = self.yields.kib_per_second(found, PAGE)
            host["mem_really_available"] = self.available * MIB
            names: dict[str, dict[str, Value]] = {
                f"g{n}": {"balloon_max": 2 * GIB, "rss": (self.equal + self.own) * MIB} for n in range(self.guests)
            }
            decided = decide(host, self.memory, names)
            self.ksm.write({control.removeprefix("ksm_"): value for control, value in decided.items()})
            self.decisions.append(decided)
        return self.ksm.cpu_seconds - before


@settings(deadline=None, max_examples=8)
@given(equal=st.integers(0, 400), own=st.integers(10, 400), guests=st.integers(1, 16), available=st.integers(100, 12_000))
def test_ksm_comes_to_rest_with_any_guests(equal: int, own: int, guests: int, available: int) -> None:
    host = Answering(equal, own, guests, available)
    for _ in range(480):
        host.cycles(1)
        if not host.memory.kept.looks:
            break
    assert not host.memory.kept.looks, "after forty minutes"
    host.decisions.clear()
    assert host.cycles(100) < 1
    assert not any(host.decisions)


@settings(deadline=None, max_examples=30)
@given(total=st.integers(2, 4096), base_share=st.floats(0, 1), shareable_share=st.floats(0, 0.5), run=st.integers(0, 2))
def test_ksm_does_not_oscillate_because_of_its_own_savings(total: int, base_share: float, shareable_share: float, run: int) -> None:
    """Guests need constant memory. Only KSM's savings change."""
    base, shareable, saved = total * GIB * base_share, total * GIB * shareable_share, 0.0
    host: dict[str, Value] = {**AMPLE, "mem_available": total * GIB, "ksm_run": run}
    memory = Memory()
    switches = 0
    for scan in range(60):
        saved = saved + (shareable - saved) / 4 if host["ksm_run"] == 1 else saved / 2
        host["mem_really_available"] = int(min(base + saved, total * GIB))
        host["ksm_saved"], host["ksm_full_scans"], host["ksm_clock"] = int(saved), scan, 1000.0 + 5 * scan
        decided = decide(host, memory)
        switches += "ksm_run" in decided
        host.update(decided)
    assert switches <= 1
