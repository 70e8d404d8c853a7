"""Bodies of requests: JSON objects that are read into a model, or refused with what is wrong and what would do."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Any, Final, TypeVar

from pydantic import BeforeValidator, Field, ValidationError, WithJsonSchema

from mom_core import StrictModel, parse_duration, parse_size, printable
from mom_plugins_http.routes.route import ApiCall
from mom_plugins_http.server.problems import ProblemError

JSON: Final = "application/json"

_MOST_MEMBERS: Final = 1000
"""Members of an object, such as the policies that are changed together."""


Body = TypeVar("Body", bound=StrictModel)


async def read_body(call: ApiCall, model: type[Body], media_types: str = JSON) -> Body:
    """The body as this model. Raises `ProblemError`.

    :param media_types: of the operation, for the message
    """
    if call.media_type != JSON:
        raise ProblemError(415, f"a body of type {printable(call.media_type) or 'unknown'} is not understood", f"send {media_types}")
    try:
        body = await call.body()
        with suppress(ValueError, RecursionError):  # the model says what is no JSON
            json.loads(body, object_pairs_hook=_sound)
        return model.model_validate_json(body)
    except ValidationError as wrong:
        first = wrong.errors(include_url=False, include_input=False)[0]
        where = f"`{printable(str(first['loc'][0]))}`" if first["loc"] else "the body"
        hint = f"its members are {', '.join(sorted(model.model_fields))}; GET /v1/openapi.json describes them"
        raise ProblemError(400, f"{where}: {printable(first['msg'].removeprefix('Value error, '), 300)}", hint) from None


def _sound(members: Sequence[tuple[str, object]]) -> None:
    """Raise `ProblemError` for an object that has very many members, as an error for each would take a gigabyte, or one twice: readers of
    JSON differ in whose value counts."""
    if len(members) > _MOST_MEMBERS:
        raise ProblemError(400, f"an object has {len(members)} members", f"send at most {_MOST_MEMBERS}")
    seen: set[str] = set()
    for name, _ in members:
        if name in seen:
            raise ProblemError(400, f"`{printable(name)}` stands there twice", "write it once")
        seen.add(name)


def text_of(body: bytes) -> str:
    """The body as text. Raises `ProblemError`."""
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ProblemError(400, f"byte {error.start} of the body is no UTF-8", "send it in UTF-8") from None


# --- members -----------------------------------------------------------------------------------------------------------------------------


def as_float(given: Any) -> Any:
    """A number of JSON: an integer of hundreds of digits is no float."""
    return math.inf if isinstance(given, int) and abs(given) > _LARGEST else given


_LARGEST: Final = 1_000_000_000
"""30 years in seconds."""


MOST_KIB: Final = 1 << 40
"""A PiB: of integers of hundreds of digits, no float can be made."""

Span = Annotated[float, BeforeValidator(lambda given: parse_duration(given) if isinstance(given, str) else as_float(given))]
"""Seconds, given as a text with a unit or as a number."""

Size = Annotated[
    int, Field(ge=0, le=MOST_KIB), BeforeValidator(lambda given: math.ceil(parse_size(given) / 1024) if isinstance(given, str) else given)
]
"""KiB, given so."""


def span_schema(description: str, **bounds: float) -> WithJsonSchema:
    """The schema of a span; bounds are of the number."""
    text = {"type": "string", "description": description, "examples": ["10m"]}
    return WithJsonSchema({"anyOf": [text, {"type": "number", "x-unit": "s", **bounds}]})


def size_schema(**bounds: int) -> WithJsonSchema:
    """The schema of a size."""
    text = {"type": "string", "description": "With a unit, as `8GiB`.", "examples": ["8GiB"]}
    return WithJsonSchema({"anyOf": [text, {"type": "integer", "x-unit": "KiB", **bounds}]})
