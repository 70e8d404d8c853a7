"""The peer does what vdsm does, peculiarities included: what is tested against it holds for the real one."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from vdsm_process import Vdsm, wait_for

from mom_plugins_vdsm.stomp import FrameReader, StompFrame

CONNECT = b"CONNECT\naccept-version:1.2\nheart-beat:0,24000\n\n\0"


class Raw:
    """A client that sends what it is told."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 60)
        self.reader = FrameReader(1 << 20)
        self.frames: list[StompFrame] = []

    def send(self, *data: bytes) -> Raw:
        self.socket.sendall(b"".join(data))
        return self

    def frame(self) -> StompFrame:
        while not self.frames:
            piece = self.socket.recv(65536)
            assert piece, "closed"
            self.frames += self.reader.feed(piece)
        return self.frames.pop(0)

    def closed(self) -> bool:
        try:
            while self.socket.recv(65536):
                pass
        except ConnectionError:
            pass
        except TimeoutError:
            return False
        return True

    def silent(self, seconds: float = 0.3) -> bool:
        self.socket.settimeout(seconds)
        try:
            return not self.frame()
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(60)

    def subscribe(self, destination: str, identity: str = "s") -> Raw:
        return self.send(f"SUBSCRIBE\ndestination:{destination}\nid:{identity}\n\n\0".encode())

    def ask(self, message: object, reply_to: str = "q") -> Raw:
        headers = f"destination:jms.topic.vdsm_requests\nreply-to:{reply_to}\n"
        return self.send(f"SEND\n{headers}\n{json.dumps(message)}\0".encode())

    def answer(self, method: str, identity: str = "r", **params: object) -> dict[str, Any]:
        self.ask({"jsonrpc": "2.0", "method": method, "params": params, "id": identity})
        answer: dict[str, Any] = json.loads(self.frame().body)
        return answer


def has_more_than(vdsm: Vdsm, requests: int) -> bool:
    return vdsm.wire()["frames"].count("SEND") > requests


@pytest.fixture
def raw(vdsm: Vdsm) -> Iterator[Callable[[], Raw]]:
    made: list[Raw] = []

    def make() -> Raw:
        made.append(Raw(vdsm.port))
        return made[-1]

    yield make
    for one in made:
        one.socket.close()


@pytest.fixture
def client(raw: Callable[[], Raw]) -> Raw:
    one = raw().send(CONNECT).subscribe("q")
    assert one.frame().command == "CONNECTED"
    return one


def test_connecting_is_as_vdsm_wants_it(raw: Callable[[], Raw], vdsm: Vdsm) -> None:
    assert raw().send(CONNECT).frame() == StompFrame("CONNECTED", {"version": "1.2", "heart-beat": "24000,0"})
    for beginning in (b"STOMP\naccept-version:1.2\n\n\0", b"\nCONNECT\naccept-version:1.2\n\n\0", b"\x16\x03\x01" + b"x" * 30):
        assert raw().send(beginning).closed()
    for version in (b"1.1,1.2", b"1.2 ", b"1.1"):
        one = raw().send(b"CONNECT\naccept-version:", version, b"\n\n\0")
        assert one.frame() == StompFrame("ERROR", {"content-length": "19"}, b"Version unsupported")
        assert one.send(CONNECT).frame().command == "CONNECTED"
    for asked, answered in (("1,24000", "24000,1000"), ("0,5", "1000,0"), ("nonsense", "0,0"), ("", "0,0")):
        one = raw().send(f"CONNECT\naccept-version:1.2\nheart-beat:{asked}\n\n\0".encode())
        assert one.frame().headers["heart-beat"] == answered
    vdsm.do("peek_for", seconds=0.2)
    assert raw().send(b"CONNECT\nac").closed(), "who says too little is closed after a while"


def test_it_beats_and_drops_who_does_not(raw: Callable[[], Raw]) -> None:
    began = time.monotonic()
    one = raw().send(b"CONNECT\naccept-version:1.2\nheart-beat:1500,1000\n\n\0")
    one.frame()
    assert one.socket.recv(1) == b"\n"
    assert one.closed()
    assert 0.9 < time.monotonic() - began < 30


