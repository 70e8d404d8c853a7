"""OpenAPI description of routes and their models."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Final, NotRequired

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode
from pydantic_core.core_schema import DataclassField, ModelField, TypedDictField
from typing_extensions import TypedDict

from mom_core import __version__
from mom_kvm import PolicyProblem
from mom_plugins_http.routes.route import Route
from mom_plugins_http.server import problems
from mom_plugins_http.server.access import Right

Schema = dict[str, Any]

_REFERENCE: Final = "#/components/schemas/"

_UNITS: Final = {"_kib": "KiB", "_seconds": "s", "_at": "s"}


class ProblemModel(TypedDict):
    """Problem of RFC 9457, with the fix in `hint`."""

    type: str
    title: str
    status: int
    detail: str
    hint: NotRequired[str]
    version: NotRequired[str]
    problems: NotRequired[list[PolicyProblem]]


def description(routes: Sequence[Route]) -> Schema:
    """Return the description of these operations."""
    models = [ProblemModel, *(model for route in routes for model in (route.answer, *route.body.values(), *route.events.values()))]
    schema, components = _schemas(tuple(dict.fromkeys(models)))
    paths: dict[str, Schema] = {}
    for route in routes:
        paths.setdefault(route.path.replace(":path}", "}"), {})[route.method.lower()] = _operation(route, schema)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "mom",
            "version": __version__,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": "The control socket of mom. Answers are about the newest finished cycle; absent fields and null are unknown. "
            "`x-unit` is the unit of a number; GET /v1/fields has the units of fields.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "Only through TCP."}},
        },
        "security": [{}, {"token": []}],
    }


def _operation(route: Route, schema: Callable[[object], Schema]) -> Schema:
    names = re.findall(r"{(\w+)", route.path)
    parameters: list[Schema] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}} for name in names
    ]
    for name, kind in route.query.model_json_schema().get("properties", {}).items():
        shape = {key: value for key, value in kind.items() if key not in {"title", "description"} and value is not None}
        parameters.append({"name": name, "in": "query", "required": False, "description": kind.get("description", ""), "schema": shape})
    if route.versioned:
        text = "The ETag of the policies that the client has seen; `*` for any."
        parameters.append(
            {"name": "If-Match", "in": "header", "required": True, "description": text, "schema": {"type": "string", "minLength": 1}}
        )
    answers: Schema = {
        str(route.status): {"description": "Success.", "content": {route.media_type: {"schema": schema(route.answer)}}},
        "default": {"description": "Error and how to fix it.", "content": {problems.MEDIA_TYPE: {"schema": schema(ProblemModel)}}},
    }
    run = route.run
    operation: Schema = {"operationId": getattr(run, "__name__", ""), "summary": run.__doc__ or "", "responses": answers}
    if route.right is Right.CHANGE:
        operation["description"] = "For root, members of `change_group`, and clients with the token for changes."
    if parameters:
        operation["parameters"] = parameters
    if route.events:
        operation["x-events"] = {name: schema(model) for name, model in route.events.items()}
    if route.body:
        content = {media_type: {"schema": schema(model)} for media_type, model in route.body.items()}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


class _Generator(GenerateJsonSchema):
    def field_is_required(self, field: ModelField | DataclassField | TypedDictField, total: bool) -> bool:
        # Answers have all members of a data class.
        return field["type"] == "dataclass-field" or super().field_is_required(field, total)


@cache
def _schemas(models: tuple[Any, ...]) -> tuple[Callable[[object], Schema], Schema]:
    # Cached, because each call grows caches of `typing`.
    adapters: list[tuple[int, JsonSchemaMode, TypeAdapter[Any]]] = [(n, "validation", TypeAdapter(model)) for n, model in enumerate(models)]
    schemas, shared = TypeAdapter.json_schemas(adapters, ref_template=_REFERENCE + "{model}", schema_generator=_Generator)
    kinds = shared.get("$defs", {})
    choices = {_REFERENCE + name: kind for name, kind in kinds.items() if "enum" in kind}

    def tidy(value: Any) -> Any:
        # Titles only repeat names.
        if isinstance(value, list):
            return [tidy(item) for item in value]
        if not isinstance(value, dict):
            return value
        if (reference := value.get("$ref")) is not None:
            named = {"type": "string", "enum": choices[reference]["enum"]} if reference in choices else {"$ref": _name(reference)}
            return {**{key: item for key, item in value.items() if key != "$ref"}, **named}
        kept = {key: tidy(item) for key, item in value.items() if not (key == "title" and isinstance(item, str))}
        for name, unit in _UNITS.items():
            for member, of in kept.get("properties", {}).items():
                if member.endswith(name) and isinstance(of, dict):
                    of.setdefault("x-unit", unit)
        return kept

    described = {name: kind for name, kind in kinds.items() if f"{name}Model" not in kinds}  # an entity of a service appears as its model
    components = {_name(name): tidy(kind) for name, kind in described.items() if _REFERENCE + name not in choices}
    return lambda model: tidy(schemas[models.index(model), "validation"]), components


def _name(name: str) -> str:
    return re.sub(r"Items_(\w+?)(?:Model)?_$", r"\1List", name).removesuffix("Model")
