"""Promises to guests, and guarantees that the host can keep."""

import math
from collections.abc import Mapping

import pytest
from guest_facts import GIB
from hypothesis import given
from hypothesis import strategies as st

from mom_core import Guest, Host, PluginContext, Portion, Snapshot, Value
from mom_kvm import Promises
from mom_plugins_balloon.promises import Guaranteed, Guarantees, GuestPromise, PromisesKept, with_guarantees


def promise_of(identity: str, kib: float, priority: float = 50.0, firm: float = 1.0) -> GuestPromise:
    """Return a promise whose part `firm` does not depend on figures of the guest."""
    return GuestPromise(Guest(identity, identity), kib, math.ceil(firm * kib), priority)


parts = st.builds(
    promise_of, st.just(""), st.floats(1, 1 << 40), st.sampled_from([0.0, 10.0, 50.0, 100.0]), st.sampled_from([0.0, 0.5, 1.0])
)
promises = st.lists(parts, max_size=12).map(
    lambda listed: [promise._replace(guest=Guest(str(place), str(place))) for place, promise in enumerate(listed)]
)
rooms = st.floats(0, 1 << 44)


def guarantees(written="", reserve="0%"):
    """Return the guarantees of a host whose YAML file promises this to each guest."""
    portion = Portion.parse(written) if written else None
    return Guarantees(PluginContext(), lambda guest: portion, Portion.parse(reserve))


def standing(host=64 * GIB, written="", reserve="0B", **guests):
    """Return promises and guarantees of guests of 8 GiB with these fields, and with properties (values of type `str`)."""
    result = {}
    for name, known in guests.items():
        fields = {"balloon_cur": 8 * GIB, "balloon_max": 8 * GIB} | {
            key: value for key, value in known.items() if not isinstance(value, str)
        }
        result[name] = Guest(name, name, fields, {key: value for key, value in known.items() if isinstance(value, str)})
    return guarantees(written, reserve).look(Snapshot(Host(fields={"mem_available": host}), result))


class TestPromises:
    @pytest.mark.parametrize(
        ("written", "known", "promised"),
        [
            ("", {}, None),
            ("6GiB", {}, 6 * GIB),
            ("75%", {}, 6 * GIB),
            ("75%", {"balloon_max": 4 * GIB}, 3 * GIB),
            ("", {"mem_guarantee": "2GiB"}, 2 * GIB),
            ("", {"mem_guarantee": 2 * GIB}, 2 * GIB),
            ("", {"mem_guarantee_share": 0.5}, 4 * GIB),
            ("", {"mem_guarantee": 5 * GIB, "mem_guarantee_share": 0.5}, 5 * GIB),
            ("", {"balloon_min": 3 * GIB}, 3 * GIB),
            ("", {"balloon_min": 0}, None),
            ("7GiB", {"balloon_min": 3 * GIB, "mem_guarantee_share": 0.25}, 7 * GIB),
        ],
    )
    def test_the_largest_promise_counts(self, written, known, promised):
        result = standing(written=written, vm=known)
        assert result.holds.get("vm") == promised
        assert not result.oversold_by()

    def test_promise_above_the_maximum_is_the_maximum(self):
        result = standing(written="9GiB", vm={})
        assert result.holds == {"vm": 8 * GIB}
        assert (result.guests["vm"].beyond, result.guests["vm"].promised) == (9 * GIB, 8 * GIB)

    @pytest.mark.parametrize("text", ["", "lots", "-6GiB", "175%"])
    def test_invalid_metadata_promises_all_memory(self, text):
        result = standing(vm={"mem_guarantee": text})
        assert result.holds == {"vm": 8 * GIB}
        ((guest, error),) = result.unclear
        assert (guest.name, bool(error.hint)) == ("vm", True)

    def test_share_uses_the_last_known_maximum(self):
        kept = guarantees("50%")
        for maximum, size, holds in ((8 * GIB, 8 * GIB, 4 * GIB), (None, 6 * GIB, 4 * GIB), (None, 6 * GIB, 4 * GIB)):
            snapshot = Snapshot(guests={"vm": Guest("vm", "vm", {"balloon_cur": size, "balloon_max": maximum})})
            assert kept.look(snapshot).holds == {"vm": holds}
        kept.look(Snapshot())  # the hypervisor does not answer
        assert kept.look(snapshot).holds == {"vm": 4 * GIB}

    @pytest.mark.parametrize("written", ["", "0%"])
    def test_unread_definition_has_no_promise_field(self, written):
        read, unread = Guest("read", "read", properties=Promises.NOTHING), Guest("unread", "unread")
        assert guarantees(written).columns([read, unread])["balloon_min"] == [0, None]

    def test_unknown_promise_is_not_zero(self):
        kept = Guarantees(PluginContext(), lambda guest: "start", Portion.parse("0%"))
        assert kept.columns([Guest("vm", "vm", properties=Promises.NOTHING)])["balloon_min"] == [None]

    def test_excess_promise_with_unknown_maximum_costs_others_nothing(self):
        kept = guarantees()
        other = Guest("b", "b", {"balloon_cur": 8 * GIB, "balloon_max": 8 * GIB}, {"mem_guarantee": "6GiB"})
        for maximum in (4 * GIB, None):
            greedy = Guest("a", "a", {"balloon_cur": 4 * GIB, "balloon_max": maximum}, {"mem_guarantee": "100GiB"})
            result = kept.look(Snapshot(Host(fields={"mem_available": 32 * GIB}), {"a": greedy, "b": other}))
            assert result.holds == {"a": 4 * GIB, "b": 6 * GIB}
            assert result.guests["a"].beyond == 100 * GIB
            assert kept.columns([greedy])["balloon_min"] == [4 * GIB]


