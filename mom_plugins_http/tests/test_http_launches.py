"""Launches through the API: a guest waits for its memory before its start, or gets a refusal with the reason."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from served_mom import Serve, Served

from mom_devkit import wait_until
from mom_kvm import LaunchedGuest, Launches, LaunchReader

REFUSES = {"balloon": {"reservations": {"launches": {"when_short": "refuse"}}}}


def ask(served: Served, status: int = 200, query: str = "", **body: object) -> Any:
    return served.ask("POST", f"/v1/launches{query}", status, json=body)


def offer(served: Served, offers: dict[type, tuple[object, ...]]) -> None:
    """Replace these services of other plugins."""
    served.plugin._context.offers = {**served.plugin._context.offers, **offers}


@pytest.fixture
def served(serve: Serve) -> Served:
    return serve(cycles=2)


def test_with_room_a_guest_may_start_at_once_and_its_memory_is_kept(served: Served) -> None:
    told = ask(served, name="web", memory="1GiB", id="u1")
    assert (told["state"], told["note"], told["guest"]["memory_kib"]) == ("starts", "", 1 << 20)
    (kept,) = served.get("/v1/reservations")["items"]
    assert (kept["id"], kept["name"], kept["memory_kib"]) == (told["reservation"], "web", 1 << 20)
    assert kept["who"].startswith("user root, process ")


def test_what_must_not_start_is_told_why(serve: Serve) -> None:
    served = serve(cycles=2, plugins=REFUSES)
    problem = ask(served, 409, name="web", memory="1TiB")
    assert problem["state"] == "refused"
    assert "cannot reserve 1.00 TiB: at most" in problem["detail"]
    assert "are available" in problem["hint"]
    assert served.get("/v1/reservations")["items"] == []


@pytest.mark.parametrize(
    ("body", "message"),
    [({"name": "", "memory": "1GiB"}, "`name`: "), ({"name": "a"}, "`memory`: "), ({"name": "a", "memory": "8GiB", "wait": 5}, "`wait`: ")],
)
def test_what_makes_no_sense_is_refused_with_what_would(shared: Served, body: dict[str, object], message: str) -> None:
    problem = shared.ask("POST", "/v1/launches", 400, json=body)
    assert message in problem["detail"]
    assert "state" not in problem, "no hook takes it for a refusal of the guest"


def test_without_a_plugin_that_makes_room_the_answer_is_no_refusal_of_the_guest(serve: Serve) -> None:
    problem = ask(serve(without=["balloon"]), 409, name="a", memory="1GiB")
    assert "no enabled plugin makes room" in problem["detail"]
    assert "state" not in problem


@pytest.mark.parametrize("kind", ["application/xml", "text/plain"])
def test_a_description_that_no_plugin_understands_is_said_to_be_so(served: Served, kind: str) -> None:
    for content in (b"<domain/>", b"\xff"):
        answer = served.client.post("/v1/launches", content=content, headers={"content-type": kind})
        assert (answer.status_code, answer.json()["detail"]) == (422, "no enabled plugin can read this description of a guest")


class Reader(LaunchReader):
    """Hypervisor plugin that is told about waiting starts."""

    def __init__(self) -> None:
        self.waits = threading.Event()
        self.held: list[str] = []

    def read(self, description: str, identity: str) -> LaunchedGuest | None:
        return LaunchedGuest(description, 64 << 10, identity) if description.startswith("guest") else None

    def launches(self, guest: LaunchedGuest) -> None:
        self.held.append(guest.id)
        self.waits.set()

    def launched(self, guest: LaunchedGuest) -> None:
        self.held.remove(guest.id)


class Room(Launches):
    """Launches whose memory becomes available on a test's order."""

    def __init__(self) -> None:
        self.comes = threading.Event()
        self.looks = 0
        self.patience = 0.0

    def begin(self, guest: LaunchedGuest, *, patience: float, who: str = "") -> LaunchedGuest.Launch:
        self.patience = patience
        return LaunchedGuest.Launch(guest, LaunchedGuest.Launch.State.WAITING)

    def look(self, launch: LaunchedGuest.Launch) -> LaunchedGuest.Launch:
        self.looks += 1
        return replace(launch, state=LaunchedGuest.Launch.State.STARTS) if self.comes.is_set() else launch


def test_while_it_waits_its_hypervisor_knows_that_and_it_starts_when_the_memory_is_there(served: Served) -> None:
    reader, room = Reader(), Room()
    offer(served, {LaunchReader: (reader,), Launches: (room,)})
    with ThreadPoolExecutor(1) as pool:
        headers = {"content-type": "text/plain"}
        asked = pool.submit(served.client.post, "/v1/launches?id=7&patience=20", content="guest web", headers=headers)
        assert reader.waits.wait(20)
        wait_until(lambda: room.looks > 1, "it is looked again and again")
        assert reader.held == ["7"]
        assert served.get("/v1/reservations")["items"] == [], "others are answered meanwhile"
        room.comes.set()
        answer = asked.result(30)
    assert answer.status_code == 200, answer.text
    assert answer.json()["guest"] == {"name": "guest web", "memory_kib": 64 << 10, "id": "7", "why_none": ""}
    assert (reader.held, room.patience) == ([], 20)


def test_a_launch_that_waits_asks_the_plugin_that_a_reload_has_brought(served: Served) -> None:
    before, after = Room(), Room()
    after.comes.set()
    offer(served, {Launches: (before,)})
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(served.client.post, "/v1/launches?patience=20", json={"name": "web", "memory": "1GiB"})
        wait_until(lambda: before.looks > 0)
        offer(served, {Launches: (after,)})
        assert asked.result(30).json()["state"] == "starts"
    assert after.looks == 1


def test_a_launch_that_waits_goes_on_waiting_while_it_cannot_be_looked_after(served: Served) -> None:
    """Its hook would treat a refused request as permission to start."""
    room, worker = Room(), served.service._room_worker
    offer(served, {Launches: (room,)})
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(served.client.post, "/v1/launches", json={"name": "web", "memory": "1GiB"})
        wait_until(lambda: room.looks > 0)
        worker.room.left -= 100
        with pytest.raises(TimeoutError):
            asked.result(0.4)
        worker.room.left += 100
        room.comes.set()
        assert asked.result(30).status_code == 200
