"""Turns pydantic's errors into messages for operators."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, get_args

from pydantic import BaseModel, BeforeValidator, SecretBytes, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from mom_core.config.configuration import setting_names
from mom_core.config.document import Document, KeyPath
from mom_core.errors import MomError
from mom_core.plugins.discovery import suggestion
from mom_core.settings import descriptions
from mom_core.texts import printable
from mom_core.units import format_duration, format_size, parse_duration, parse_size

_LIMITS: Final[Mapping[str, tuple[str, str]]] = {
    "greater_than": ("gt", "must be more than"),
    "greater_than_equal": ("ge", "must be at least"),
    "less_than": ("lt", "must be less than"),
    "less_than_equal": ("le", "must be at most"),
}


def complain(document: Document, base: KeyPath, value: object, model: type[BaseModel], errors: Sequence[ErrorDetails]) -> None:
    """Add pydantic's errors to the document's problems."""
    groups: dict[KeyPath, list[tuple[str, str]]] = {}
    for error in errors:
        loc = error["loc"]
        path = base + _walk(value, loc)
        outermost = str(loc[0]) if loc else ""
        inner = _model_at(model, loc[:-1])
        if error["type"] == "extra_forbidden":
            groups.setdefault(path, []).append(unknown_key(str(loc[-1]), setting_names(inner)))
        elif error["type"] == "missing":
            about = " ".join(descriptions(inner).get(str(loc[-1]), "").split())
            groups.setdefault(base + loc, []).append(("is missing", about))
        else:
            groups.setdefault(path, []).append(_wording(error, model.model_fields.get(outermost)))
    for path, wordings in groups.items():
        # pydantic reports one mistake for each member of a union.
        messages = dict.fromkeys(message for message, _ in wordings)
        hint = next((hint for _, hint in wordings if hint), "")
        document.complain(path, "; or it ".join(messages), hint)


def unknown_key(key: str, names: Sequence[str], what: str = "setting") -> tuple[str, str]:
    """Return message and hint for an unknown key."""
    meant = suggestion(key, names)
    if meant:
        return f"there is no such {what}", f"did you mean {meant!r}?"
    return f"there is no such {what}", f"there are: {', '.join(names)}" if names else "there are none"


def marks_of(annotation: object, metadata: Iterable[object] = ()) -> Iterator[object]:
    """Yield all `Annotated` metadata of a type, at any depth."""
    yield from (*metadata, *getattr(annotation, "__metadata__", ()))
    for part in get_args(annotation):
        yield from marks_of(part)


def is_secret(annotation: object) -> bool:
    """Return whether a type contains a secret at any depth."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return any(is_secret(field.annotation) for field in annotation.model_fields.values())
    return annotation in {SecretStr, SecretBytes} or any(is_secret(argument) for argument in get_args(annotation))


def _walk(value: object, loc: tuple[int | str, ...]) -> KeyPath:
    # Leave out pydantic's names of union members.
    path: KeyPath = ()
    for step in loc:
        inside = step in value if isinstance(value, Mapping) else isinstance(value, list) and isinstance(step, int) and step < len(value)
        if inside:
            value = value[step]  # type: ignore[index]  # `inside` guarantees the index
            path = (*path, step)
    return path


def _model_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> type[BaseModel]:
    for step in loc:  # steps that name no field are keys and indices of containers
        field = model.model_fields.get(str(step))
        model = model if field is None else next(_models(field.annotation), model)
    return model


def _models(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)


def _wording(error: ErrorDetails, field: FieldInfo | None) -> tuple[str, str]:
    context: Mapping[str, Any] = error.get("ctx", {})
    kind, value, cause = error["type"], error["input"], context.get("error")
    secret = field is not None and is_secret(field.annotation)
    got = "the present value" if secret else _got(value)
    hint = _HINTS.get(kind, "")
    if isinstance(cause, Exception):
        # A validator's message may quote a secret.
        message = "cannot be used" if secret else cause.message if isinstance(cause, MomError) else str(cause)
        hint = cause.hint if isinstance(cause, MomError) else ""
    elif kind in _LIMITS:
        limit, words = _LIMITS[kind]
        message = f"{words} {_in_unit(context[limit], field)}, not {got if secret else _in_unit(value, field)}"
    else:
        text = error["msg"].replace("Input should be", "must be").replace("a valid array", "a list").replace("an object", "a mapping")
        message = f"{text[:1].lower()}{text[1:]}, not {got}"
        if isinstance(value, str) and (meant := suggestion(value, re.findall("'(.*?)'", str(context.get("expected", ""))))):
            hint = f"did you mean {meant!r}?"
    return printable(message, 300), hint


_HINTS: Final[Mapping[str, str]] = {"bool_type": "write true or false", "string_type": "write the value in quotes"}


def _got(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the string '{printable(value, 40)}'" if value else "an empty string"
    if isinstance(value, int | float):
        return printable(f"{value}", 40)
    if value is None:
        return "nothing"
    return "a mapping" if isinstance(value, Mapping) else "a list"


def _in_unit(value: object, field: FieldInfo | None) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool) and field is not None:
        marks = marks_of(field.annotation, field.metadata)
        parsers = {mark.func for mark in marks if isinstance(mark, BeforeValidator)}
        if parse_duration in parsers:
            return format_duration(float(value))
        if parse_size in parsers:
            return format_size(round(value))
    return printable(f"{value:g}" if isinstance(value, float) else str(value), 40)
