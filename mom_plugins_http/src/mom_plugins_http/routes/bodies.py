"""Request bodies: JSON objects, validated by models."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, WithJsonSchema

from mom_core import parse_duration, parse_size, printable
from mom_plugins_http.routes.route import ApiCall, Model, check_members, validated
from mom_plugins_http.server.problems import ProblemError

JSON: Final = "application/json"


async def read_body(call: ApiCall, model: type[Model], media_types: str = JSON) -> Model:
    """Return the body as this model. Raise `ProblemError` if the body is invalid."""
    if call.media_type != JSON:
        raise ProblemError(415, f"a body of type {printable(call.media_type) or 'unknown'} is not supported", f"send {media_types}")
    body = await call.body()
    with suppress(ValueError, RecursionError):  # the model reports invalid JSON
        json.loads(body, object_pairs_hook=check_members)
    return validated(model, lambda: model.model_validate_json(body), "the body")


def text_of(body: bytes) -> str:
    """Return the body as text. Raise `ProblemError` if it is not UTF-8."""
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ProblemError(400, f"byte {error.start} of the body is not UTF-8", "send the body in UTF-8") from None


_MOST_SECONDS: Final = 1_000_000_000
"""About 30 years. Larger integers count as infinite, because Python cannot convert huge ones to floats."""

MOST_KIB: Final = 1 << 40
"""1 PiB."""


def _seconds(value: Any) -> Any:
    if isinstance(value, str):
        return parse_duration(value)
    return math.inf if isinstance(value, int) and abs(value) > _MOST_SECONDS else value


Span = Annotated[float, BeforeValidator(_seconds)]
"""Seconds, or a string with a unit."""

Size = Annotated[
    int, Field(ge=0, le=MOST_KIB), BeforeValidator(lambda value: math.ceil(parse_size(value) / 1024) if isinstance(value, str) else value)
]
"""KiB, or a string with a unit."""


def span_schema(description: str, **bounds: float) -> WithJsonSchema:
    """Return a span's schema, with bounds in seconds."""
    text = {"type": "string", "description": description, "examples": ["10m"]}
    return WithJsonSchema({"anyOf": [text, {"type": "number", "x-unit": "s", **bounds}]})


def size_schema(**bounds: int) -> WithJsonSchema:
    """Return a size's schema, with bounds in KiB."""
    text = {"type": "string", "description": "Size with a unit, such as `8GiB`.", "examples": ["8GiB"]}
    return WithJsonSchema({"anyOf": [text, {"type": "integer", "x-unit": "KiB", **bounds}]})