def test_what_vdsm_drops_a_connection_for(raw: Callable[[], Raw]) -> None:
    for data in (b"ACK\nid:1\n\n\0", b"BEGIN\n\n\0", b"DISCONNECT\n\n\0", b"SEND\n\nx\0", b"SUBSCRIBE\ndestination:a:b\nid:1\n\n\0",
                 b"SUBSCRIBE\ndestination:a\\t\nid:1\n\n\0", b"SEND\ndestination:jms.topic.x\ncontent-length:1\n\nabc\0"):  # fmt: skip
        assert raw().send(CONNECT, data).closed(), data


def test_what_is_only_an_error_and_what_gets_no_receipt(client: Raw) -> None:
    for data in (b"SUBSCRIBE\nid:1\n\n\0", b"SUBSCRIBE\ndestination:x\n\n\0", b"SUBSCRIBE\ndestination:x\nid:s\n\n\0", b"UNSUBSCRIBE\n\n\0",
                 b"SEND\ndestination:jms.topic.nobody\n\nx\0"):  # fmt: skip
        assert client.send(data).frame().command == "ERROR", data
        assert client.answer("Host.ping2")["result"] is True
    client.send(b"SUBSCRIBE\ndestination:y\nid:2\nreceipt:r1\n\n\0")
    assert client.silent(0.2)
    assert client.send(b"DISCONNECT\nreceipt:r2\n\n\0").frame() == StompFrame("RECEIPT", {"receipt-id": "r2"})
    assert client.answer("Host.ping2")["result"] is True, "it does not close"


def test_frames_in_pieces_with_carriage_returns_and_line_ends_between_are_taken(client: Raw) -> None:
    data = b"\n\n\r\nSEND\r\ndestination:jms.topic.vdsm_requests.x\r\nreply-to:q\r\n\r\n" + (
        b'{"jsonrpc":"2.0","method":"Host.ping2","id":"1"}\0'
    )
    for byte in data:
        client.send(bytes([byte]))
    assert json.loads(client.frame().body) == {"jsonrpc": "2.0", "id": "1", "result": True}


def test_where_answers_go_and_where_they_are_lost(raw: Callable[[], Raw], vdsm: Vdsm, client: Raw) -> None:
    other = raw().send(CONNECT).subscribe("q")
    other.frame()
    client.answer("Host.ping2")
    assert other.frame().headers["destination"] == "q", "to all who are subscribed"
    client.ask({"jsonrpc": "2.0", "method": "Host.ping2", "id": "2"}, "nobody")
    client.subscribe("nobody", "later")
    assert client.silent()
    third = raw().send(CONNECT).subscribe("q2")
    third.frame()
    vdsm.fault("Host.ping2", 2, held=True)
    for one, destination in ((client, "q"), (third, "q2")):  # with the same id at the same time
        sent = vdsm.wire()["frames"].count("SEND")
        one.ask({"jsonrpc": "2.0", "method": "Host.ping2", "id": "1"}, destination)
        wait_for(partial(has_more_than, vdsm, sent))
    vdsm.release()
    assert third.frame()
    assert client.silent()


def test_an_array_of_one_is_answered_plainly_and_one_of_two_never_but_done(vdsm: Vdsm, client: Raw) -> None:
    ping = {"jsonrpc": "2.0", "method": "Host.ping2", "id": "1"}
    assert json.loads(client.ask([ping]).frame().body)["result"] is True
    vdsm.calls()
    client.ask([ping, {**ping, "id": "2"}])
    assert client.silent()
    assert len(vdsm.calls("Host.ping2")) == 2


def test_a_notification_ends_everything(raw: Callable[[], Raw], client: Raw) -> None:
    client.ask({"jsonrpc": "2.0", "method": "Host.ping2"})
    other = raw().send(CONNECT).subscribe("q3")
    other.frame()
    for one, destination in ((client, "q"), (other, "q3")):
        one.ask({"jsonrpc": "2.0", "method": "Host.ping2", "id": "1"}, destination)
        assert one.silent()


