"""What guests are promised, and what of it holds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mom_core import Guest, GuestSettings, Host, PluginContext, Portion, Snapshot
from mom_kvm import PROMISED_NOTHING
from mom_plugins_balloon.promises import Guarantees, Promise, kept

MIB = 1024
GIB = 1024 * MIB

promises = st.dictionaries(
    st.text("abcdefgh", min_size=1, max_size=3),
    st.builds(Promise, st.floats(1, 1 << 40), st.sampled_from([0.0, 10.0, 50.0, 100.0]), st.booleans()),
    max_size=12,
)
rooms = st.floats(0, 1 << 44)


def guarantees(written="", reserve="0%"):
    """Those of a host whose YAML file promises this to each guest."""
    portion = Portion.parse(written) if written else None
    return Guarantees(PluginContext(), lambda guest: portion, Portion.parse(reserve))


def standing(host=64 * GIB, written="", reserve="0B", **guests):
    """How promises stand for guests of 8 GiB with these fields (and properties, as text)."""
    found = {}
    for name, known in guests.items():
        fields = {"balloon_cur": 8 * GIB, "balloon_max": 8 * GIB} | {
            key: value for key, value in known.items() if not isinstance(value, str)
        }
        found[name] = Guest(name, name, fields, {key: value for key, value in known.items() if isinstance(value, str)})
    return guarantees(written, reserve).look(Snapshot(Host(fields={"mem_available": host}), found))


class TestWhatIsPromised:
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
        found = standing(written=written, vm=known)
        assert found.holds.get("vm") == promised
        assert not found.oversold_by()

    def test_more_than_the_guest_can_have_is_all_that_it_can_have_and_is_said(self):
        found = standing(written="9GiB", vm={})
        assert found.holds == {"vm": 8 * GIB}
        assert (found.guests["vm"].beyond, found.guests["vm"].promised) == (9 * GIB, 8 * GIB)

    @pytest.mark.parametrize("text", ["", "lots", "-6GiB", "175%"])
    def test_metadata_that_cannot_be_understood_keeps_the_guest_as_it_is_and_is_said(self, text):
        found = standing(vm={"mem_guarantee": text})
        assert found.holds == {"vm": 8 * GIB}
        ((guest, error),) = found.unclear
        assert (guest.name, bool(error.hint)) == ("vm", True)

    def test_a_share_of_a_maximum_that_is_not_known_now_is_one_of_that_which_was(self):
        book = guarantees("50%")
        for maximum, size, holds in ((8 * GIB, 8 * GIB, 4 * GIB), (None, 6 * GIB, 4 * GIB), (None, 6 * GIB, 4 * GIB)):
            snapshot = Snapshot(guests={"vm": Guest("vm", "vm", {"balloon_cur": size, "balloon_max": maximum})})
            assert book.look(snapshot).holds == {"vm": holds}
        book.look(Snapshot())  # the hypervisor is away
        assert book.look(snapshot).holds == {"vm": 4 * GIB}

    @pytest.mark.parametrize("written", ["", "0%"])
    def test_nothing_is_promised_only_where_the_definition_was_read(self, written):
        read, unread = Guest("read", "read", properties=PROMISED_NOTHING), Guest("unread", "unread")
        assert guarantees(written).columns([read, unread]) == {"balloon_min": [0, None]}

    def test_a_promise_that_is_not_known_yet_is_not_one_of_nothing(self):
        book = Guarantees(PluginContext(), lambda guest: "start", Portion.parse("0%"))
        assert book.columns([Guest("vm", "vm", properties=PROMISED_NOTHING)]) == {}

    def test_a_promise_of_more_than_a_guest_can_have_costs_the_others_nothing_while_its_maximum_is_not_known(self):
        book = guarantees()
        other = Guest("b", "b", {"balloon_cur": 8 * GIB, "balloon_max": 8 * GIB}, {"mem_guarantee": "6GiB"})
        for maximum in (4 * GIB, None):
            greedy = Guest("a", "a", {"balloon_cur": 4 * GIB, "balloon_max": maximum}, {"mem_guarantee": "100GiB"})
            found = book.look(Snapshot(Host(fields={"mem_available": 32 * GIB}), {"a": greedy, "b": other}))
            assert found.holds == {"a": 4 * GIB, "b": 6 * GIB}
            assert found.guests["a"].beyond == 100 * GIB
            assert book.columns([greedy])["balloon_min"] == [4 * GIB]

    def test_guests_own_promises_follow_the_guests_and_the_configuration(self):
        silent, promising, context = GuestSettings(), GuestSettings(), PluginContext()

        def own(guest):
            return Portion.parse("2GiB") if context.guest_settings(guest) is promising else None

        book = Guarantees(context, own, Portion.parse("0%"))
        context.guest_settings = lambda guest: silent
        plain, written = Guest("vm", "vm"), Guest("vm", "vm", properties={"mem_guarantee": "1GiB"})
        assert [book.own((plain,)) for _ in range(2)] == [{}, {}]
        assert book.own((written,)) == {"vm": GIB}, "another guest was given the id, or its metadata changed"
        context.guest_settings = lambda guest: promising
        assert book.own((written,)) == {"vm": 2 * GIB}, "the configuration was read again"
        assert book.own(()) == {}
        assert book.own((plain,)) == {"vm": 2 * GIB}


class TestMoreThanTheHostHas:
    def test_the_lowest_priority_pays_first_and_in_proportion(self):
        found = kept({"gold": Promise(6, 70), "a": Promise(6, 10), "b": Promise(3, 10)}, 12)
        assert found == {"gold": 6, "a": 4, "b": 2}

    def test_what_a_guest_claims_beyond_what_is_vouched_for_costs_no_other(self):
        honest, claims = {"mem_vouched": 6 * GIB}, {"balloon_max": 64 * GIB, "mem_vouched": 4 * GIB}
        found = standing(host=24 * GIB, written="75%", a=honest, b=honest, bad=claims)
        assert [promise.promised / GIB for promise in found.guests.values()] == [6, 6, 48]
        assert found.holds == {"a": 6 * GIB, "b": 6 * GIB, "bad": 12 * GIB}, "what is left after all promises that are vouched for"
        assert [one.guest.name for one in found.shrunk] == ["bad"]
        assert standing(host=15 * GIB, written="75%", a=honest, b=honest, bad=claims).holds["bad"] < 4 * GIB

    def test_what_is_vouched_for_stays_while_it_is_not_told(self):
        book = guarantees("75%")
        fields = {"a": {"mem_vouched": 6 * GIB}, "bad": {"balloon_max": 64 * GIB, "mem_vouched": GIB}}
        for told in (fields, {"a": {}, "bad": {"balloon_max": 64 * GIB}}):
            guests = {name: Guest(name, name, {"balloon_max": 8 * GIB, **known}) for name, known in told.items()}
            found = book.look(Snapshot(Host(fields={"mem_available": 12 * GIB}), guests))
        assert found.holds["a"] == 6 * GIB

    def test_it_is_said_with_who_pays(self):
        found = standing(host=10 * GIB, reserve="20%", written="75%", cheap={"priority": 10}, dear={"priority": 90})
        assert found.holds == {"cheap": 2 * GIB, "dear": 6 * GIB}
        assert found.oversold_by() == "guests are promised 12.00 GiB, this host can promise 8.00 GiB"
        assert found.losers() == "guarantees shrink, the lowest priority first: cheap has 2.00 GiB of 6.00 GiB"

    def test_an_oversold_host_gives_nothing_back_while_its_memory_is_not_known(self):
        book = guarantees("100%")
        guests = {name: Guest(name, name, {"balloon_cur": 4 * GIB, "balloon_max": 8 * GIB}) for name in "ab"}
        found = [book.look(Snapshot(Host(fields={"mem_available": kib}), guests)) for kib in (8 * GIB, None)]
        assert [one.holds for one in found] == [{"a": 4 * GIB, "b": 4 * GIB}] * 2

    @given(promises, rooms)
    def test_all_that_holds_fits_and_nothing_grows(self, promised, room):
        found = kept(promised, room)
        assert found.keys() == promised.keys()
        for identity, promise in promised.items():
            assert 0 <= found[identity] <= promise.kib + 1
        if sum(found.values()) > room:
            assert not found
        if sum(promise.kib + 1 for promise in promised.values()) <= room:
            assert all(found[identity] >= promise.kib for identity, promise in promised.items())

    @given(promises, rooms)
    def test_nobody_loses_while_somebody_less_important_still_holds_something(self, promised, room):
        found = kept(promised, room)
        losers = [(promise.firm, promise.priority) for identity, promise in promised.items() if found[identity] < promise.kib]
        if losers:
            for identity, promise in promised.items():
                if (promise.firm, promise.priority) < max(losers):
                    assert found[identity] == 0

    def test_no_field_of_a_guest_tells_of_more_than_what_holds_but_the_promise(self):
        book = guarantees("75%")
        guests = {name: Guest(name, name, {"balloon_cur": 8 * GIB, "balloon_max": 8 * GIB}) for name in "ab"}
        book.look(Snapshot(Host(fields={"mem_available": 8 * GIB}), guests))
        told = book.columns(list(guests.values()))
        assert told == {"balloon_min": [4 * GIB] * 2, "guest_guarantee": [4 * GIB] * 2, "mem_promised": [6 * GIB] * 2}
