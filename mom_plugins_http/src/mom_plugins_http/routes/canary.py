"""Policies on some guests first, through the API: begun, watched, promoted or given up."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import BeforeValidator, WithJsonSchema
from typing_extensions import TypedDict  # pydantic's, for Pythons before 3.12

from mom_core import StrictModel
from mom_daemon import described
from mom_kvm import Canary, PolicyTexts
from mom_plugins_http.routes.answers import as_object
from mom_plugins_http.routes.bodies import JSON, Span, as_float, read_body, span_schema
from mom_plugins_http.routes.policies import ChangedTexts, PolicyRoutes
from mom_plugins_http.routes.route import ApiCall, Route
from mom_plugins_http.server.access import Right

_PERCENT: Final = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?)\s*%")


def _share(given: object) -> object:
    """From 0 to 1."""
    found = _PERCENT.fullmatch(given.strip()) if isinstance(given, str) else None
    return as_float(given) if found is None else float(found[1]) / 100


_SHARE: Final = {
    "anyOf": [{"type": "number", "exclusiveMinimum": 0, "maximum": 1}, {"type": "string", "description": "As `10%`.", "examples": ["10%"]}],
    "description": "Of the guests; or `guests`.",
}


class BeginModel(StrictModel):
    """Policies to be tried, on whom, and for how long."""

    changes: ChangedTexts
    share: Annotated[float | None, BeforeValidator(_share), WithJsonSchema(_SHARE)] = None
    guests: str = ""
    """A pattern for guests' names or ids; or `share`."""
    duration: Annotated[Span, span_schema("With a unit, as `10m`.", exclusiveMinimum=0)] = 600.0


@described
class CanaryAnswerModel(TypedDict):
    """The trial, if there was one."""

    canary: Canary | None
    """null: there was none."""


class CanaryRoutes:
    """Everything about trials. Beginning one compiles, and so waits its turn with all other changes of policies."""

    def __init__(self, policies: PolicyRoutes) -> None:
        self._policies = policies

    def routes(self) -> list[Route]:
        """Its operations."""
        path, answer, change = "/v1/policy-canary", CanaryAnswerModel, Right.CHANGE
        return [
            Route("GET", path, self.canary, answer),
            Route("POST", path, self.begin_canary, answer, change, body={JSON: BeginModel}, versioned=True, status=201),
            Route("DELETE", path, self.abort_canary, answer, change, versioned=True),
            Route("POST", f"{path}/promotion", self.promote_canary, answer, change, versioned=True),
        ]

    async def canary(self, call: ApiCall) -> CanaryAnswerModel:
        """The trial of policies that runs, or the last one."""
        return _answer(self._policies.texts().canary())

    async def begin_canary(self, call: ApiCall) -> CanaryAnswerModel:
        """Try policies on some guests; they go into force for all, or for none, by themselves."""
        expected = self._policies.expected(call)
        given = await read_body(call, BeginModel)

        def begun(texts: PolicyTexts) -> Canary:
            return texts.begin_canary(
                given.changes, who=call.peer.name, seconds=given.duration, share=given.share, guests=given.guests, expected_version=expected
            )

        return _answer(await self._policies.run(begun))

    async def promote_canary(self, call: ApiCall) -> CanaryAnswerModel:
        """Put what is tried in force for all guests now."""
        return await self._end(call, promote=True)

    async def abort_canary(self, call: ApiCall) -> CanaryAnswerModel:
        """End the trial; nothing changes."""
        return await self._end(call, promote=False)

    async def _end(self, call: ApiCall, *, promote: bool) -> CanaryAnswerModel:
        expected, who = self._policies.expected(call), call.peer.name
        return _answer(await self._policies.run(lambda texts: texts.end_canary(promote=promote, who=who, expected_version=expected)))


def _answer(canary: Canary | None) -> CanaryAnswerModel:
    return {"canary": as_object(canary)}
