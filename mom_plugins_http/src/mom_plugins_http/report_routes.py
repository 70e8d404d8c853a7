"""Answers about what is: status, plugins, host, guests, decisions and the like, all from the newest report."""

from __future__ import annotations

import base64
import binascii
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final, TypeVar

from starlette.responses import Response

from mom_cli import CommonProblem, common_problems, find_guest
from mom_core import (
    HOST_ID,
    ControlSpec,
    Decision,
    EngineState,
    Entity,
    FieldSpec,
    Guest,
    MomError,
    Outcome,
    PluginContext,
    PluginReport,
    Problem,
    Report,
    Revision,
    Scope,
    Source,
    StandingProblem,
    Status,
    Value,
    __version__,
    differences,
    printable,
)
from mom_plugins_http import metrics
from mom_plugins_http.json_text import encoded
from mom_plugins_http.problems import ProblemError
from mom_plugins_http.published import GUEST_HISTORY, CycleSample, Published, ReportView
from mom_plugins_http.routes import POINTS, ApiCall
from mom_toolkit import CanaryPolicies, Promises, ReasonedPolicies

Item = TypeVar("Item")


class ReportRoutes:
    """Everything that only looks. Each answer belongs to one cycle, is made when it is first asked for, and kept until the next."""

    def __init__(self, context: PluginContext, published: Published, selection: metrics.GuestSelection) -> None:
        self._context = context
        self._published = published
        self._selection = selection
        self._started = time.time()

    def view(self) -> ReportView:
        """The newest report. Raises `ProblemError` before the first."""
        view = self._published.view
        if view is None:
            raise ProblemError(503, "mom has not finished its first cycle yet", "ask again in a moment", headers={"retry-after": "1"})
        return view

    def _kept(self, key: object, make: Callable[[ReportView], object]) -> Response:
        view = self.view()
        return _json(view.answer(key, lambda: encoded(make(view))))

    # --- the whole -----------------------------------------------------------------------------------------------------------------

    async def status(self, call: ApiCall) -> Response:
        """How mom is."""
        return self._kept("status", self._status)

    def _status(self, view: ReportView) -> object:
        report = view.report
        counts = dict.fromkeys(Status, 0)
        for outcome in report.outcomes:
            counts[outcome.status] += 1
        return {
            "version": __version__,
            "pid": os.getpid(),
            "mode": report.mode,
            "interval_seconds": self._context.interval,
            "hypervisor": view.state.hypervisor,
            "configuration_file": view.state.file,
            "started_at": view.state.started_at or self._started,
            "monotonic_seconds": view.monotonic,
            "verdict": _verdict(report),
            "to_put_back": view.state.to_put_back,
            "cycle": cycle_of(view),
            "guests": len(report.snapshot.guests),
            "decisions": len(report.decisions),
            "revisions": len(report.revisions),
            "outcomes": counts,
            "problems": len(_standing(view)),
            "trial": None if report.considered is None else {"decisions": len(report.considered), "differences": len(differences(report))},
            "plugins": {plugin.name: plugin.state for plugin in report.plugins},
        }

    async def plugins(self, call: ApiCall) -> Response:
        """How each plugin is."""
        return self._kept(
            "plugins", lambda view: {"cycle": view.report.number, "items": [_plugin(one, view.state) for one in view.report.plugins]}
        )

    async def host(self, call: ApiCall) -> Response:
        """The host's fields."""

        def made(view: ReportView) -> object:
            host = view.report.snapshot.host
            return {"cycle": cycle_of(view), "name": host.name, "properties": dict(host.properties), "fields": dict(host.fields)}

        return self._kept("host", made)

    async def metrics(self, call: ApiCall) -> Response:
        """For Prometheus."""
        view = self.view()

        def made() -> bytes:
            tried = self._context.service(CanaryPolicies)
            return metrics.exposition(view, self._selection, None if tried is None else tried.canary())

        return Response(view.answer("metrics", made), media_type=metrics.MEDIA_TYPE)

    async def whoami(self, call: ApiCall) -> Response:
        """Who asks, so that no client is offered what is refused."""
        return _json(encoded({"name": call.peer.name, "right": call.peer.right.name.lower(), "local": call.peer.local}))

    async def configuration(self, call: ApiCall) -> Response:
        """The settings in force."""
        return _json(encoded(self._context.configuration()))

    # --- what is declared ------------------------------------------------------------------------------------------------------------

    async def fields(self, call: ApiCall) -> Response:
        """All fields."""

        owners = self.view().declarations.field_owners

        def described(spec: FieldSpec) -> dict[str, Value]:
            return {
                "name": spec.name,
                "scope": spec.scope,
                "unit": spec.unit,
                "description": spec.description,
                "source": spec.source,
                "plugin": owners.get((spec.scope, spec.name), ""),
            }

        return self._paged(call, "fields", lambda view: list(view.declarations.fields.values()), described)

    async def controls(self, call: ApiCall) -> Response:
        """All controls."""

        owners = self.view().declarations.control_owners

        def described(spec: ControlSpec) -> dict[str, Value]:
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

        return self._paged(call, "controls", lambda view: list(view.declarations.controls.values()), described)

    # --- guests ----------------------------------------------------------------------------------------------------------------------

    async def guests(self, call: ApiCall) -> Response:
        """A page of guests, in the order of their names."""
        view = self.view()
        wanted = call.query.get("fields")
        names = None if wanted is None else _guest_fields(view, str(wanted))
        return _json(view.answer(("guests", call.limit, call.after, wanted), lambda: encoded(self._guests(view, call, names))))

    def _guests(self, view: ReportView, call: ApiCall, names: Sequence[str] | None) -> object:
        guests: Sequence[Guest] = list(view.report.snapshot.guests.values())
        if call.after:
            last = _cursor(call.after)
            guests = [guest for guest in guests if [guest.name, guest.id] > last]
        page = guests[: call.limit]
        following = _write_cursor([page[-1].name, page[-1].id]) if len(guests) > len(page) else None
        total = len(view.report.snapshot.guests)
        return {
            "cycle": view.report.number,
            "total": total,
            "next": following,
            "items": [_guest(guest, view.promises, names) for guest in page],
        }

    async def guest(self, call: ApiCall) -> Response:
        """All of one guest."""
        view = self.view()
        guest = found_guest(view, call.path["guest"])

        def made(view: ReportView) -> object:
            report = view.report
            return {
                **_guest(guest, view.promises),
                "cycle": cycle_of(view),
                "properties": dict(guest.properties),
                "decisions": [_decision(one) for one in report.decisions if one.entity.id == guest.id],
                "revisions": [_revision(one) for one in report.revisions if one.before.entity.id == guest.id],
                "outcomes": [_outcome(one) for one in report.outcomes if one.decision.entity.id == guest.id],
                "problems": [_problem(one) for one in report.problems if one.entity is not None and one.entity.id == guest.id],
            }

        return self._kept(("guest", guest.id), made)

    async def explanation(self, call: ApiCall) -> Response:
        """Why a guest is as it is."""
        guest = found_guest(self.view(), call.path["guest"])

        def made(view: ReportView) -> object:
            texts = {} if view.policies is None else {name: policy.text for name, policy in view.policies.texts.items()}
            reasoned = self._context.service(ReasonedPolicies)

            def reason(control: str) -> str:
                return "" if reasoned is None else reasoned.reason(view.report.number, guest.id, control)

            explainers = self._published.explainers
            return explainers.explain(view.report, guest, texts=texts, declarations=view.declarations, reasons=reason).as_json()

        return self._kept(("explanation", guest.id), made)

    # --- what came before --------------------------------------------------------------------------------------------------------------

    async def host_history(self, call: ApiCall) -> Response:
        """The host in past cycles."""
        return self._past(call, lambda sample: {"fields": dict(sample.host), "guests_together": dict(sample.together)})

    async def guest_history(self, call: ApiCall) -> Response:
        """The most important fields of a guest in past cycles."""
        guest = found_guest(self.view(), call.path["guest"])

        def values(sample: CycleSample) -> dict[str, object] | None:
            kept = None if sample.guests is None else sample.guests.get(guest.id)
            return None if kept is None else {"fields": dict(zip(GUEST_HISTORY, kept, strict=True))}

        return self._past(call, values)

    async def guest_histories(self, call: ApiCall) -> Response:
        """One field of all guests in the last cycles: what a list of guests draws beside each."""
        view, field = self.view(), str(call.query.get("field", GUEST_HISTORY[0]))
        if field not in GUEST_HISTORY:
            raise ProblemError(400, f"no history is kept of {printable(field)}", f"it is of {', '.join(GUEST_HISTORY)}")
        points, index = int(call.query.get("limit", POINTS.default or 0)), GUEST_HISTORY.index(field)

        def made() -> bytes:
            samples = [sample for sample in self._published.history()[-points:] if sample.guests is not None]
            kept = [sample.guests or {} for sample in samples]
            values = {guest: [one[guest][index] if guest in one else None for one in kept] for guest in view.report.snapshot.guests}
            return encoded({"field": field, "times": [sample.time for sample in samples], "guests": values})

        return _json(view.answer(("histories", field, points), made))

    def _past(self, call: ApiCall, values: Callable[[CycleSample], dict[str, object] | None]) -> Response:
        """Newest first, so that the first page is what most want; `after` is a cycle's number."""
        after = call.after
        if after and not (after.isascii() and after.isdigit() and len(after) <= 18):
            raise _bad_cursor()
        items: list[dict[str, object]] = []
        following = None
        for sample in reversed(self._published.history()):
            if after and sample.number >= int(after):
                continue
            found = values(sample)
            if found is None:
                continue
            if len(items) == call.limit:
                following = str(items[-1]["cycle"])
                break
            items.append({"cycle": sample.number, "time": sample.time, "duration_seconds": sample.duration, **found})
        return _json(encoded({"next": following, "items": items}))

    # --- what was decided ----------------------------------------------------------------------------------------------------------------

    async def decisions(self, call: ApiCall) -> Response:
        """What evaluators wanted."""
        return self._paged(call, "decisions", lambda view: _about(call, view, view.report.decisions, lambda one: one.entity), _decision)

    async def revisions(self, call: ApiCall) -> Response:
        """What review made of it."""
        return self._paged(
            call, "revisions", lambda view: _about(call, view, view.report.revisions, lambda one: one.before.entity), _revision
        )

    async def outcomes(self, call: ApiCall) -> Response:
        """What came of it."""
        return self._paged(
            call, "outcomes", lambda view: _about(call, view, view.report.outcomes, lambda one: one.decision.entity), _outcome
        )

    async def recent_outcomes(self, call: ApiCall) -> Response:
        """What was done in past cycles."""
        done = self._published.done()
        if (wanted := call.query.get("guest")) is not None:
            known = HOST_ID if wanted == HOST_ID else found_guest(self.view(), str(wanted)).id
            done = [one for one in done if one.outcome.decision.entity.id == known]
        items = [{"cycle": one.number, "time": one.time, **_outcome(one.outcome)} for one in done[: call.limit]]
        return _json(encoded({"next": None, "items": items}))

    async def problems(self, call: ApiCall) -> Response:
        """What is wrong, and since when."""

        def described(one: StandingProblem) -> dict[str, Value]:
            return {**_problem(one.problem), "since": one.since, "cycles": one.cycles}

        return self._paged(call, "problems", lambda view: _about(call, view, _standing(view), lambda one: one.problem.entity), described)

    async def common_problems(self, call: ApiCall) -> Response:
        """What is wrong, each thing once for all guests that have it."""
        return self._paged(
            call,
            "common problems",
            lambda view: common_problems(_about(call, view, _standing(view), lambda one: one.problem.entity)),
            _common_problem,
        )

    async def trial(self, call: ApiCall) -> Response:
        """How policies on trial differ from those in force."""

        def described(found: tuple[Entity, str, Value, Value]) -> dict[str, Value]:
            entity, control, decided, considered = found
            return {"entity": _entity(entity), "control": control, "decided": decided, "considered": considered}

        return self._paged(call, "trial", lambda view: _about(call, view, differences(view.report), lambda one: one[0]), described)

    def _paged(
        self, call: ApiCall, name: str, listed: Callable[[ReportView], Sequence[Item]], described: Callable[[Item], Mapping[str, Value]]
    ) -> Response:
        """A page of a list that belongs to one cycle. The cursor names the cycle: pages of two cycles would not fit together."""
        view = self.view()

        def page() -> bytes:
            items = listed(view)
            start = _position(call.after, view.report.number)
            shown = items[start : start + call.limit]
            end = start + len(shown)
            following = f"{view.report.number}-{end}" if end < len(items) else None
            return encoded(
                {"cycle": view.report.number, "total": len(items), "next": following, "items": [described(one) for one in shown]}
            )

        return _json(view.answer((name, call.query.get("guest"), call.limit, call.after), page))


