"""Requests always have an id. Answers of any form are parsed or refused."""

import json

import pytest

from mom_core import GuestBusy, GuestGone, HypervisorError, NotSupported
from mom_plugins_vdsm.jsonrpc import JsonRpcAnswer, MessageError, parsed


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"id": "x", "result": ' + b"9" * 5000 + b"}", b"\xff", b"", b'{"id"'])
def test_what_no_parser_takes_is_refused(body: bytes) -> None:
    with pytest.raises(MessageError, match="invalid JSON"):
        parsed(body)


def error_in(answer: dict[str, object]) -> HypervisorError:
    identity, result = parsed(json.dumps({"id": "x", **answer}).encode())
    assert identity == "x"
    assert isinstance(result, HypervisorError)
    return result


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({}, "the answer has neither a result nor an error"),
        ({"error": "broken"}, "broken (vdsm's code 0)"),
        ({"error": {"code": "1", "message": "broken"}}, "broken (vdsm's code 0)"),
        ({"error": {"code": 53, "message": ["x"]}}, "['x'] (vdsm's code 53)"),
    ],
)
def test_an_answer_of_another_shape_is_an_error_of_its_request(answer: dict[str, object], said: str) -> None:
    assert error_in(answer).message == said


@pytest.mark.parametrize("identity", [None, 5, ["x"]])
def test_an_id_that_is_none_of_moms_names_no_request(identity: object) -> None:
    assert parsed(json.dumps({"id": identity, "result": 1}).encode()) == JsonRpcAnswer("", 1)


@pytest.mark.parametrize(
    ("code", "kind"),
    [(1, GuestGone), (51, GuestBusy), (1100, GuestBusy), (-32601, NotSupported), (53, HypervisorError), (99, HypervisorError)],
)
def test_error_codes_have_kinds(code: int, kind: type[HypervisorError]) -> None:
    error = error_in({"error": {"code": code, "message": "why"}})
    assert type(error) is kind
    assert error.message == f"why (vdsm's code {code})"
    assert bool(error.hint) is (code == 99), "a recovering vdsm is to be waited for"
