"""vdsm's JSON-RPC 2.0. A request without an id ends vdsm's request thread for all clients."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from mom_core import GuestBusy, GuestGone, HypervisorError, NotSupported, printable

# vdsm's error codes.
_NO_SUCH_VERB = -32601
_NO_SUCH_VM = 1
_MIGRATING = 51
RECOVERING = 99
_QUEUE_FULL = 1100

_MOST_VALUES = 1_000_000
"""Most values, enough for thousands of guests. 60 MB of `[],` would need 1.6 GB."""

_KINDS: dict[int, type[HypervisorError]] = {
    _NO_SUCH_VERB: NotSupported,
    _NO_SUCH_VM: GuestGone,
    _MIGRATING: GuestBusy,
    _QUEUE_FULL: GuestBusy,
}

_RECOVERING_HINT = "wait: vdsm has just started and is looking for its guests"


class AnswerError(ValueError):
    """Message that is not JSON-RPC."""


class JsonRpcRequest(NamedTuple):
    """Request, and the id of its answer."""

    id: str
    body: bytes


@dataclass(frozen=True, slots=True)
class JsonRpcAnswer:
    """Result or error of a request."""

    id: str
    result: object = None
    error: HypervisorError | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """vdsm's event for all clients: method `|virt|VM_status|ID`, and parameters."""

    method: str
    params: Mapping[str, object]


def request(method: str, params: Mapping[str, object]) -> JsonRpcRequest:
    """Return a request for a frame of its own: vdsm answers none of several requests in one frame."""
    identity = str(uuid.uuid4())
    message: dict[str, object] = {"jsonrpc": "2.0", "method": method, "id": identity}
    if params:
        message["params"] = params
    return JsonRpcRequest(identity, json.dumps(message).encode())


def parsed(body: bytes) -> JsonRpcAnswer | Event:
    """Return the answer or event in a message. Raise `AnswerError` for an invalid message, and for too many values."""
    # Each value except the first follows a comma. Commas in strings count too, but are few.
    values = body.count(b",") + body.count(b"[") + body.count(b"{")
    if values > _MOST_VALUES:
        raise AnswerError(f"a message has about {values:,} values; at most {_MOST_VALUES:,} are read")
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:  # ValueError: also bad UTF-8 and too long integers
        raise AnswerError(f"vdsm sent invalid JSON: {printable(str(error))}") from error
    if not isinstance(message, dict):
        raise AnswerError(f"vdsm sent a {type(message).__name__} instead of an answer")
    method, params, identity = message.get("method"), message.get("params"), message.get("id")
    if isinstance(method, str):
        return Event(method, params if isinstance(params, dict) else {})
    if not isinstance(identity, str):
        identity = ""  # not a request of mom
    if "error" in message and message["error"] is not None:
        return JsonRpcAnswer(identity, error=_refused(message["error"]))
    if "result" not in message:
        return JsonRpcAnswer(identity, error=HypervisorError("the answer has neither a result nor an error"))
    return JsonRpcAnswer(identity, message["result"])


def _refused(error: object) -> HypervisorError:
    code, message = (error.get("code"), error.get("message")) if isinstance(error, dict) else (0, error)
    code = code if isinstance(code, int) else 0
    text = message if isinstance(message, str) else f"{message!r:.100}"
    hint = _RECOVERING_HINT if code == RECOVERING else ""
    return _KINDS.get(code, HypervisorError)(f"{printable(text, 300)} (vdsm's code {code})", hint=hint)