class TestOversoldHost:
    def test_the_lowest_priority_pays_first_and_in_proportion(self):
        result = with_guarantees([promise_of("gold", 6, 70), promise_of("a", 6, 10), promise_of("b", 3, 10)], 12)
        assert {identity: promise.guarantee for identity, promise in result.items()} == {"gold": 6, "a": 4, "b": 2}

    def test_unvouched_claims_cost_others_nothing(self):
        honest, claims = {"mem_vouched": 6 * GIB}, {"balloon_max": 64 * GIB, "mem_vouched": 4 * GIB}
        result = standing(host=24 * GIB, written="75%", a=honest, b=honest, bad=claims)
        assert [promise.promised / GIB for promise in result.guests.values()] == [6, 6, 48]
        assert result.holds == {"a": 6 * GIB, "b": 6 * GIB, "bad": 12 * GIB}, "what is left after all promises that are vouched for"
        assert [one.guest.name for one in result.shrunk] == ["bad"]
        assert standing(host=15 * GIB, written="75%", a=honest, b=honest, bad=claims).holds["bad"] < 4 * GIB

    def test_vouched_size_is_remembered(self):
        kept = guarantees("75%")
        fields = {"a": {"mem_vouched": 6 * GIB}, "bad": {"balloon_max": 64 * GIB, "mem_vouched": GIB}}
        for known in (fields, {"a": {}, "bad": {"balloon_max": 64 * GIB}}):
            guests = {name: Guest(name, name, {"balloon_max": 8 * GIB, **more}) for name, more in known.items()}
            result = kept.look(Snapshot(Host(fields={"mem_available": 12 * GIB}), guests))
        assert result.holds["a"] == 6 * GIB

    def test_oversold_host_names_the_losers(self):
        result = standing(host=10 * GIB, reserve="20%", written="75%", cheap={"priority": 10}, dear={"priority": 90})
        assert result.holds == {"cheap": 2 * GIB, "dear": 6 * GIB}
        assert result.oversold_by() == "guests are promised 12.00 GiB, but this host can promise only 8.00 GiB"
        assert result.losers() == "guarantees shrink, the lowest priority first: cheap has 2.00 GiB of 6.00 GiB"

    def test_oversold_host_uses_its_last_known_memory(self):
        kept = guarantees("100%")
        guests = {name: Guest(name, name, {"balloon_cur": 4 * GIB, "balloon_max": 8 * GIB}) for name in "ab"}
        result = [kept.look(Snapshot(Host(fields={"mem_available": kib}), guests)) for kib in (8 * GIB, None)]
        assert [promises.holds for promises in result] == [{"a": 4 * GIB, "b": 4 * GIB}] * 2

    @given(promises, rooms)
    def test_guarantees_fit_and_never_exceed_promises(self, promised, room):
        result = with_guarantees(promised, room)
        assert [*result] == [promise.guest.id for promise in promised]
        for promise in result.values():
            assert 0 <= promise.guarantee <= promise.promised + 2
        assert sum(promise.guarantee for promise in result.values()) <= room
        if sum(promise.promised + 2 for promise in promised) <= room:
            assert all(promise.guarantee >= promise.promised for promise in result.values())

    def test_fields_show_guarantee_and_promise(self):
        kept = guarantees("75%")
        guests = {name: Guest(name, name, {"balloon_cur": 8 * GIB, "balloon_max": 8 * GIB}) for name in "ab"}
        kept.look(Snapshot(Host(fields={"mem_available": 8 * GIB}), guests))
        columns = kept.columns(list(guests.values()))
        assert columns == {"balloon_min": [4 * GIB] * 2, "guest_guarantee": [4 * GIB] * 2, "mem_promised": [6 * GIB] * 2}