def found_guest(view: ReportView, wanted: str) -> Guest:
    """The guest of this id or name. Raises `ProblemError`."""
    try:
        return find_guest(view.report.snapshot.guests, wanted)
    except MomError as error:
        raise ProblemError(404, error.message, f"{error.hint}; GET /v1/guests lists all, with their ids and names") from None


def _guest_fields(view: ReportView, wanted: str) -> list[str]:
    """The names in a list separated by commas. Raises `ProblemError` for those that no plugin declares, with near ones."""
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    known = [name for scope, name in view.declarations.fields if scope is Scope.GUEST]
    unknown = [name for name in dict.fromkeys(names) if name not in known]
    if not unknown:
        return names
    shown = [printable(name) for name in unknown[:_SHOWN_UNKNOWN]]
    more = f" and {len(unknown) - len(shown)} more" if len(unknown) > len(shown) else ""
    near = [alike[0] for name in unknown[:_SHOWN_UNKNOWN] if (alike := get_close_matches(name[:100], known, 1, 0.6))]
    meant = f"did you mean {', '.join(near)}? " if near else ""
    what = "field" if len(unknown) == 1 else "fields"
    raise ProblemError(400, f"no plugin declares the guest {what} {', '.join(shown)}{more}", f"{meant}GET /v1/fields lists all")


