"""Parser of XML-RPC calls, with limits, and writer of answers."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping
from typing import Final
from xml.parsers import expat
from xmlrpc.client import Fault, ResponseError, Unmarshaller

MAX_DEPTH: Final = 32
"""Deepest nesting of XML elements in a call. A call with a string has four levels."""

_MAX_ELEMENTS: Final = 1000
"""Maximum number of XML elements in a call. A call with two strings has nine."""

_LARGEST: Final = sys.float_info.max

_NO_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Matches a character that XML 1.0 forbids."""


class RefusedRequestError(Exception):
    """Request whose XML exceeds the limits."""


def read_call(body: bytes) -> tuple[str, tuple[object, ...]]:
    """Return the method and the parameters of a call.

    :raises RefusedRequestError: the XML has a document type or entities, or too many levels or elements
    :raises Exception: the body is not an XML-RPC call
    """
    parser = expat.ParserCreate()
    parser.buffer_text = True
    target = Unmarshaller(use_builtin_types=True)
    target.xml("", None)  # no encoding: expat returns str
    depth = elements = 0

    def refuse(*_: object) -> None:
        raise RefusedRequestError("document types and entities are not accepted")

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth, elements
        depth += 1
        elements += 1
        if depth > MAX_DEPTH or elements > _MAX_ELEMENTS:
            raise RefusedRequestError(f"the call has more than {MAX_DEPTH} levels or {_MAX_ELEMENTS} elements")
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


def _escaped(text: str) -> str:
    text = _NO_XML.sub("\ufffd", text)
    # A parser turns a carriage return into a line feed, unless it is written as a character reference.
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\r", "&#13;")


def _whole(value: int) -> str:
    if -(1 << 31) <= value < 1 << 31:
        return f"<value><int>{value}</int></value>"
    if -(1 << 63) <= value < 1 << 63:
        return f"<value><i8>{value}</i8></value>"
    return f"<value><double>{float(max(-_LARGEST, min(_LARGEST, value)))!r}</double></value>"


def _xml(value: object, nil: bool) -> str:
    if isinstance(value, bool):
        return f"<value><boolean>{value:d}</boolean></value>"
    if isinstance(value, int):
        return _whole(value)
    if _unknown(value):
        return "<value><nil/></value>" if nil else "<value><string></string></value>"
    if isinstance(value, float):
        return f"<value><double>{value!r}</double></value>"
    if isinstance(value, Mapping):
        encoded = ((_escaped(str(name)), _xml(item, nil)) for name, item in value.items() if nil or not _unknown(item))
        members = "".join(f"<member><name>{name}</name>\n{item}</member>\n" for name, item in encoded)
        return f"<value><struct>{members}</struct></value>"
    if isinstance(value, list | tuple):
        return f"<value><array><data>{''.join(_xml(item, nil) for item in value)}</data></array></value>"
    return f"<value><string>{_escaped(str(value))}</string></value>"


def _unknown(value: object) -> bool:
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def write_answer(value: object, *, nil: bool) -> bytes:
    """Return the answer to a call.

    :param nil: send unknown values as nil; otherwise omit them from structs, and send empty strings elsewhere
    """
    return _response(f"<params>\n<param>\n{_xml(value, nil)}\n</param>\n</params>\n")


def write_fault(text: str) -> bytes:
    """Return a fault as in MOM, with code 1."""
    return _response(f"<fault>\n{_xml({'faultCode': 1, 'faultString': text}, nil=False)}\n</fault>\n")


def _response(content: str) -> bytes:
    return f"<?xml version='1.0'?>\n<methodResponse>\n{content}</methodResponse>\n".encode()
