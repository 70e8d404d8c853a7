"""XML-RPC on the wire: the standard library's marshalling, within limits that no request can exceed, and for every value that mom has."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping
from typing import Final, Protocol, cast
from xml.parsers import expat
from xmlrpc.client import Fault, Marshaller, ResponseError, Unmarshaller

MAX_DEPTH: Final = 32
"""Elements inside each other. A call with one text is four deep, and the deepest that any verb takes."""

MAX_ELEMENTS: Final = 1000
"""Elements in one request; a call with two texts has nine."""

_LARGEST: Final = sys.float_info.max

_NO_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot carry: one of them would make the whole answer unreadable."""


class RefusedRequestError(Exception):
    """A request whose XML is not read any further."""


def read_call(body: bytes) -> tuple[str, tuple[object, ...]]:
    """The method and its parameters.

    :raises RefusedRequestError: document types and entities (nobody needs them, and a few bytes of them stand for gigabytes), more
        depth or elements than any call has
    :raises Exception: whatever else is not XML or no XML-RPC call; the message says what
    """
    parser = expat.ParserCreate()
    parser.buffer_text = True
    target = Unmarshaller(use_builtin_types=True)
    target.xml("", None)  # no encoding: expat hands texts over, which need no decoding
    depth = elements = 0

    def refuse(*_: object) -> None:
        raise RefusedRequestError("document types and entities are not accepted")

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth, elements
        depth += 1
        elements += 1
        if depth > MAX_DEPTH or elements > MAX_ELEMENTS:
            raise RefusedRequestError(f"more than {MAX_DEPTH} levels or {MAX_ELEMENTS} elements")
        target.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        target.end(tag)

    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = target.data
    parser.Parse(body, True)
    try:
        params = target.close()
    except Fault as fault:
        raise ResponseError from fault
    method = target.getmethodname()
    if not isinstance(method, str):
        raise ResponseError
    return method, tuple(params)


class _Writer(Protocol):
    def __call__(self, text: str) -> object: ...


def _write_int(_: object, value: int, write: _Writer) -> None:
    """`<int>` has 32 bits, `<i8>` 64, which vdsm and all Python clients read; what is larger still keeps its size as a float."""
    if -(1 << 31) <= value < 1 << 31:
        write(f"<value><int>{value}</int></value>\n")
    elif -(1 << 63) <= value < 1 << 63:
        write(f"<value><i8>{value}</i8></value>\n")
    else:
        write(f"<value><double>{float(max(-_LARGEST, min(_LARGEST, value)))!r}</double></value>\n")


def _escaped(text: str) -> str:
    text = _NO_XML.sub("\ufffd", text)
    # A carriage return that is not written as a reference arrives as a line feed.
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\r", "&#13;")


def _write_text(_: object, value: str, write: _Writer) -> None:
    write(f"<value><string>{_escaped(value)}</string></value>\n")


class _Marshaller(Marshaller):
    dispatch = {**Marshaller.dispatch, int: _write_int, str: _write_text}  # type: ignore[dict-item]  # noqa: RUF012  # as the base class has it


def plain(value: object, *, nil: bool) -> object:
    """A value as XML-RPC has it: dictionaries, lists, texts, numbers, flags, and nil where that is allowed.

    :param nil: whether unknown values are sent as nil; otherwise they are left out of structs, and empty texts elsewhere
    """
    if value is None:
        return None if nil else ""
    if isinstance(value, float):
        return value if math.isfinite(value) else plain(None, nil=nil)
    if isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return str(value)  # an enumeration's member is a text too, but not for the marshaller
    if isinstance(value, Mapping):
        return {_NO_XML.sub("\ufffd", str(k)): plain(v, nil=nil) for k, v in value.items() if nil or not _unknown(v)}
    if isinstance(value, list | tuple):
        return [plain(item, nil=nil) for item in value]
    return str(value)


def _unknown(value: object) -> bool:
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def write_answer(value: object, *, nil: bool) -> bytes:
    """A method's answer."""
    return _response(_Marshaller("utf-8", allow_none=nil).dumps((cast("str", plain(value, nil=nil)),)))  # or any other that it knows


def write_fault(text: str) -> bytes:
    """A failure, as MOM tells it: with code 1."""
    return _response(_Marshaller("utf-8").dumps(Fault(1, text)))


def _response(content: str) -> bytes:
    return f"<?xml version='1.0'?>\n<methodResponse>\n{content}</methodResponse>\n".encode()