_SHOWN_UNKNOWN: Final = 5

NAMED: Final = 10
"""Entities that are told of those that have a problem; `/v1/problems` has them all."""


def _position(after: str, cycle: int) -> int:
    if not after:
        return 0
    number, _, index = after.partition("-")
    if not (number.isascii() and number.isdigit() and index.isascii() and index.isdigit()) or len(after) > 40:
        raise _bad_cursor()
    if int(number) != cycle:
        raise ProblemError(
            410, f"cycle {number} is over, and this list belongs to it", "begin again without `after`, or with a larger `limit`"
        )
    return int(index)


def _bad_cursor() -> ProblemError:
    return ProblemError(
        400, "`after` is nothing that a list gave as `next`", "begin without it, and take `next` of each page for the page after"
    )


def _cursor(text: str) -> list[str]:
    try:
        found = json.loads(base64.urlsafe_b64decode(text.encode("ascii") + b"=="))
    except (ValueError, binascii.Error, RecursionError):
        raise _bad_cursor() from None
    if not isinstance(found, list) or len(found) != 2 or not all(isinstance(part, str) for part in found):
        raise _bad_cursor()
    return found


def _write_cursor(key: list[str]) -> str:
    return base64.urlsafe_b64encode(encoded(key)).decode("ascii").rstrip("=")


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json", headers={"cache-control": "no-store"})


