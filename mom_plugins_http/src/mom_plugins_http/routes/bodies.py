"""Bodies of requests: JSON objects that are read into a model, or refused with what is wrong and what would do."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, ValidationInfo, WithJsonSchema
from pydantic_core import PydanticCustomError

from mom_core import UnitError, parse_duration, parse_size, printable
from mom_plugins_http.routes.route import ApiCall
from mom_plugins_http.server.problems import ProblemError

JSON: Final = "application/json"


class BodyModel(BaseModel):
    """What a client sends. Members that are not known are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)


Body = TypeVar("Body", bound=BodyModel)


@dataclass(frozen=True, slots=True)
class Says:
    """What a member must say, for who did not say it: `must be …` and an example."""

    must: str
    hint: str


async def read_body(call: ApiCall, model: type[Body], media_types: str = JSON) -> Body:
    """The body as this model. Raises `ProblemError`.

    :param media_types: what the operation takes, for the message
    """
    if call.media_type != JSON:
        raise ProblemError(415, f"a body of type {printable(call.media_type) or 'unknown'} is not understood", f"send {media_types}")
    try:
        found = json.loads(text_of(await call.body()), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ProblemError(400, f"the body is no JSON: {printable(str(error), 200)}", "send a JSON object") from None
    known = ", ".join(sorted(model.model_fields))
    if not isinstance(found, dict):
        raise ProblemError(400, "the body is no JSON object", f"it has the members {known}")
    for name in found:
        if name not in model.model_fields:
            raise ProblemError(400, f"the body has an unknown member {printable(name)!r}", f"known are {known}")
    try:
        return model.model_validate(found)
    except ValidationError as wrong:
        raise _refusal(model, wrong) from None


def _refusal(model: type[BodyModel], wrong: ValidationError) -> ProblemError:
    first = wrong.errors(include_url=False, include_input=False)[0]
    if first["type"] == _REFUSED:
        return ProblemError(400, first["msg"], first["ctx"]["hint"])
    name = str(first["loc"][0])
    says = next(one for one in model.model_fields[name].metadata if isinstance(one, Says))
    return ProblemError(400, f"`{name}` must {says.must}", says.hint)


_REFUSED: Final = "refused"


def refused(message: str, hint: str) -> PydanticCustomError:
    """What a validator raises that knows what is wrong."""
    return PydanticCustomError(_REFUSED, "{message}", {"message": message, "hint": hint})


def text_of(body: bytes) -> str:
    """The body as text. Raises `ProblemError`."""
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ProblemError(400, f"byte {error.start} of the body is no UTF-8", "send it in UTF-8") from None


# --- what members are --------------------------------------------------------------------------------------------------------------------


def is_number(given: object) -> bool:
    """Whether JSON has a number there."""
    return isinstance(given, int | float) and not isinstance(given, bool)


def within_floats(given: Any) -> float:
    """A number of JSON: an integer of hundreds of digits is no float."""
    return given if abs(given) < _LARGEST else math.inf


_LARGEST: Final = 1e9
"""30 years in seconds."""


def _span(given: object, info: ValidationInfo) -> object:
    if is_number(given):
        return within_floats(given)
    try:
        return parse_duration(given) if isinstance(given, str) else given
    except UnitError as error:
        raise refused(f"`{info.field_name}`: {error.message}", error.hint) from None


def _size(given: object, info: ValidationInfo) -> object:
    try:
        return math.ceil(parse_size(given) / 1024) if isinstance(given, str) else given
    except UnitError as error:
        raise refused(f"`{info.field_name}`: {error.message}", error.hint) from None


Span = Annotated[float, BeforeValidator(_span)]
"""Seconds, given as a text with a unit or as a number."""

Size = Annotated[int, BeforeValidator(_size)]
"""KiB, given so."""


def span_schema(description: str, **bounds: float) -> WithJsonSchema:
    """What clients may send for a span; bounds are of the number."""
    text = {"type": "string", "description": description, "examples": ["10m"]}
    return WithJsonSchema({"anyOf": [text, {"type": "number", "x-unit": "s", **bounds}]})


def size_schema(**bounds: int) -> WithJsonSchema:
    """What clients may send for a size."""
    text = {"type": "string", "description": "With a unit, as `8GiB`.", "examples": ["8GiB"]}
    return WithJsonSchema({"anyOf": [text, {"type": "integer", "x-unit": "KiB", **bounds}]})


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON")
