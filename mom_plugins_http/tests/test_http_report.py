"""One cycle as one document, live and in the status file, and the stream of events."""

import json
import socket
import threading
from pathlib import Path

import pytest
from pydantic import TypeAdapter
from served_mom import Served
from test_http_reading import busy_report

from mom_core import MomError
from mom_daemon import json_text
from mom_daemon.report_models import ReportDocument
from mom_daemon.status_file import status_of
from mom_plugins_http.cli.client import Client

SECONDS = 60.0


def test_the_report_is_what_the_status_file_holds(served: Served) -> None:
    report = served.engine.cycle()
    live = served.get("/v1/report")
    written = json.loads(json_text(status_of(served.engine, report)))
    assert live.keys() == written.keys()
    assert {**live, "monotonic_seconds": 0} == {**written, "monotonic_seconds": 0}
    assert len(live["guests"]["rows"]) == 24


def test_a_busy_cycle_is_told_in_full(served: Served) -> None:
    served.tell(busy_report())
    found = served.get("/v1/report")
    assert TypeAdapter(ReportDocument).validate_python(found)
    (outcome,), (revision,), (problem,) = found["outcomes"], found["revisions"], found["problems"]
    assert outcome["source"] == {"name": "50_balloon", "line": 3, "column": 4}
    assert (revision["wanted_because"], revision["reason"]) == ("it has enough", "too much at once")
    assert problem["entity"]["name"] == "vm1"
    assert found["trial"]["differences"][0]["considered"] == 80
    assert found["host"]["fields"]["mem_free"] is None, "no number is unknown, and not 0"


def test_a_report_can_have_some_fields_of_guests_only(served: Served) -> None:
    guests = served.get("/v1/report?fields=balloon_cur")["guests"]
    shown = [one["key"] for one in served.get("/v1/report")["guest_columns"]]
    assert guests["columns"] == ["id", "name", "blocked", "properties", *shown], "balloon_cur is among those that are always there"
    assert served.get("/v1/report?fields=balloon_cur,mem_unused")["guests"]["columns"] == [*guests["columns"], "mem_unused"]
    assert "baloon_max" in served.get("/v1/report?fields=baloon_max", 400)["detail"]


def test_a_mom_that_is_silent_is_given_up_as_by_other_verbs_and_said_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer() -> None:
        held.append(server.accept()[0])
        held[0].sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")

    monkeypatch.setattr("mom_plugins_http.cli.client.SILENCE_SECONDS", 0.2)
    held: list[socket.socket] = []
    path = tmp_path / "mom.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        with pytest.raises(MomError, match=r"did not answer on .*mom\.sock within 0\.3 s"):
            next(Client(path, 0.3).events())
        server.accept()[0].close()
        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(MomError, match=r"did not answer on .*mom\.sock within 0\.2 s"):
            next(Client(path, 60).events())
        thread.join()
        held[0].close()


def test_who_listens_is_told_the_state_now_and_after_each_cycle(served: Served) -> None:
    events = Client(served.path, 60).events()
    for number in (1, 2, 3):
        name, content = next(events)
        assert (name, content["cycle"]["number"]) == ("cycle", number)
        assert content == served.get("/v1/status")
        served.engine.cycle()


def test_a_stream_ends_with_mom(served: Served) -> None:
    events = Client(served.path, 60).events()
    next(events)
    served.plugin.mom_teardown()
    assert list(events) == []