# --- values as JSON -------------------------------------------------------------------------------------------------------------------


def cycle_of(view: ReportView) -> dict[str, Value]:
    """Which cycle an answer belongs to."""
    report = view.report
    return {
        "number": report.number,
        "time": report.time,
        "duration_seconds": report.duration,
        "lag_seconds": report.lag,
        "skipped": report.skipped,
        "woken_by": report.woken_by,
    }


def event_of(view: ReportView, most: int = 100) -> dict[str, object]:
    """What subscribers are told of a cycle: the host, what was done, and what went wrong."""
    report = view.report
    done = [outcome for outcome in report.outcomes if outcome.status is not Status.UNCHANGED]
    return {
        "cycle": cycle_of(view),
        "mode": report.mode,
        "guests": len(report.snapshot.guests),
        "host": dict(report.snapshot.host.fields),
        "guests_together": dict(view.together),
        "verdict": _verdict(report),
        "changes": len(done),
        "outcomes": [_outcome(one) for one in done[:most]],
        "problems": [_problem(one) for one in report.problems[:most]],
        "common_problems": [_common_problem(one) for one in common_problems(_standing(view))[:most]],
        "plugins": {plugin.name: plugin.state for plugin in report.plugins},
    }


def _verdict(report: Report) -> dict[str, Any] | None:
    return None if report.verdict is None else report.verdict.as_json()


