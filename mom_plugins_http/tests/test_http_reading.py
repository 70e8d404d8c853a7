"""Reading: all of the last cycle, with units, without waiting for a cycle."""

import re
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from served_mom import Serve, Served

from mom_core import Condition, Decision, Outcome, PluginReport, Problem, Report, Revision, Source, Status, Value, Verdict
from mom_core.testing import snapshot
from mom_plugins_http.cli.client import ApiRefusedError, Client
from mom_plugins_http.cli.verbs import _cycle_line


def busy_report(number: int = 7) -> Report:
    """Return a cycle with all kinds of events."""
    taken = snapshot(
        host={"mem_free": float("nan"), "mem_available": 1000}, guests={"vm1": {"balloon_cur": 100}, "vm2": {"balloon_cur": None}}
    )
    vm1 = next(guest.entity for guest in taken.guests.values() if guest.name == "vm1")
    wanted = Decision(vm1, "balloon_target", 90, "it has enough", Source("50_balloon", 3, 4))
    plugin = PluginReport("sim", PluginReport.State.SET_ASIDE, {"mom_collect_host": 0.25}, 9, 3, "it broke", 4.0)
    return Report(
        number,
        1.5,
        "enforce",
        taken,
        [wanted],
        [Revision(wanted, None, "too much at once", "core")],
        [Outcome(wanted, 100, 95, Status.FAILED, "no such guest")],
        [Problem(Source("sim"), "it broke", vm1, hint="mend it")],
        [plugin],
        0.5,
        considered=Decision.Trial([Decision(vm1, "balloon_target", 80)]).decisions,
    )


def test_before_the_first_cycle_it_says_so(serve: Serve) -> None:
    problem = serve(cycles=0).get("/v1/guests", 503)
    assert problem["detail"] == "mom has not finished its first cycle yet"


def test_everything_of_a_cycle_can_be_read(served: Served) -> None:
    served.tell(busy_report())
    assert served.get("/v1/status")["outcome_counts"]["failed"] == 1
    assert [guest["name"] for guest in served.get("/v1/guests")["items"]] == ["vm1", "vm2"]
    assert served.get("/v1/problems?guest=vm1")["items"][0]["hint"] == "mend it"
    assert served.get("/v1/problems?guest=vm2")["items"] == served.get("/v1/problems?guest=host")["items"] == []
    assert served.get("/v1/problems?guest=vm", 404)["hint"].startswith("did you mean vm1 or vm2?; GET /v1/guests lists all guests")


def test_a_problem_of_several_guests_is_told_once(served: Served) -> None:
    report = busy_report()
    first, second = (guest.entity for guest in report.snapshot.guests.values())
    same = [Problem(Source("sim"), "it broke", one, hint=f"of {one.name}") for one in (first, second)]
    served.tell(replace(report, problems=same))
    (item,) = served.get("/v1/problems")["items"]
    assert (item["about"], item["who"]) == (2, "2 guests (vm1, vm2)")
    assert (item["message"], item["hint"]) == ("it broke", "such as vm1: of vm1")
    assert [one["name"] for one in item["first"]] == ["vm1", "vm2"]
    assert served.get("/v1/problems?guest=vm2")["items"][0]["who"] == "vm2"
    assert [one["entity"]["name"] for one in served.get("/v1/report")["problems"]] == ["vm1", "vm2"], "each is there by itself"


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "colour=red"])
def test_a_wrong_query_is_told_what_is_right(shared: Served, query: str) -> None:
    assert shared.get(f"/v1/host/history?{query}", 400)["hint"]


def test_what_is_kept_of_guests_is_unknown_where_it_was_and_whole_where_it_was(serve: Serve) -> None:
    served = serve(cycles=1)
    known: dict[str, dict[str, Value]] = {
        "1": {"balloon_cur": 4096, "rss": 1.5, "mem_unused": None},
        "2": {"balloon_cur": 1024, "rss": "much", "mem_unused": 1},
    }
    for number in (7, 8):
        taken = snapshot(host={}, guests=known)
        served.tell(Report(number, 1e9 + number, "enforce", taken, (), (), (), (), (), 0.01))
    one, other = (served.get(f"/v1/guests/{guest}/history?limit=1")["items"][0]["fields"] for guest in known)
    assert [one[name] for name in ("balloon_cur", "rss", "mem_unused", "cold")] == [4096, 1.5, None, None]
    assert [other[name] for name in ("balloon_cur", "rss", "mem_unused")] == [1024, None, 1]
    assert served.client.get("/v1/guests/1/history?limit=1").text.count("4096,") == 1, "whole numbers stay whole"
    together = served.get("/v1/host/history?limit=1")["items"][0]["guests_together"]
    assert {name: together[name] for name in ("balloon_cur", "rss", "swap_in")} == {"balloon_cur": 5120, "rss": 1.5, "swap_in": None}
    assert served.get("/v1/guest-histories?field=mem_unused&limit=2")["guests"] == {"1": [None, None], "2": [1, 1]}


@pytest.mark.parametrize("path", ["/v1/", "/v1/guests/", "/v1/%2e%2e/status", "/v1/status%00"])
def test_what_does_not_exist_is_not_found(shared: Served, path: str) -> None:
    url = shared.client.base_url.copy_with(raw_path=path.encode())  # sent as it is
    answer = shared.client.send(httpx.Request("GET", url))
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("path", "plugin"),
    [("/v1/policies", "policy"), ("/v1/recorded", "record"), ("/v1/admission?memory=1GiB", "sla"), ("/v1/reservations/x", "balloon")],
)
def test_what_no_enabled_plugin_does_is_refused_with_the_plugin_that_would(served: Served, path: str, plugin: str) -> None:
    served.plugin._context.offers = {}
    assert served.get(path, 409)["hint"] == f"enable the {plugin} plugin in the configuration"


