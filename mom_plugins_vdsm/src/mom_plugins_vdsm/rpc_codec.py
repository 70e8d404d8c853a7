"""Reader of XML-RPC calls, with limits, and writer of answers."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Final
from xmlrpc.client import Fault, Marshaller, loads

_MOST_TAGS: Final = 1000
"""Maximum number of tags in a call. A call with two strings has 18."""

_NO_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Matches a character that XML 1.0 forbids."""


class RefusedRequestError(Exception):
    """Request whose XML exceeds the limits."""


def read_call(body: bytes) -> tuple[str, tuple[Any, ...]]:
    """Return the method and the parameters of a call.

    :raises RefusedRequestError: the XML has a document type, entities or comments, or too many tags
    :raises Exception: the body is not an XML-RPC call
    """
    text = body.decode()
    if "<!" in text or text.count("<") > _MOST_TAGS:
        raise RefusedRequestError(f"a call has no document type, no entities, and at most {_MOST_TAGS} tags")
    params, method = loads(text, use_builtin_types=True)
    return method or "", params


def _dump_whole(writer: Marshaller, value: int, write: Callable[[str], object]) -> None:
    kind = "int" if -(1 << 31) <= value < 1 << 31 else "i8"
    write(f"<value><{kind}>{value}</{kind}></value>\n")


def _plain(value: object, nil: bool) -> object:
    if _unknown(value):
        return None if nil else ""
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        return float(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(item, nil) for name, item in value.items() if nil or not _unknown(item)}
    if isinstance(value, list | tuple):
        return [_plain(item, nil) for item in value]
    return value if isinstance(value, int | float) else str(value)


def _unknown(value: object) -> bool:
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def write_answer(value: object, *, nil: bool) -> bytes:
    """Return the answer to a call.

    :param nil: send unknown values as nil; otherwise omit them from structs, and send empty strings elsewhere
    """
    return _response((_plain(value, nil),))


def write_fault(text: str) -> bytes:
    """Return a fault as in MOM, with code 1."""
    return _response(Fault(1, text))


def _response(content: Fault | tuple[Any, ...]) -> bytes:
    writer = Marshaller(allow_none=True)
    writer.dispatch = {**Marshaller.dispatch, int: _dump_whole}
    text = _NO_XML.sub("\ufffd", writer.dumps(content))
    # A parser turns a carriage return into a line feed, unless it is written as a character reference.
    return f"<?xml version='1.0'?>\n<methodResponse>\n{text}</methodResponse>\n".replace("\r", "&#13;").encode()
