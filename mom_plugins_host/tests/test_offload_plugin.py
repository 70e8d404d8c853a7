"""The plugin in cycles: which guests' cold memory it moves."""

import pytest
from offload_hosts import MovingHypervisor

from mom_core import (
    Change,
    Decision,
    Declarations,
    FieldSpec,
    Guest,
    GuestSettings,
    PluginContext,
    Scope,
    Snapshot,
    Source,
    Target,
    Unit,
    Value,
    as_number,
)
from mom_core.testing import snapshot
from mom_devkit import FakeGuest, HandClock
from mom_kvm import SwapStore
from mom_plugins_host.offload import OffloadPlugin
from mom_plugins_host.offload.fields import OffloadGuestSettings, OffloadSettings
from mom_plugins_host.offload.law import ColdOffer, ReclaimState, chosen, need_of

GIB = 1 << 20
SHORT: dict[str, Value] = {"mem_available": 16 * GIB, "mem_really_available": GIB, "mem_watermark_high": 2 * GIB}
PLENTY: dict[str, Value] = {**SHORT, "mem_really_available": 8 * GIB}
COLD: dict[str, Value] = {"rss": GIB, "host_swap": 0, "host_major_faults": 0}


class Bench:
    """Plugin on a hypervisor that moves memory itself. Cycles are a second apart."""

    def __init__(self, guests: list[str], settings: OffloadSettings | None = None, stores: list[SwapStore] | None = None) -> None:
        self.clock = HandClock(100.0)
        self.hypervisor = MovingHypervisor([FakeGuest(name) for name in guests], stores)
        self.forbidden, self.allowed, self.paused = set[str](), set[str](), set[str]()
        self.classes_answer = True
        target = FieldSpec("balloon_target", Unit.KIB, scope=Scope.GUEST, description="as the plugin balloon declares it")
        by_class = FieldSpec("may_offload", Unit.FLAG, scope=Scope.GUEST, description="as the plugin sla declares it")
        declarations = Declarations({(one.scope, one.name): one for one in (target, by_class)})
        context = PluginContext("offload", declarations=declarations, interval=1.0, guest_settings=self._settings_of, monotonic=self.clock)
        self.plugin = OffloadPlugin(settings or OffloadSettings(), context)

    def _settings_of(self, guest: Guest) -> GuestSettings:
        return OffloadGuestSettings(offload=False if guest.name in self.forbidden else True if guest.name in self.allowed else None)

    def _blocked(self, name: str) -> dict[str, str]:
        return {"*": "the guest is paused"} if name in self.paused else {}

    def cycle(self, host: dict[str, Value], guests: dict[str, dict[str, Value]]) -> list[Decision]:
        """Run a cycle: collect, decide, review, set. `fields` has the guests' fields."""
        self.clock.now += 1
        listed = {guest.name: guest for guest in self.hypervisor.guests()}
        answer: dict[str, Value] = {"mem_guarantee_share": None} if self.classes_answer else {}
        self.host_fields = self.plugin.mom_collect_host(self.hypervisor)
        self.fields = self.plugin.mom_collect_guests(self.hypervisor, list(listed.values()))
        made = {
            one.id: Guest(
                one.id, name, {**self.fields[one.id], **answer, **fields}, blocked=self._blocked(name), incarnation=one.incarnation
            )
            for name, fields in guests.items()
            for one in (listed[name],)
        }
        self.snapshot = Snapshot(snapshot(host=host).host, made, self.clock.now, self.clock.now)
        decisions = list(self.plugin.mom_act(self.snapshot))
        self.hypervisor.moved.clear()
        changes = [Change(Target(one.entity, one.control), one.value, 0) for one in decisions]
        assert not self.plugin.mom_write(self.hypervisor, changes)
        return decisions

    def state(self, name: str) -> Value:
        """Return why the last cycle moved nothing of a guest."""
        self.cycle(PLENTY, {})
        return next(self.fields[guest.id]["offload_state"] for guest in self.hypervisor.guests() if guest.name == name)