def test_a_method_that_makes_no_sense_is_told_which_do(shared: Served) -> None:
    answer = shared.client.request("DELETE", "/v1/status")
    assert answer.status_code == 405
    assert "GET" in answer.json()["hint"]
    assert "GET" in answer.headers["allow"]


def test_a_slash_in_a_guests_name_is_no_step_of_a_path(served: Served) -> None:
    """Names of KubeVirt's guests contain a slash."""
    served.tell(
        replace(busy_report(), snapshot=snapshot(guests={"shop/db": {"balloon_cur": 100}, "shop": {"balloon_cur": 50}}), decisions=())
    )
    for name in ("shop%2Fdb", "shop%2fdb"):
        assert served.get(f"/v1/guests/{name}/explanation")["memory"]["size_kib"] == 100
        assert served.get(f"/v1/guests/{name}")["name"] == "shop/db"
    assert served.get("/v1/guests/shop/explanation")["memory"]["size_kib"] == 50
    assert served.get("/v1/guests/shop")["name"] == "shop"
    served.get("/v1/guests/shop%252Fdb", 404)


def test_an_explanation_has_numbers_sentences_and_the_policys_line(served: Served) -> None:
    report = busy_report()
    wanted = Decision(report.decisions[0].entity, "balloon_target", 90, "", Source("50_balloon", 1, 1))
    served.tell(replace(report, decisions=(wanted,), revisions=(), outcomes=(Outcome(wanted, 100, 95, Status.FAILED, "no such guest"),)))
    found = served.get("/v1/guests/vm1/explanation")
    assert found["memory"]["size_kib"] == 95
    assert found["decisions"][0]["source"]["text"].startswith("#"), "the first line of the default policy is a comment"
    assert found["decisions"][0]["outcome"]["error"] == "no such guest"
    texts = {sentence["topic"]: sentence["text"] for sentence in found["sentences"]}
    assert "FAILED" in texts["done"]
    assert served.get("/v1/guests/vm2/explanation")["memory"]["size_kib"] is None


def test_a_list_of_guests_can_have_some_fields_only(served: Served) -> None:
    guest = served.get("/v1/guests?fields=balloon_cur,reclaim_cost")["items"][0]
    assert list(guest["fields"]) == ["balloon_cur"], "what nobody has said of it is left out"
    assert list(served.get("/v1/guests?fields=balloon_cur,%20balloon_max,")["items"][0]["fields"]) == ["balloon_cur", "balloon_max"]
    assert served.get("/v1/guests?fields=")["items"][0]["fields"] == {}
    assert len(served.get("/v1/guests")["items"][0]["fields"]) > 5


def test_fields_of_guests_that_no_plugin_declares_are_refused(served: Served) -> None:
    refused = served.get("/v1/guests?fields=balloon_cur,baloon_max", 400)
    assert refused["detail"] == "no plugin declares the guest field baloon_max"
    assert refused["hint"] == "GET /v1/fields lists all fields"
    refused = served.get(f"/v1/guests?fields=mem_free,{','.join(f'nothing_{number}' for number in range(20))}", 400)
    assert "mem_free, nothing_0, " in refused["detail"], "the host's fields are no guest's"
    assert refused["detail"].endswith(" and 16 more")
    assert served.get("/v1/guests?fields=%0aballoon%1b", 400)["detail"].endswith(r" balloon\x1b")


def test_what_all_guests_had_in_the_last_cycles_comes_at_once(serve: Serve) -> None:
    served = serve(cycles=3)
    found = served.get("/v1/guest-histories?limit=2")
    assert len(found["times"]) == 2
    assert len(found["guests"]) == 24
    assert all(len(values) == 2 for values in found["guests"].values())
    assert "balloon_cur" in served.get("/v1/guest-histories?field=nothing_such", 400)["hint"]


def test_the_hosts_history_has_only_the_fields_that_are_asked_for_and_may_have_some_that_are_not_declared(served: Served) -> None:
    (newest,) = served.get("/v1/host/history?limit=1&fields=mem_available,nowhere?,swap_usage?")["items"]
    assert set(newest["fields"]) == {"mem_available", "swap_usage"}
    assert served.get("/v1/report?fields=rss?,nowhere?")["guests"]["rows"]
    assert "no plugin declares the host field nowhere" in served.get("/v1/host/history?fields=nowhere", 400)["detail"]


def test_guests_that_the_hypervisor_does_not_list_are_unknown_and_not_gone(served: Served) -> None:
    unlisted = Verdict([Condition("guests", "the guests are unknown: no answer", cure="look after it", plugins=("core",))])
    served.tell(replace(busy_report(), snapshot=snapshot(), verdict=unlisted))
    for path in ("", "/vm1", "/vm1/history", "/vm1/explanation"):
        problem = served.get(f"/v1/guests{path}", 503)
        assert (problem["detail"], problem["hint"]) == ("the guests are unknown: no answer", "look after it")
    with pytest.raises(ApiRefusedError, match="the guests are unknown"):
        Client(served.path).get("/v1/guests/vm1")
    line = _cycle_line(served.get("/v1/report"))
    assert "cycle 7: guests unknown, " in line


def test_the_readme_names_only_paths_that_exist(shared: Served) -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    paths = " ".join(shared.get("/v1/openapi.json")["paths"])
    named, there = (set(re.findall(r"/v1/[a-z-]+", text)) for text in (readme, paths))
    assert named <= there