def test_what_is_no_request_is_answered_to_nobody_who_asked(client: Raw) -> None:
    client.subscribe("jms.topic.vdsm_responses", "errors")
    for body in ("{", '{"jsonrpc": "1.0", "method": "x", "id": "1"}', '{"jsonrpc": "2.0", "params": 1, "id": "1"}', "7"):
        client.send(f"SEND\ndestination:jms.topic.vdsm_requests\nreply-to:q\n\n{body}\0".encode())
        message = client.frame()
        assert message.headers["destination"] == "jms.topic.vdsm_responses"
        assert json.loads(message.body)["id"] is None


def test_the_queue_is_full_behind_eighty(vdsm: Vdsm, client: Raw) -> None:
    vdsm.fault("Host.ping2", 300, held=True)
    for number in range(120):
        client.ask({"jsonrpc": "2.0", "method": "Host.ping2", "id": str(number)})
    wait_for(lambda: vdsm.wire()["frames"].count("SEND") == 120)
    vdsm.release()
    codes = [json.loads(client.frame().body).get("error", {}).get("code") for _ in range(120)]
    assert 120 - 88 <= codes.count(1100) <= 120 - 80  # of eighty that wait, eight may have found a worker by then


def test_error_codes(vdsm: Vdsm, client: Raw) -> None:
    vdsm.add({"id": "a", "name": "a", "disks": [{"name": "vda"}]}, {"id": "d", "name": "d", "status": "Down"})

    def code(method: str, **params: Any) -> object:
        answer = client.answer(method, **params)
        return answer["error"]["code"] if "error" in answer else answer["result"]

    done = {"code": 0, "message": "Done"}
    assert code("Host.nonsense") == -32601
    assert code("nonsense") == -32601
    assert code("VM.setBalloonTarget", vmID="a") == -32603
    assert code("VM.setBalloonTarget", vmID="x", target=1) == 1
    assert code("VM.setBalloonTarget", vmID="d", target=1) == 53
    assert code("VM.setBalloonTarget", vmID="a", target="much") == 53
    assert code("VM.setBalloonTarget", vmID="a", target=None) == 100
    assert code("VM.setBalloonTarget", vmID="a", target="4000000") == done
    assert code("VM.setCpuTuneQuota", vmID="d", quota=5000) == 100
    assert code("VM.setCpuTuneQuota", vmID="a", quota=999) == 62
    assert code("VM.setCpuTunePeriod", vmID="a", period=1_000_001) == 62
    assert code("VM.setCpuTunePeriod", vmID="a", period=50_000, unknown=1) == done
    assert code("VM.setIoTune", vmID="a", tunables=[{"name": "vdz", "ioTune": {}}]) == 64
    assert code("VM.setIoTune", vmID="a", tunables=[{"name": "vda", "ioTune": {"total_bytes_sec": -1}}]) == 64
    assert code("VM.setIoTune", vmID="a", tunables=[{"name": "vda", "ioTune": {"total_bytes_sec": 1, "read_bytes_sec": 1}}]) == 64
    assert code("VM.setIoTune", vmID="a", tunables=[{"name": "vda", "ioTune": {"bytes": 1}}]) == 100
    assert code("Host.setKsmTune", tuningParams={"run": 3}) == 71
    vdsm.do("recovering", value=True)
    assert code("Host.ping2") == 99


SHAPES: dict[str, tuple[dict[str, Any], set[str]]] = {
    "WaitForLaunch": ({"status": "WaitForLaunch"}, set()),
    "new": ({"samples": 1}, set()),
    "no driver": ({"driver": False}, {"balloonInfo", "vcpuCount"}),
    "no device": ({"device": False}, {"vcpuCount"}),
    "paused": ({"status": "Paused"}, set()),
    "migrating": ({"status": "Migration Source"}, {"balloonInfo", "memoryStats", "vcpuCount", "migrationProgress"}),
    "coming": ({"status": "Migration Destination"}, set()),
}


