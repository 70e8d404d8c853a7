"""One cycle as one document: live, in the status file, and as a stream of changes."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from served_mom import Served
from test_http_reading import busy_report

from mom_core import MomError
from mom_daemon import json_text
from mom_daemon.report_models import ReportDocument
from mom_daemon.status import status_of
from mom_plugins_http.cli.client import ApiRefusedError, Client
from mom_plugins_http.cli.event_stream import EventStream
from mom_plugins_http.report_changes import ReportChanges, changes_between, with_changes
from mom_plugins_http.routes.events import MOST_LISTS
from mom_plugins_http.server.access import LocalAccess, Peer, Right

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
    assert "did you mean balloon_max" in served.get("/v1/report?fields=baloon_max", 400)["hint"]


# --- changes -----------------------------------------------------------------------------------------------------------------------------

VALUES = st.none() | st.integers(0, 3)
ROWS = st.dictionaries(st.sampled_from("abcd"), st.tuples(st.sampled_from(["x", "y"]), VALUES), max_size=4)
OUTCOMES = st.dictionaries(st.tuples(st.sampled_from("ab"), st.sampled_from(["size", "share"])), VALUES, max_size=4)


@st.composite
def documents(draw: st.DrawFn) -> ReportDocument:
    """As far as changes look at them."""
    rows: list[list[Any]] = sorted(
        ([identity, name, {}, None, value] for identity, (name, value) in draw(ROWS).items()), key=lambda row: (row[1], row[0])
    )
    outcomes = [{"entity": {"id": identity}, "control": control, "value": value} for (identity, control), value in draw(OUTCOMES).items()]
    members = {"cycle": {"number": draw(st.integers(1, 2))}, "mode": draw(st.sampled_from(["enforce", "observe"])), "verdict": draw(VALUES)}
    return cast(ReportDocument, {**members, "guests": {"columns": ["id", "name"], "rows": rows}, "outcomes": outcomes})


def in_order(document: ReportDocument) -> dict[str, Any]:
    """Outcomes have no order of their own."""
    return {**document, "outcomes": sorted(document["outcomes"], key=lambda one: (one["entity"]["id"], one["control"]))}


@given(documents(), documents())
def test_a_report_and_what_changes_make_the_next_report(before: ReportDocument, now: ReportDocument) -> None:
    changes = changes_between(before, now)
    assert changes is not None
    assert in_order(with_changes(before, json.loads(json.dumps(changes)))) == in_order(now)


def test_a_mom_that_is_silent_is_given_up_as_by_other_verbs_and_said_in_words(tmp_path: Path) -> None:
    def answer() -> None:
        held.append(server.accept()[0])
        held[0].sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")

    held: list[socket.socket] = []
    path = tmp_path / "mom.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        client, began = Client(path, 0.3), time.monotonic()
        with pytest.raises(MomError, match=r"did not answer on .*mom\.sock within 0\.3 s"):
            EventStream(client, SECONDS)
        assert time.monotonic() - began < SECONDS / 2
        server.accept()[0].close()
        thread = threading.Thread(target=answer)
        thread.start()
        stream = EventStream(Client(path), 0.2)
        thread.join()
        with pytest.raises(MomError, match=r"did not answer on .*mom\.sock within 0\.2 s"):
            next(iter(stream))
        stream.close()
        held[0].close()


class Reader:
    """A client that puts a report and its changes together."""

    def __init__(self, served: Served, query: str = "") -> None:
        self.stream = EventStream(Client(served.path), SECONDS, query)
        self.events: Iterator[tuple[str, dict[str, Any]]] = iter(self.stream)
        self.report = cast(ReportDocument, {})
        self.names: list[str] = []

    def hear(self) -> ReportDocument:
        """The next cycle."""
        name, content = next(self.events)
        self.names.append(name)
        if name == "cycle":
            TypeAdapter(ReportChanges).validate_python(content)
            self.report = with_changes(self.report, content)
        elif name == "report":
            self.report = cast(ReportDocument, content)
        return self.report


@pytest.mark.parametrize("query", ["", "fields=", "fields=balloon_cur,mem_usable"])
def test_who_listens_knows_what_a_new_client_would_be_told(served: Served, query: str) -> None:
    reader = Reader(served, query)
    for _ in range(4):
        assert in_order(reader.hear()) == in_order(served.get(f"/v1/report?{query}"))
        served.engine.cycle()
    assert reader.names == ["report", "cycle", "cycle", "cycle"]
    reader.stream.close()


def test_who_comes_later_and_who_wants_other_fields_follow_as_well(served: Served) -> None:
    readers = [Reader(served)]
    readers[0].hear()
    for query in ("", "fields=rss"):
        served.engine.cycle()
        readers.append(Reader(served, query))
        for reader in readers:
            reader.hear()
    served.engine.cycle()
    for reader, query in zip(readers, ("", "", "fields=rss"), strict=True):
        while reader.report["cycle"]["number"] < 4:
            reader.hear()
        assert in_order(reader.report) == in_order(served.get(f"/v1/report?{query}"))
        reader.stream.close()


def test_clients_listen_to_a_few_different_lists_of_fields_only(served: Served) -> None:
    names = [one["name"] for one in served.get("/v1/fields")["items"] if one["scope"] == "guest"]
    readers = [Reader(served, f"fields={name}") for name in names[:MOST_LISTS]]
    for reader in readers:
        reader.hear()
    with pytest.raises(ApiRefusedError, match="different lists of fields"):
        Reader(served, f"fields={names[MOST_LISTS]}")
    again = Reader(served, f"fields={names[0]}")
    again.hear()
    for reader in (*readers, again):
        reader.stream.close()


def test_a_reader_with_all_lists_of_fields_yields_to_other_users(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [one["name"] for one in served.get("/v1/fields")["items"] if one["scope"] == "guest"]
    with monkeypatch.context() as patched:
        patched.setattr(LocalAccess, "peer", lambda self, found: Peer("user reader, process 1", Right.READ, local=True))
        readers = [Reader(served, f"fields={name}") for name in names[:MOST_LISTS]]
        for reader in readers:
            reader.hear()
    root = Reader(served, f"fields={names[MOST_LISTS]}")
    root.hear()
    for reader in (*readers, root):
        reader.stream.close()


def test_a_stream_in_odd_pieces_is_read_as_it_was_meant(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mom_plugins_http.routes.events.PIECE", 7)
    reader = Reader(served)
    assert len(reader.hear()["guests"]["rows"]) == 24
    reader.stream.close()