def _about(call: ApiCall, view: ReportView, listed: Sequence[Item], entity: Callable[[Item], Entity | None]) -> Sequence[Item]:
    """Those that concern the guest that is asked for, or all."""
    wanted = call.query.get("guest")
    if wanted is None:
        return listed
    known = HOST_ID if wanted == HOST_ID else found_guest(view, str(wanted)).id
    return [one for one in listed if (about := entity(one)) is not None and about.id == known]


def _entity(entity: Entity) -> dict[str, Value]:
    return {"scope": entity.scope, "id": entity.id, "name": entity.name}


def _guest(guest: Guest, promises: Promises, names: Sequence[str] | None = None) -> dict[str, Any]:
    """A guest with all its fields, or with those of these names."""
    fields = guest.fields
    if names is not None:
        fields = {name: fields[name] for name in names if name in fields}
    return {
        "id": guest.id,
        "name": guest.name,
        "blocked": dict(guest.blocked),
        "guaranteed_kib": promises.guaranteed_kib(guest),
        "fields": fields if isinstance(fields, dict) else dict(fields),
    }


def _standing(view: ReportView) -> Sequence[StandingProblem]:
    """The problems that stand, the newest report's too where the engine did not note them."""
    noted = list(view.state.problems)
    known = {(one.problem.source, one.problem.entity, one.problem.message) for one in noted}
    report = view.report
    new = [one for one in report.problems if (one.source, one.entity, one.message) not in known]
    return [*noted, *(StandingProblem(one, report.time, 1) for one in new)]


def _plugin(plugin: PluginReport, state: EngineState) -> dict[str, Value]:
    distribution, version = state.distributions.get(plugin.name, ("", ""))
    return {
        "name": plugin.name,
        "distribution": distribution,
        "version": version,
        "state": plugin.state,
        "calls": plugin.calls,
        "failures": plugin.failures,
        "last_error": plugin.last_error,
        "retry_in_seconds": plugin.retry_in,
        "durations_seconds": dict(plugin.durations),
    }


def _decision(decision: Decision) -> dict[str, Value]:
    return {
        "entity": _entity(decision.entity),
        "control": decision.control,
        "value": decision.value,
        "reason": decision.reason,
        "source": _source(decision.source),
    }


def _source(source: Source) -> Mapping[str, Value]:
    return {"name": source.name, "line": source.line, "column": source.column}


def _revision(revision: Revision) -> dict[str, Value]:
    return {
        "entity": _entity(revision.before.entity),
        "control": revision.before.control,
        "wanted": revision.before.value,
        "became": None if revision.after is None else revision.after.value,
        "dropped": revision.after is None,
        "reason": revision.reason,
        "reviewer": revision.reviewer,
        "source": _source(revision.before.source),
    }


def _outcome(outcome: Outcome) -> dict[str, Value]:
    return {
        **_decision(outcome.decision),
        "before": outcome.before,
        "after": outcome.after,
        "status": outcome.status,
        "error": outcome.error,
    }


def _problem(problem: Problem) -> dict[str, Value]:
    return {
        "severity": problem.severity,
        "source": _source(problem.source),
        "entity": None if problem.entity is None else _entity(problem.entity),
        "message": problem.message,
        "hint": problem.hint,
    }


def _common_problem(problem: CommonProblem) -> dict[str, Value]:
    return {
        "severity": problem.severity,
        "source": _source(problem.source),
        "about": len(problem.about),
        "first": [_entity(one) for one in problem.about[:NAMED]],
        "who": problem.who,
        "message": problem.message,
        "hint": problem.hint,
        "since": problem.since,
        "cycles": problem.cycles,
    }
