"""What is declared and configured: fields, controls, settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response
from typing_extensions import TypedDict  # pydantic's, for Pythons before 3.12

from mom_core import ControlSpec, FieldSpec, Scope
from mom_plugins_http.routes.answers import CycleAnswers, Page, json_answer
from mom_plugins_http.routes.route import AFTER, LIMIT, ApiCall, Route
from mom_toolkit import json_text


class FieldModel(TypedDict):
    """Something that is collected."""

    name: str
    scope: Scope
    unit: str
    description: str
    source: str
    plugin: str


class ControlModel(TypedDict):
    """Something that can be set."""

    name: str
    scope: Scope
    unit: str
    description: str
    field: str
    minimum: float | None
    maximum: float | None
    choices: list[int]
    plugin: str


class DeclaredRoutes:
    """Everything that is so until the configuration changes."""

    def __init__(self, answers: CycleAnswers) -> None:
        self._answers = answers

    def routes(self) -> list[Route]:
        """Its operations."""
        listed = (LIMIT, AFTER)
        masked = "The settings in force; secrets are masked."
        return [
            Route("GET", "/v1/configuration", "configuration", masked, self.configuration, Mapping[str, Any]),
            Route("GET", "/v1/fields", "fields", "What is collected, with units.", self.fields, Page[FieldModel], parameters=listed),
            Route(
                "GET",
                "/v1/controls",
                "controls",
                "What can be set, with units and bounds.",
                self.controls,
                Page[ControlModel],
                parameters=listed,
            ),
        ]

    async def configuration(self, call: ApiCall) -> Response:
        """The settings in force."""
        return json_answer(json_text(self._answers.context.configuration()))

    async def fields(self, call: ApiCall) -> Response:
        """All fields."""
        owners = self._answers.view().declarations.field_owners

        def described(spec: FieldSpec) -> FieldModel:
            return {
                "name": spec.name,
                "scope": spec.scope,
                "unit": spec.unit,
                "description": spec.description,
                "source": spec.source,
                "plugin": owners.get((spec.scope, spec.name), ""),
            }

        return self._answers.paged(call, "fields", lambda view: list(view.declarations.fields.values()), described)

    async def controls(self, call: ApiCall) -> Response:
        """All controls."""
        owners = self._answers.view().declarations.control_owners

        def described(spec: ControlSpec) -> ControlModel:
            return {
                "name": spec.name,
                "scope": spec.scope,
                "unit": spec.unit,
                "description": spec.description,
                "field": spec.field,
                "minimum": spec.minimum,
                "maximum": spec.maximum,
                "choices": list(spec.choices),
                "plugin": owners.get(spec.name, ""),
            }

        return self._answers.paged(call, "controls", lambda view: list(view.declarations.controls.values()), described)
