"""Policies on some guests first, through the API: begun, watched, promoted or given up."""

from __future__ import annotations

import math
import re
from typing import Final

from starlette.responses import Response

from mom_core import Value
from mom_plugins_http.bodies import object_body, seconds_of
from mom_plugins_http.json_text import encoded
from mom_plugins_http.policy_routes import PolicyRoutes, checked_changes
from mom_plugins_http.problems import ProblemError
from mom_plugins_http.routes import ApiCall
from mom_toolkit import Canary, CanaryGroup

_PERCENT: Final = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?)\s*%")


class CanaryRoutes:
    """Everything about trials. Beginning one compiles, and so waits its turn with all other changes of policies."""

    def __init__(self, policies: PolicyRoutes) -> None:
        self._policies = policies

    async def current(self, call: ApiCall) -> Response:
        """The trial that runs, or the last one."""
        return _answer(self._policies.canaries().canary())

    async def begin(self, call: ApiCall) -> Response:
        """Try changes on some guests."""
        expected = self._policies.expected(call)
        given = await object_body(call, {"changes", "share", "guests", "duration"})
        changes = checked_changes(given.get("changes"))
        share, pattern, seconds = (
            _share(given.get("share")),
            given.get("guests", ""),
            seconds_of(given.get("duration", "10m"), "duration", "for how long it is tried"),
        )
        if not isinstance(pattern, str):
            raise ProblemError(400, "`guests` must be a pattern for guests' names or ids", 'such as "db-*"')
        texts, who = self._policies.canaries(), call.peer.name

        def begun() -> Canary:
            return texts.begin_canary(changes, who=who, seconds=seconds, share=share, guests=pattern, expected_version=expected)

        return _answer(await self._policies.run(begun), 201)

    async def promote(self, call: ApiCall) -> Response:
        """In force for all guests now."""
        return await self._end(call, promote=True)

    async def abort(self, call: ApiCall) -> Response:
        """In force for no guest."""
        return await self._end(call, promote=False)

    async def _end(self, call: ApiCall, *, promote: bool) -> Response:
        expected = self._policies.expected(call)
        texts, who = self._policies.canaries(), call.peer.name
        return _answer(await self._policies.run(lambda: texts.end_canary(promote=promote, who=who, expected_version=expected)))


def canary_of(canary: Canary) -> dict[str, Value]:
    """As JSON."""
    on: list[Value] = [{"id": entity.id, "name": entity.name} for entity in canary.on]
    return {
        "state": canary.state,
        "what": canary.what,
        "who": canary.who,
        "version": canary.version,
        "share": canary.share,
        "guests": canary.guests,
        "duration_seconds": canary.seconds,
        "began_at": canary.began,
        "left_seconds": canary.left,
        "cycles": canary.cycles,
        "on": on,
        "canary": _group(canary.canary),
        "others": _group(canary.others),
        "before": _group(canary.before),
        "reason": canary.reason,
        "note": canary.note,
    }


def _group(group: CanaryGroup) -> dict[str, Value]:
    return {"guests": group.guests, "looks": group.looks, "told": group.told, "ailing": group.ailing, "killed": group.killed}


def _answer(canary: Canary | None, status: int = 200) -> Response:
    content: Value = {"canary": None if canary is None else canary_of(canary)}
    return Response(encoded(content), status, {"cache-control": "no-store"}, "application/json")


def _share(given: object) -> float | None:
    """From 0 to 1."""
    if given is None or (isinstance(given, int | float) and not isinstance(given, bool)):
        return given if given is None or abs(given) < 1e9 else math.inf
    found = _PERCENT.fullmatch(given.strip()) if isinstance(given, str) else None
    if found is None:
        raise ProblemError(400, "`share` must be a share of the guests", 'such as "10%" or 0.1')
    return float(found[1]) / 100
