"""What a guest is guaranteed: what holds, or else the largest promise."""

from collections.abc import Mapping

import pytest

from mom_core import Guest, PluginContext, Portion, Value
from mom_kvm import Promises
from mom_plugins_balloon.promises import Guaranteed, Guarantees, GuestPromise, PromisesKept


def guarantees(written: Guaranteed | None = None) -> Guarantees:
    """Those of a host whose YAML file promises this to each guest."""
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
    promises: Promises = guarantees()
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
    book = guarantees()
    book.standing = PromisesKept({"1": GuestPromise(Guest("1", "vm"), 300, 300, 50.0, guarantee=200)})
    promises: Promises = book
    assert (promises.guaranteed_kib(Guest("1", "vm", fields)), promises.promised_kib(Guest("1", "vm", fields))) == (guaranteed, promised)
    assert promises.guaranteed_kib(Guest("2", "other", {})) is None
    anew = Guest("1", "vm", incarnation="2")
    assert (promises.guaranteed_kib(anew), promises.promised_kib(anew)) == (None, None), "that was said of another one"
