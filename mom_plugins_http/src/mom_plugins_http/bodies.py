"""Bodies of requests: JSON objects with known members, in UTF-8."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from mom_core import UnitError, parse_duration, printable
from mom_plugins_http.problems import ProblemError
from mom_plugins_http.routes import ApiCall


async def object_body(call: ApiCall, known: AbstractSet[str], media_types: str = "application/json") -> Mapping[str, object]:
    """The body as a JSON object with these members at most. Raises `ProblemError`.

    :param media_types: what the operation takes, for the message
    """
    if call.media_type != "application/json":
        raise ProblemError(415, f"a body of type {printable(call.media_type) or 'unknown'} is not understood", f"send {media_types}")
    try:
        found = json.loads(text_of(await call.body()), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ProblemError(400, f"the body is no JSON: {printable(str(error), 200)}", "send a JSON object") from None
    if not isinstance(found, dict):
        raise ProblemError(400, "the body is no JSON object", f"it has the members {', '.join(sorted(known))}")
    unknown: Sequence[str] = sorted(found.keys() - known)
    if unknown:
        raise ProblemError(400, f"the body has an unknown member {printable(unknown[0])!r}", f"known are {', '.join(sorted(known))}")
    return found


def text_of(body: bytes) -> str:
    """The body as text. Raises `ProblemError`."""
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ProblemError(400, f"byte {error.start} of the body is no UTF-8", "send it in UTF-8") from None


def seconds_of(given: object, member: str, what: str) -> float:
    """A time span, as a text with a unit or a number of seconds. Raises `ProblemError`.

    :param what: what the member must say, for the message
    """
    if isinstance(given, int | float) and not isinstance(given, bool):
        return given if abs(given) < _LARGEST else math.inf
    try:
        if isinstance(given, str):
            return parse_duration(given)
    except UnitError as error:
        raise ProblemError(400, f"`{member}`: {error.message}", error.hint) from None
    raise ProblemError(400, f"`{member}` must say {what}", 'as "10m", or in seconds as a number')


_LARGEST: Final = 1e9
"""Seconds, 30 years: an integer of hundreds of digits is no float."""


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON")