def guarantees_of(written: Guaranteed | None = None) -> Guarantees:
    """Return the guarantees of a host whose YAML file promises this to each guest."""
    return Guarantees(PluginContext(), lambda guest: written, Portion.parse("0%"))


@pytest.mark.parametrize(
    ("fields", "guaranteed", "promised"),
    [
        ({}, None, None),
        ({"balloon_min": None, "mem_guarantee": "much"}, None, None),
        ({"balloon_min": 100}, 100, 100),
        ({"balloon_min": 100, "mem_guarantee": 300}, 300, 300),
        ({"balloon_min": 300, "balloon_max": 200}, 200, 200),
        ({"mem_guarantee_share": 0.75, "balloon_max": 400}, 300, 300),
        ({"mem_guarantee_share": 7.5, "balloon_max": 400}, 400, 400),
        ({"balloon_min": 100, "mem_guarantee": 300, "mem_promised": 300, "guest_guarantee": 200}, 200, 300),
        ({"mem_promised": 300, "guest_guarantee": 0}, 0, 300),
    ],
)
def test_guarantee_or_largest_promise_counts(fields: Mapping[str, Value], guaranteed: float | None, promised: float | None) -> None:
    promises: Promises = guarantees_of()
    guest = Guest("1", "vm", fields)
    assert (promises.guaranteed_kib(guest), promises.promised_kib(guest)) == (guaranteed, promised)


@pytest.mark.parametrize(
    ("fields", "guaranteed", "promised"),
    [
        ({}, 200, 300),
        ({"mem_guarantee": 100}, 200, 300),
        ({"mem_guarantee": 400}, 400, 400),
        ({"mem_promised": 50, "guest_guarantee": 40}, 40, 50),
    ],
)
def test_last_guarantee_holds_without_fields(fields: Mapping[str, Value], guaranteed: float, promised: float) -> None:
    kept = guarantees_of()
    kept.standing = PromisesKept({"1": GuestPromise(Guest("1", "vm"), 300, 300, 50.0, guarantee=200)})
    promises: Promises = kept
    assert (promises.guaranteed_kib(Guest("1", "vm", fields)), promises.promised_kib(Guest("1", "vm", fields))) == (guaranteed, promised)
    assert promises.guaranteed_kib(Guest("2", "other", {})) is None
    restarted = Guest("1", "vm", incarnation="2")
    assert (promises.guaranteed_kib(restarted), promises.promised_kib(restarted)) == (None, None), "of another incarnation"
