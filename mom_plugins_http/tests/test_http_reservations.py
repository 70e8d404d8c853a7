"""Reservations through the API: impossible ones are refused at once with all figures; others are made, watched and released."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest
from served_mom import Serve, Served

from mom_core import Entity, MomError, PluginContext, Scope
from mom_kvm import Admission, Admissions, Reservation, Reservations
from mom_plugins_http.cli.client import ApiRefusedError, Client, coded
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


def test_a_mom_that_observes_promises_only_what_is_there(served: Served) -> None:
    served.engine.reload(dataclasses.replace(served.engine.config, mode="observe"))
    served.engine.cycle()
    room = served.get("/v1/reservations")["room"]
    assert (room["can_free_kib"], room["why"]) == (0, "mom only observes")
    assert ask(served, memory=f"{room['free_kib']}KiB", deadline="1m")["state"] == "ready"
    assert "(mom only observes)" in ask(served, 409, memory="1GiB", deadline="1m")["hint"]


def test_no_more_can_be_reserved_than_promises_to_guests_allow(serve: Serve) -> None:
    served = serve(cycles=3, plugins={"sim": {"guests": 6, "sold": 0.5}, "sla": {"default": "platinum"}})
    most_kib = served.get("/v1/reservations")["room"]["most_kib"]
    refused = ask(served, 409, memory=f"{most_kib - (64 << 10)}KiB", deadline="10m")
    assert "would break promises to other guests" in refused["detail"]
    with pytest.raises(ApiRefusedError, match="there is no class platinam") as misused:
        Client(served.path).get("/v1/admission?memory=8GiB&class=platinam")
    assert isinstance(misused.value, ValueError), "a class that is mistyped is misuse, and not a guest that does not fit"


def test_a_policy_that_does_not_go_by_it_makes_no_room(served: Served) -> None:
    assert served.put("50_balloon").status_code == 200
    assert (
        served.get("/v1/reservations")["room"]["why"]
        == "no policy in force reads balloon_suggested (the balloon law's suggestions) or Host.mem_reserved"
    )


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


def test_many_clients_are_never_promised_more_than_there_is(served: Served) -> None:
    most = served.get("/v1/reservations")["room"]["most_kib"]
    share = most // 7
    with ThreadPoolExecutor(10) as pool:
        wanted = [{"memory": f"{share}KiB", "deadline": "10m"}] * 10
        answers = pool.map(lambda body: served.client.post("/v1/reservations", json=body), wanted)
    codes = [answer.status_code for answer in answers]
    assert 1 <= codes.count(201) == len(codes) - codes.count(409) <= 7, "fewer once the guests' statistics are old"
    found = served.get("/v1/reservations")
    assert sum(one["memory_kib"] for one in found["items"]) == found["room"]["reserved_kib"] <= most


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


class SometimesKnown(Reservations):
    """Reservations that report unknown host memory."""

    known = True
    state = Reservation.State.MAKING

    def reservations(self) -> Sequence[Reservation]:
        if not self.known:
            raise MomError("nothing is known of the host's memory")
        return [Reservation("r1", 1 << 20, self.state, guest=Entity(Scope.GUEST, "1", "web"))]

    def room(self) -> Reservation.Room:
        raise NotImplementedError

    def reserve(self, memory_kib: int, seconds: float, *, name: str = "", who: str = "") -> Reservation:
        raise NotImplementedError

    def release(self, identity: str, *, who: str = "") -> Reservation:
        raise NotImplementedError


def test_cycles_are_told_while_nothing_is_known_of_reservations_and_what_changed_meanwhile_afterwards() -> None:
    kept = SometimesKnown()
    news = News(PluginContext(offers={Reservations: (kept,)}))
    assert news.gather() == []
    kept.known, kept.state = False, Reservation.State.READY
    assert news.gather() == []
    kept.known = True
    (told,) = news.gather()
    assert told.name == "reservations"
    assert told.content["items"][0]["guest"] == {"scope": "guest", "id": "1", "name": "web"}


class Failing(SometimesKnown):
    """Reservations that call this function instead."""

    do: Callable[[], Any]

    def reservations(self) -> Sequence[Reservation]:
        return self.do()

    def room(self) -> Reservation.Room:
        return self.do()

    def admission(self, memory_kib: int, sla_class: str = "", count: int = 1) -> Admission:
        return self.do()


def fails() -> Any:
    raise RuntimeError("no")


@pytest.fixture
def failing(served: Served) -> Failing:
    """Replace the services of the plugin http."""
    found = Failing()
    served.plugin._context.offers = {Reservations: (found,), Admissions: (found,)}
    return found


def test_a_service_that_fails_costs_no_report(served: Served, failing: Failing, caplog: pytest.LogCaptureFixture) -> None:
    failing.do = fails
    served.engine.cycle()
    report = served.engine.cycle()
    assert {plugin.name: plugin.state for plugin in report.plugins}["http"] == "ok"
    assert served.get("/v1/report")["cycle"]["number"] == report.number
    assert caplog.messages.count("another plugin fails to report its changes") == 1
    for path in ("/v1/reservations", "/v1/admission?memory=1GiB"):
        assert "see mom's log" in served.get(path, 500)["hint"]


def test_a_service_that_does_not_answer_costs_no_report(served: Served, failing: Failing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mom_plugins_http.service._NEWS_SECONDS", 0.05)
    back = Event()

    def waits() -> Sequence[Reservation]:
        back.wait(60)
        return []

    failing.do = waits
    served.engine.cycle()
    report = served.engine.cycle()
    assert served.get("/v1/report")["cycle"]["number"] == report.number
    back.set()


def test_a_name_that_is_no_text_or_empty_is_asked_for_as_it_was_typed_or_refused() -> None:
    assert coded(os.fsdecode(b"a/\xff")) == "a%2F%FF"
    with pytest.raises(ApiRefusedError, match="the name is empty"):
        coded("")
