"""The joined report: sums over those who tell, and the others by name."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from mom_plugins_fleet.records import LARGEST_KIB, AccountsState
from mom_plugins_fleet.report_verb import HostAccount, joined, print_joined

GIB_HOUR = float(1 << 20) * 3600


def accounts(**more: object) -> AccountsState:
    known: dict[str, object] = {
        "since": 0.0, "until": 7200.0, "seen_seconds": 7200.0, "total_kib": float(32 << 20), "sold_kib_seconds": 20 * GIB_HOUR,
        "held_kib_seconds": 12 * GIB_HOUR, "unheld_kib_seconds": 8 * GIB_HOUR, "by_balloon_kib_seconds": 1 * GIB_HOUR,
        "by_sweeps_kib_seconds": 2 * GIB_HOUR, "by_cold_kib_seconds": 0.0, "by_ksm_kib_seconds": 1 * GIB_HOUR,
        "waited_for_mom_seconds": 3.0, "killed": 0, "promise_kept_seconds": 7200.0, "promise_broken_seconds": 0.0,
    }  # fmt: skip
    return AccountsState.model_validate({**known, **more})


FOUND = [
    HostAccount("h1", accounts(price=2.0, currency="EUR")),
    HostAccount("h2", accounts(by_ksm_kib_seconds=None, killed=None, price=3.0, currency="USD")),
    HostAccount("h3", None, "it keeps no accounts: enable the plugin record there"),
]


def test_the_sums_are_over_the_hosts_that_tell_and_the_others_are_named() -> None:
    told = json.loads(json.dumps(joined(FOUND)))
    assert [one["host"] for one in told["hosts"]] == ["h1", "h2"]
    assert told["without_accounts"] == {"h3": "it keeps no accounts: enable the plugin record there"}
    whole = told["whole"]
    assert (whole["hosts"], whole["of_hosts"]) == (2, 3)
    assert whole["sold_gib_hours"] == 40
    assert whole["given_back_gib_hours"] == 4 + 3
    assert whole["given_back_gib_hours"] == sum(one["given_back_gib_hours"] for one in told["hosts"])
    assert told["worth"]["money"] == pytest.approx({"EUR": 4 / 730 * 2, "USD": 3 / 730 * 3})
    assert told["worth"]["hosts"] == pytest.approx((2 + 1.5) / 32)


def test_what_no_host_knows_is_unknown_and_what_one_knows_is_not_lost() -> None:
    told = joined(FOUND)
    assert told["whole"]["killed"] == 0
    assert told["whole"]["by_ksm_gib_hours"] == 1
    assert joined(FOUND[1:])["whole"]["killed"] is None
    assert joined(FOUND[2:])["whole"]["given_back_gib_hours"] is None


@pytest.mark.parametrize("name", ["since", "until", "seen_seconds"])
def test_a_host_that_tells_of_no_time_that_there_is_is_in_no_sum(name: str) -> None:
    with pytest.raises(ValidationError):
        accounts(**{name: 1e30})


@pytest.mark.parametrize("largest", [True, False])
def test_whatever_one_host_tells_there_is_a_report_of_all(largest: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """What is far too large, of the least time that there is, and all that is the least."""
    sums = [name for name in AccountsState.model_fields if name.endswith("_seconds") and name != "seen_seconds"]
    liar = dict.fromkeys(sums, 1e30 if largest else 0.0) | {"total_kib": 1.0, "price": 1e30, "seen_seconds": 5e-324 if largest else 0.0}
    found = [*FOUND, HostAccount("h4", accounts(**liar, until=float((1 << 36) - 1), killed=LARGEST_KIB))]
    print_joined(found)
    assert "h3: it keeps no accounts" in capsys.readouterr().out
    assert [one["host"] for one in json.loads(json.dumps(joined(found), allow_nan=False))["hosts"]] == ["h1", "h2", "h4"]


def test_a_person_reads_which_hosts_are_in_no_sum(capsys: pytest.CaptureFixture[str]) -> None:
    print_joined(FOUND)
    text = capsys.readouterr().out
    assert "given back on 2 of 3 hosts, at least: 7 GiB h" in text
    assert "h3: it keeps no accounts: enable the plugin record there; it is in no sum" in text
    print_joined(FOUND[2:])
    assert "given back" not in capsys.readouterr().out
