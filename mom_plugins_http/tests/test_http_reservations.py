"""Reservations through the API: impossible ones are refused at once with all figures; others are made, watched and released."""

from collections.abc import Sequence
from dataclasses import replace
from threading import Event
from typing import Any
from unittest.mock import Mock

import pytest
from served_mom import Serve, Served

from mom_core import Entity, MomError, PluginContext, Scope
from mom_kvm import Admissions, Reservation, Reservations
from mom_plugins_http.routes.events import News

GIB = 1 << 20


@pytest.fixture
def served(serve: Serve) -> Served:
    return serve(cycles=2)


def ask(served: Served, status: int = 201, **body: object) -> Any:
    return served.ask("POST", "/v1/reservations", status, json=body)


def test_memory_is_reserved_watched_and_given_up(served: Served) -> None:
    room = served.get("/v1/reservations")["room"]
    assert room["most_kib"] > 1 << 20
    made = ask(served, memory="1GiB", deadline="10m", name="db-*")
    assert (made["memory_kib"], made["name"], made["state"], made["expected_kib"]) == (1 << 20, "db-*", "ready", 0)
    assert made["who"].startswith("user root, process ")
    assert served.get(f"/v1/reservations/{made['id']}")["id"] == made["id"]
    now = served.get("/v1/reservations")
    assert [one["id"] for one in now["items"]] == [made["id"]]
    assert now["room"]["reserved_kib"] == 1 << 20
    assert now["room"]["most_kib"] == room["most_kib"] - (1 << 20)
    assert served.ask("DELETE", f"/v1/reservations/{made['id']}")["state"] == "released"
    served.ask("DELETE", f"/v1/reservations/{made['id']}", 409)
    after = served.get("/v1/reservations")
    assert (after["items"], [one["id"] for one in after["ended"]]) == ([], [made["id"]])


def test_what_cannot_be_had_is_refused_with_all_figures(served: Served) -> None:
    problem = ask(served, 409, memory="1TiB", deadline="10m")
    room = served.get("/v1/reservations")["room"]
    assert problem["requested_kib"] == 1 << 30
    assert {name: problem[name] for name in room} == room
    assert "cannot reserve 1.00 TiB: at most" in problem["detail"]
    assert "guests can release" in problem["hint"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "`memory`: "),
        ({"memory": "8"}, "`memory`: '8' has no unit"),
        ({"memory": "8GiB"}, "`deadline`: "),
        ({"memory": True, "deadline": "1m"}, "`memory`: "),
        ({"memory": "8GiB", "deadline": "soon"}, "`deadline`: 'soon' is not a number with a unit"),
        ({"memory": "8GiB", "deadline": "1m", "guest": "a"}, "`guest`: "),
        ({"memory": "5KiB", "deadline": "1m"}, "reservation of 5 KiB is out of range"),
        ({"memory": "8GiB", "deadline": "400d"}, "reservation for"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_would(shared: Served, body: dict[str, object], message: str) -> None:
    problem = ask(shared, 400, **body)
    assert message in problem["detail"]
    assert problem["hint"]
    assert shared.get("/v1/reservations")["items"] == []


def test_what_is_not_there_is_said(shared: Served) -> None:
    assert "there is no reservation x" in shared.get("/v1/reservations/x", 404)["detail"]
    shared.ask("DELETE", "/v1/reservations/x", 404)


def test_before_the_first_cycle_nothing_is_promised(serve: Serve) -> None:
    served = serve(cycles=0)
    assert "mom has not looked at the host yet" in ask(served, 503, memory="1GiB", deadline="1m")["detail"]
    assert served.get("/v1/reservations")["room"] is None


def test_who_listens_is_told_of_reservations_and_policies(served: Served) -> None:
    with served.client.stream("GET", "/v1/events") as stream:
        lines = stream.iter_lines()
        next(line for line in lines if line == "event: cycle")
        ask(served, memory="1GiB", deadline="10m")
        served.put("60_mine")
        served.engine.cycle()
        assert next(line for line in lines if line.startswith("event: ")) == "event: reservations"
        assert '"state":"ready"' in next(lines)
        assert next(line for line in lines if line.startswith("event: ")) == "event: policies"
        assert '"what":"set 60_mine"' in next(lines)


@pytest.fixture
def failing(served: Served) -> Mock:
    """Replace the services of the plugin http."""
    found = Mock(spec=["reservations", "room", "admission"])
    served.plugin._context.offers = {Reservations: (found,), Admissions: (found,)}
    return found


def test_cycles_are_told_while_nothing_is_known_of_reservations_and_what_changed_meanwhile_afterwards() -> None:
    kept = Mock(spec=["reservations"])
    news = News(PluginContext(offers={Reservations: (kept,)}))
    making = Reservation("r1", 1 << 20, Reservation.State.MAKING, guest=Entity(Scope.GUEST, "1", "web"))
    kept.reservations.side_effect = [[making], MomError("nothing is known"), [replace(making, state=Reservation.State.READY)]]
    assert [news.gather(), news.gather()] == [[], []]
    (told,) = news.gather()
    assert told.name == "reservations"
    assert told.content["items"][0]["guest"] == {"scope": "guest", "id": "1", "name": "web"}


def test_a_service_that_fails_costs_no_report(served: Served, failing: Mock, caplog: pytest.LogCaptureFixture) -> None:
    for service in (failing.reservations, failing.room, failing.admission):
        service.side_effect = RuntimeError("no")
    served.engine.cycle()
    report = served.engine.cycle()
    assert {plugin.name: plugin.state for plugin in report.plugins}["http"] == "ok"
    assert served.get("/v1/report")["cycle"]["number"] == report.number
    assert caplog.messages.count("another plugin fails to report its changes") == 1
    for path in ("/v1/reservations", "/v1/admission?memory=1GiB"):
        assert "see mom's log" in served.get(path, 500)["hint"]


def test_a_service_that_does_not_answer_costs_no_report(served: Served, failing: Mock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mom_plugins_http.service._NEWS_SECONDS", 0.05)
    back = Event()

    def waits() -> Sequence[Reservation]:
        back.wait(60)
        return []

    failing.reservations.side_effect = waits
    served.engine.cycle()
    report = served.engine.cycle()
    assert served.get("/v1/report")["cycle"]["number"] == report.number
    back.set()