FULL = [SwapStore("zram0", SwapStore.Kind.ZRAM, 6 * GIB, GIB // 4)]


@pytest.mark.parametrize(
    ("host", "fields", "stores", "words"),
    [
        (PLENTY, {}, None, "there is no need to reclaim memory"),
        ({}, {}, None, "the host's available memory, or its target, is unknown"),
        (SHORT, {}, FULL, "full"),
        (SHORT, {"swap_in": 5000.0}, None, "its own swap"),
        (SHORT, {"guest_psi_memory_some_avg10": 30.0}, None, "wait for memory 30 %"),
        (SHORT, {"host_swap": None}, None, "unknown"),
        (SHORT, {"give_back": "it is about to be migrated"}, None, "it is about to be migrated: mom does not move its memory"),
    ],
)
def test_nothing_goes_without_need_or_room_nor_of_a_guest_that_lacks_memory_itself_or_is_unknown(
    host: dict[str, Value], fields: dict[str, Value], stores: list[SwapStore] | None, words: str
) -> None:
    bench = Bench(["vm1"], stores=stores)
    assert bench.cycle(host, {"vm1": {**COLD, **fields}}) == []
    assert words in str(bench.state("vm1"))


def test_when_the_host_is_short_cold_memory_goes_of_a_guest_without_balloon_statistics_or_agent() -> None:
    bench = Bench(["vm1"])
    (decision,) = bench.cycle(SHORT, {"vm1": COLD})
    assert "mom swaps out memory" in decision.reason
    assert bench.hypervisor.moved == [("vm1", decision.value)]
    bench.cycle(SHORT, {"vm1": COLD})
    (fields,) = bench.fields.values()
    assert fields["offloaded"] == decision.value
    assert bench.host_fields["offload_net"] == pytest.approx(0.6 * (as_number(decision.value) or 0), rel=0.1)


def test_what_comes_back_of_what_was_taken_is_no_gain_of_the_host() -> None:
    bench = Bench(["vm1"])
    away: dict[str, Value] = {**COLD, "host_swap": GIB // 2}
    bench.cycle(SHORT, {"vm1": away})
    (taken,) = (as_number(one.value) or 0 for one in bench.cycle(SHORT, {"vm1": {**away, "host_major_faults": 150}}))
    bench.cycle(SHORT, {"vm1": away})
    assert taken > 4 * 150
    assert bench.host_fields["offload_net"] == pytest.approx(0.6 * (taken - 4 * 150), rel=0.1)


def test_no_guest_is_asked_that_its_settings_or_its_class_spare() -> None:
    bench = Bench(["mine", "classy", "other"])
    bench.forbidden = {"mine"}
    decided = bench.cycle(SHORT, {"mine": COLD, "classy": {**COLD, "may_offload": 0}, "other": COLD})
    assert [one.entity.name for one in decided] == ["other"]
    assert "offload: false" in str(bench.state("mine"))


def test_nothing_goes_of_a_guest_while_the_plugin_of_classes_says_nothing_of_it() -> None:
    bench = Bench(["vm1", "vm2"])
    bench.classes_answer = False
    guests = {"vm1": COLD, "vm2": COLD}
    assert takers(bench, SHORT, guests) == set()
    assert bench.state("vm1") == "its class is unknown now"
    bench.allowed = {"vm2"}
    assert takers(bench, SHORT, guests) == {"vm2"}, "its own settings allow it"
    bench.classes_answer = True
    assert takers(bench, SHORT, guests) == {"vm1", "vm2"}, "it has no class that forbids it"


GUESTS: dict[str, dict[str, Value]] = {"stuck": {**COLD, "rss": 32 * GIB}, "vm1": COLD}
LITTLE: dict[str, Value] = {**SHORT, "mem_really_available": 2.2 * GIB - 2048}


def asked(bench: Bench, cycles: int) -> list[set[str]]:
    """Return the requested guests of each cycle, while the host lacks less than the largest guest can release at once."""
    return [takers(bench, LITTLE, GUESTS, cycles=1) for _ in range(cycles)]


def test_a_guest_that_gives_nothing_keeps_no_other_one_from_giving() -> None:
    bench = Bench([*GUESTS])
    bench.hypervisor.barren = {"stuck": "Operation not permitted"}
    bench.cycle({**LITTLE, "mem_really_available": 2 * GIB - 1}, GUESTS)  # reclaim begins below the high watermark
    assert asked(bench, 9) == [{"vm1"}] * 9
    assert bench.fields[bench.hypervisor.known["stuck"].id]["offload_state"] == "Operation not permitted; next try in 2 s"
    assert asked(bench, 22) == [{"stuck"}, *[{"vm1"}] * 19, {"stuck"}, {"vm1"}], "twice as long each time"
    bench.hypervisor.barren.clear()
    assert asked(bench, 40)[-1] == {"stuck"}, "it gives again"
    bench.hypervisor.barren = {"stuck": "Operation not permitted"}
    assert asked(bench, 12) == [{"stuck"}, *[{"vm1"}] * 9, {"stuck"}, {"vm1"}], "the first time since it gave something"


def test_a_guest_for_which_the_time_was_over_is_asked_again_at_once() -> None:
    bench = Bench([*GUESTS])
    bench.hypervisor.barren = {"stuck": "the time for the request ran out"}
    bench.cycle({**LITTLE, "mem_really_available": 2 * GIB - 1}, GUESTS)
    assert asked(bench, 3) == [{"stuck"}] * 3


def test_what_comes_back_is_told_where_only_the_hypervisor_counts_it() -> None:
    bench = Bench(["vm1"])
    works: dict[str, Value] = {"rss": GIB // 2, "host_swap": GIB // 2, "host_major_faults": 5000}
    bench.cycle(SHORT, {"vm1": works})
    bench.cycle(SHORT, {"vm1": works})
    (told,) = bench.fields.values()
    assert told["offload_refaults"] == 5000 * 4
    bench.cycle(SHORT, {"vm1": {**works, "host_major_faults": None}})
    bench.cycle(SHORT, {"vm1": works})
    (told,) = bench.fields.values()
    assert told["offload_refaults"] is None


FREED: dict[str, Value] = {
    **COLD, "qemu_overhead": 0, "kernel_reserved": 0, "mem_available": GIB, "mem_unused": GIB // 4, "balloon_cur": GIB
}  # fmt: skip
"""Fields of a guest that has freed a quarter of its memory."""


SWEPT: dict[str, Value] = {**FREED, "mem_unused": 0}


def test_what_a_guest_had_used_and_freed_is_left_to_its_balloon_for_a_while() -> None:
    bench = Bench(["vm1"])
    assert bench.cycle(SHORT, {"vm1": FREED}) == []
    assert "ballooning reclaims this memory first" in str(bench.state("vm1"))
    bench.clock.now += 26
    assert bench.cycle(SHORT, {"vm1": FREED}) == []
    bench.clock.now += 4
    assert bench.cycle(SHORT, {"vm1": FREED})
    assert bench.cycle(SHORT, {"vm1": {**FREED, "balloon_obstacle": "it has no balloon"}})


def test_a_guest_with_sometimes_a_little_more_to_sweep_and_sometimes_a_little_less_is_not_waited_for_without_an_end() -> None:
    bench = Bench(["vm1"])
    for _ in range(30):
        bench.cycle(SHORT, {"vm1": FREED})
        bench.cycle(SHORT, {"vm1": FREED})
        bench.cycle(SHORT, {"vm1": SWEPT})
    assert bench.cycle(SHORT, {"vm1": FREED})


@pytest.mark.parametrize(("host", "paused"), [(PLENTY, set()), (SHORT, {"vm1"})], ids=["not needed", "cannot be set"])
def test_time_in_which_the_balloon_does_nothing_is_no_wait_for_it(host: dict[str, Value], paused: set[str]) -> None:
    bench = Bench(["vm1"])
    bench.paused = paused
    for _ in range(9):
        assert bench.cycle(host, {"vm1": FREED}) == []
        bench.clock.now += 60
    bench.cycle(host, {"vm1": FREED})
    bench.paused = set()
    assert bench.cycle(SHORT, {"vm1": FREED}) == []


def test_what_a_policy_decides_is_cut_to_the_pace_of_the_law() -> None:
    bench = Bench(["vm1", "vm2"])
    bench.cycle(SHORT, {"vm1": COLD, "vm2": {**COLD, "may_offload": 0}})
    one, two = bench.snapshot.guests.values()
    asked = [Decision(guest.entity, "offload", 10 * GIB, "", Source("mine")) for guest in (one, two)]
    cut, dropped = bench.plugin.mom_review(bench.snapshot, asked)
    assert cut.after is not None
    assert (as_number(cut.after.value) or GIB) < GIB
    assert dropped.after is None
    assert "class" in dropped.reason


def reviewed(bench: Bench, pace: int) -> list[Value]:
    """Return the reviewed paces of a policy's decisions for all guests; None if dropped."""
    asked = [Decision(guest.entity, "offload", pace, "", Source("mine")) for guest in bench.snapshot.guests.values()]
    after = {one.before.entity: one.after for one in bench.plugin.mom_review(bench.snapshot, asked)}
    return [None if (one := after.get(decision.entity, decision)) is None else one.value for decision in asked]


def test_what_a_policy_decides_for_all_guests_together_is_cut_to_what_swap_takes() -> None:
    guests = dict.fromkeys(("vm1", "vm2", "vm3"), COLD)
    bench = Bench([*guests], stores=[SwapStore("zram0", SwapStore.Kind.ZRAM, 6 * GIB, 6 * GIB // 20 + 1000)])
    bench.cycle(SHORT, guests)
    room = as_number(bench.plugin.mom_collect_host(bench.hypervisor)["offload_room"]) or 0
    assert reviewed(bench, 700) == [700, room - 700, None]


def test_an_order_lapses_when_it_is_not_renewed() -> None:
    bench = Bench(["vm1"])
    bench.cycle(SHORT, {"vm1": COLD})
    (guest,) = bench.hypervisor.guests()
    target = Target(guest.entity, "offload")
    assert bench.plugin.mom_read([target])[target]
    bench.cycle(PLENTY, {})
    bench.cycle(PLENTY, {})
    assert bench.plugin.mom_read([target])[target] == 0


def test_taking_goes_on_until_the_host_has_a_little_more_than_begins_it() -> None:
    host = snapshot(host={**SHORT, "mem_really_available": 2 * GIB + 1}).host
    assert need_of(host, working=False).lack_kib == 0
    assert need_of(host, working=False).urgency == 1
    assert need_of(host, working=True).lack_kib > 0
    assert need_of(snapshot(host={"mem_reserved": GIB, **PLENTY, "mem_really_available": 2.5 * GIB}).host, working=False).lack_kib > 0


def test_cold_memory_goes_before_guests_are_expected_to_use_more_and_none_feels_more_for_it() -> None:
    known = {**SHORT, "mem_really_available": 2 * GIB + 1}
    need = need_of(snapshot(host={**known, "mem_rise_ahead": GIB}).host, working=False)
    assert need.lack_kib >= GIB - 1
    assert need.urgency == 1.0
    assert ", plus the 1.00 GiB that guests are expected to need soon" in need.words


@pytest.mark.parametrize(("share", "urgency"), [(0.7, 1.0), (0.35, 2.0), (0.1, 4.0), (-0.5, 4.0)])
def test_the_less_there_is_the_more_guests_may_feel(share: float, urgency: float) -> None:
    host = snapshot(host={**SHORT, "mem_really_available": 2 * GIB, "mem_reserved": (1 - share) * 2 * GIB}).host
    assert need_of(host, working=False).urgency == pytest.approx(urgency)


def test_the_cheapest_give_first_and_no_more_than_is_lacking() -> None:
    offers = {
        "dear": ColdOffer(1000, 8.0, ReclaimState()),
        "cheap": ColdOffer(1000, 1.0, ReclaimState()),
        "other": ColdOffer(1000, 2.0, ReclaimState()),
    }
    assert chosen(offers, 3000, 2.0) == {"cheap": 1000, "other": 500}


def takers(bench: Bench, host: dict[str, Value], guests: dict[str, dict[str, Value]], cycles: int = 6) -> set[str]:
    """Return the guests whose cold memory moves in the last of these cycles."""
    for _ in range(cycles):
        decisions = bench.cycle(host, guests)
    return {one.entity.name for one in decisions}
