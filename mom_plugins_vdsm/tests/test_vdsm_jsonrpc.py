"""Requests always have an id, and answers of any shape have a meaning or are refused."""

import json
import tracemalloc

import pytest

from mom_core import GuestBusy, GuestGone, HypervisorError, NotSupported
from mom_plugins_vdsm.jsonrpc import AnswerError, JsonRpcAnswer, parsed, request


def test_every_request_has_an_id_of_its_own_and_is_no_list() -> None:
    requests = [request("Host.ping2", {}) for _ in range(100)]
    assert len({message.id for message in requests}) == 100
    for message in requests:
        assert json.loads(message.body) == {"jsonrpc": "2.0", "method": "Host.ping2", "id": message.id}


def test_parameters_go_by_name() -> None:
    assert json.loads(request("VM.setBalloonTarget", {"vmID": "a", "target": 1}).body)["params"] == {"vmID": "a", "target": 1}


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"id": "x", "result": ' + b"9" * 5000 + b"}", b"\xff", b"", b'{"id"'])
def test_what_no_parser_takes_is_refused(body: bytes) -> None:
    with pytest.raises(AnswerError, match="no JSON"):
        parsed(body)


@pytest.mark.long
def test_a_few_bytes_that_stand_for_very_many_values_are_refused_before_they_are_parsed() -> None:
    for piece in (b"[],", b"{},", b'{"a":1},', b"1,"):
        body = b'{"id": "x", "result": [' + piece * (60_000_000 // len(piece)) + b"0]}"
        tracemalloc.start()
        try:
            with pytest.raises(AnswerError, match=r"a message with some [0-9,]+ values is not read; at most 1,000,000 are"):
                parsed(body)
            assert tracemalloc.get_traced_memory()[1] < 1 << 20
        finally:
            tracemalloc.stop()


def test_a_message_is_not_told_when_it_is_no_answer() -> None:
    with pytest.raises(AnswerError, match="vdsm sent a list where an answer belongs"):
        parsed(b"[" + b"[]," * 100_000 + b"0]")


def test_a_result_of_null_is_a_result() -> None:
    assert parsed(b'{"id": "x", "result": null}') == JsonRpcAnswer("x", None)


@pytest.mark.parametrize(
    ("code", "kind"),
    [(1, GuestGone), (51, GuestBusy), (1100, GuestBusy), (-32601, NotSupported), (53, HypervisorError), (99, HypervisorError)],
)
def test_error_codes_have_kinds(code: int, kind: type[HypervisorError]) -> None:
    message = parsed(json.dumps({"id": "x", "error": {"code": code, "message": "why"}}).encode())
    assert isinstance(message, JsonRpcAnswer)
    assert message.error is not None
    assert type(message.error) is kind
    assert message.error.message == f"why (vdsm's code {code})"
    assert bool(message.error.hint) is (code == 99), "a recovering vdsm is to be waited for"