def test_shapes_of_statistics(vdsm: Vdsm, client: Raw) -> None:
    vdsm.add(*({"id": state, "name": state, **told} for state, (told, _) in SHAPES.items()))
    vdsm.add({"id": "down", "name": "a", "status": "Down"}, {"id": "post-copy", "name": "b", "post_copy": True})
    entries = {entry["vmId"]: entry for entry in client.answer("Host.getAllVmStats")["result"]}
    for state, (_, expected) in SHAPES.items():
        assert {"balloonInfo", "memoryStats", "vcpuCount", "migrationProgress"} & entries[state].keys() == expected
        assert (entries[state]["memUsage"] == "0") == ("memoryStats" not in expected)
    assert entries["down"].keys() == {"vmId", "status", "statusTime", "timeOffset", "exitCode", "exitMessage", "exitReason"}
    assert entries["post-copy"]["status"] == "Paused"
    assert "migrationProgress" in entries["post-copy"]
    assert "memUsage" not in entries["post-copy"]


def test_numbers_come_as_text_and_targets_show_before_sizes(vdsm: Vdsm, client: Raw) -> None:
    vdsm.add({"id": "a", "name": "a", "quota": 50000, "period": 100000, "user_limit": "50"})
    client.answer("VM.setBalloonTarget", vmID="a", target=3000000)
    (entry,) = client.answer("Host.getAllVmStats")["result"]
    assert entry["balloonInfo"]["balloon_target"] == "3000000"
    assert entry["balloonInfo"]["balloon_cur"] == "4194304"
    assert (entry["vcpuQuota"], entry["vcpuPeriod"], entry["vcpuUserLimit"]) == ("50000", 100000, "50")
    vdsm.do("sample")
    (entry,) = client.answer("Host.getAllVmStats")["result"]
    assert entry["balloonInfo"]["balloon_cur"] == "3000000"


def test_a_balloon_that_is_not_there_is_set_with_success_and_without_effect(vdsm: Vdsm, client: Raw) -> None:
    vdsm.add({"id": "a", "name": "a", "device": False}, {"id": "b", "name": "b", "enabled": False})
    for identity in ("a", "b"):
        assert client.answer("VM.setBalloonTarget", vmID=identity, target=5)["result"] == {"code": 0, "message": "Done"}
        assert vdsm.do("machines")[identity]["target"] == 4 << 20


def test_disks_of_guests_without_a_domain_are_absent(vdsm: Vdsm, client: Raw) -> None:
    vdsm.add({"id": "a", "name": "a", "disks": [{"name": "vda", "maximum": {"total_bytes_sec": 5 << 32}}]},
             {"id": "d", "name": "d", "status": "Down"})  # fmt: skip
    found = client.answer("Host.getAllVmIoTunePolicies")["result"]
    assert found.keys() == {"a"}
    assert found["a"]["policy"][0]["maximum"]["total_bytes_sec"] == 5 << 32


def test_a_restart_drops_then_refuses_then_recovers(vdsm: Vdsm, client: Raw, raw: Callable[[], Raw]) -> None:
    vdsm.do("stop")
    assert client.closed()
    with pytest.raises(ConnectionRefusedError):
        raw()
    vdsm.do("recovering", value=True)
    vdsm.do("start")
    again = raw().send(CONNECT).subscribe("q")
    again.frame()
    assert again.answer("Host.getAllVmStats")["error"]["code"] == 99
    vdsm.do("recovering", value=False)
    assert again.answer("Host.getAllVmStats")["result"] == []


def test_events_go_to_who_listens(vdsm: Vdsm, client: Raw) -> None:
    client.subscribe("jms.queue.events", "events")
    wait_for(lambda: vdsm.do("event", identity="a", status="Up"))
    assert json.loads(client.frame().body)["method"] == "|virt|VM_status|a"
