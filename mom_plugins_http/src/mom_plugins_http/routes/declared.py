"""Fields, controls and settings, as they are declared and configured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from typing_extensions import TypedDict  # pydantic's, for Pythons before 3.12

from mom_core import ControlSpec, FieldSpec, Scope
from mom_plugins_http.routes.answers import CycleAnswers, Items
from mom_plugins_http.routes.route import ApiCall, Route


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
        return [
            Route("GET", "/v1/configuration", self.configuration, Mapping[str, Any]),
            Route("GET", "/v1/fields", self.fields, Items[FieldModel]),
            Route("GET", "/v1/controls", self.controls, Items[ControlModel]),
        ]

    async def configuration(self, call: ApiCall) -> object:
        """The settings in force; secrets are masked."""
        return self._answers.context.configuration()

    async def fields(self, call: ApiCall) -> object:
        """All fields, with units."""
        declared = self._answers.view().declarations
        return {"items": [_told(FieldModel, spec, declared.field_owners.get(key)) for key, spec in declared.fields.items()]}

    async def controls(self, call: ApiCall) -> object:
        """All controls, with units and bounds."""
        declared = self._answers.view().declarations
        return {"items": [_told(ControlModel, spec, declared.control_owners.get(spec.name)) for spec in declared.controls.values()]}


def _told(model: type, spec: FieldSpec | ControlSpec, plugin: str | None) -> dict[str, object]:
    return {**{name: getattr(spec, name) for name in model.__annotations__ if name != "plugin"}, "plugin": plugin or ""}
