"""The OpenAPI description of the API, from the table of routes and from what the plugins declare."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from mom_core import Declarations, FieldSpec, PluginState, Scope, Severity, Status, Unit, Value, __version__
from mom_plugins_http import problems
from mom_plugins_http.access import Right
from mom_plugins_http.published import GUEST_HISTORY
from mom_plugins_http.routes import Route
from mom_toolkit import CanaryState, ReservationState

Schema = dict[str, Value]

_TEXT: Final[Schema] = {"type": "string"}
_COUNT: Final[Schema] = {"type": "integer"}
_ANY: Final[Schema] = {"description": "In the unit of its field or control; null is unknown."}
_NEXT: Final[Schema] = {"type": ["string", "null"], "description": "`after` of the next page; null on the last one."}
_SECONDS: Final[Schema] = {"type": "number", "x-unit": "s"}
_KIB: Final[Schema] = {"type": ["number", "null"], "x-unit": "KiB", "description": "null: unknown."}
_KIB_PER_SECOND: Final[Schema] = {"type": ["number", "null"], "x-unit": "KiB/s", "description": "null: unknown."}
_TIME: Final[Schema] = {"type": "number", "x-unit": "s", "description": "Seconds since the epoch."}


def description(routes: Sequence[Route], declarations: Declarations) -> Schema:
    """The description of this very server: fields are those that its plugins declare."""
    paths: dict[str, dict[str, Value]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "mom",
            "version": __version__,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": "The control socket of mom. Answers are about the newest finished cycle; absent fields and null are unknown. "
            "`x-unit` is the unit of a number.",
        },
        "paths": dict(paths),
        "components": {
            "schemas": dict(_schemas(declarations)),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "Only through TCP."}},
        },
        "security": [{}, {"token": []}],
    }


def _operation(route: Route) -> Schema:
    names = re.findall(r"{(\w+)}", route.path)
    parameters: list[Value] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}} for name in names
    ]
    parameters += [
        {"name": one.name, "in": "query", "required": False, "description": one.description, "schema": one.schema()}
        for one in route.parameters
    ]
    if route.versioned:
        text = "The ETag of the policies that the client has seen, or `*` for whatever is there."
        parameters.append(
            {"name": "If-Match", "in": "header", "required": True, "description": text, "schema": {"type": "string", "minLength": 1}}
        )
    answers: dict[str, Value] = {
        str(route.status): {"description": "As asked for.", "content": {route.media_type: {"schema": _schema(route.answer)}}},
        "default": {"description": "Why not, and what to do.", "content": {problems.MEDIA_TYPE: {"schema": _schema("Problem")}}},
    }
    operation: Schema = {"operationId": route.name, "summary": route.summary, "responses": answers}
    if route.right is Right.CHANGE:
        operation["description"] = "For root, the group that may change, and the token to change."
    if parameters:
        operation["parameters"] = parameters
    if route.body:
        content: dict[str, Value] = {media_type: {"schema": _schema(schema)} for media_type, schema in route.body.items()}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _schema(schema: Value) -> Value:
    return {"$ref": f"#/components/schemas/{schema}"} if isinstance(schema, str) else schema


def _object(members: Mapping[str, Value], *, optional: Sequence[str] = (), closed: bool = False, **more: Value) -> Schema:
    required: list[Value] = [name for name in members if name not in optional]
    made: Schema = {
        "type": "object",
        "properties": {name: _schema(member) for name, member in members.items()},
        "required": required,
        **more,
    }
    return {**made, "additionalProperties": False} if closed else made


def _list(item: Value, *, of_one_cycle: bool = True) -> Schema:
    items: Schema = {"type": "array", "items": _schema(item)}
    if not of_one_cycle:
        return _object({"next": _NEXT, "items": items})
    total: Schema = {"type": "integer", "description": "Items on all pages together."}
    return _object({"cycle": _COUNT, "total": total, "next": _NEXT, "items": items})


def _field(spec: FieldSpec) -> Schema:
    kinds: dict[Unit, list[Value]] = {Unit.TEXT: ["string", "null"], Unit.LIST: ["array", "null"]}
    kind = kinds.get(spec.unit, ["number", "boolean", "null"])
    return {"type": kind, "x-unit": spec.unit.value, "description": spec.description}


def _fields(declarations: Declarations, scope: Scope, names: Sequence[str] = ()) -> Schema:
    found = {name: spec for (of, name), spec in declarations.fields.items() if of is scope and (not names or name in names)}
    return {"type": "object", "properties": {name: _field(spec) for name, spec in found.items()}}


def _schemas(declarations: Declarations) -> Mapping[str, Schema]:
    text_map: Schema = {"type": "object", "additionalProperties": _TEXT}
    states: Schema = {"type": "string", "enum": [state.value for state in PluginState]}
    about: dict[str, Value] = {"entity": "Entity", "control": _TEXT}
    decision: dict[str, Value] = {**about, "value": _ANY, "reason": _TEXT, "source": "Source"}
    outcome: dict[str, Value] = {
        **decision,
        "before": _ANY,
        "after": _ANY,
        "status": {"type": "string", "enum": [status.value for status in Status]},
        "error": _TEXT,
    }
    severity: Schema = {"type": "string", "enum": [severity.value for severity in Severity]}
    problem: dict[str, Value] = {
        "severity": severity,
        "source": "Source",
        "entity": {"anyOf": [_schema("Entity"), {"type": "null"}]},
        "message": _TEXT,
        "hint": _TEXT,
    }
    guest: dict[str, Value] = {
        "id": _TEXT,
        "name": _TEXT,
        "blocked": text_map,
        "guaranteed_kib": {**_KIB, "description": "What holds of all that it is promised; null: nothing, as far as is known."},
        "fields": _fields(declarations, Scope.GUEST),
    }
    lists: dict[str, Value] = {name: {"type": "array", "items": _schema(item)} for name, item in _OF_A_GUEST.items()}
    past: dict[str, Value] = {"cycle": _COUNT, "time": _TIME, "duration_seconds": _SECONDS}
    changed_text: Schema = {"type": ["string", "null"], "description": "The text to set; null removes the policy."}
    return {
        "Problem": _object(
            {
                "type": _TEXT,
                "title": _TEXT,
                "status": _COUNT,
                "detail": _TEXT,
                "hint": _TEXT,
                "version": _TEXT,
                "problems": {"type": "array", "items": _schema("PolicyProblem")},
            },
            optional=("hint", "version", "problems"),
            description="RFC 9457, with what to do in `hint`.",
        ),
        "Entity": _object({"scope": {"type": "string", "enum": [scope.value for scope in Scope]}, "id": _TEXT, "name": _TEXT}),
        "Source": _object({"name": _TEXT, "line": _COUNT, "column": _COUNT}, description="A policy's place, or a plugin with line 0."),
        "Cycle": _object(
            {"number": _COUNT, "time": _TIME, "duration_seconds": _SECONDS, "lag_seconds": _SECONDS, "skipped": _COUNT, "woken_by": _TEXT}
        ),
        "Status": _object(
            {
                "version": _TEXT,
                "pid": _COUNT,
                "mode": {"type": "string", "enum": ["enforce", "observe"]},
                "interval_seconds": _SECONDS,
                "hypervisor": {"type": "string", "description": "Its URI."},
                "configuration_file": {"type": ["string", "null"]},
                "started_at": _TIME,
                "monotonic_seconds": {**_SECONDS, "description": "When the cycle ended, by the host's CLOCK_MONOTONIC."},
                "verdict": {"anyOf": [_schema("Verdict"), {"type": "null"}]},
                "to_put_back": {"type": "integer", "description": "Changes that would be put back if mom stopped now."},
                "cycle": "Cycle",
                "guests": _COUNT,
                "decisions": _COUNT,
                "revisions": _COUNT,
                "outcomes": {"type": "object", "additionalProperties": _COUNT},
                "problems": {"type": "integer", "description": "Problems that stand."},
                "trial": {"type": ["object", "null"], "properties": {"decisions": _COUNT, "differences": _COUNT}},
                "plugins": {"type": "object", "additionalProperties": states},
            }
        ),
        "Verdict": _object(
            {
                "severity": {**severity, "description": "Of the worst alert; ok without any. error: the operator must look."},
                "alerts": {"type": "array", "items": _schema("Alert"), "description": "The worst first."},
            },
            description="How the host is as a whole.",
        ),
        "Alert": _object(
            {
                "name": {"type": "string", "description": "Stays the same while the words change."},
                "severity": severity,
                "message": {"type": "string", "description": "What is so now, on one line."},
                "why": {"type": "string", "description": "May be empty, as `cure`."},
                "cure": {"type": "string", "description": "What to do."},
                "plugins": {"type": "array", "items": _TEXT, "description": "Who says so."},
                "since": _TIME,
                "lasted_seconds": _SECONDS,
            }
        ),
        "Plugin": _object(
            {
                "name": _TEXT,
                "distribution": _TEXT,
                "version": _TEXT,
                "state": states,
                "calls": _COUNT,
                "failures": _COUNT,
                "last_error": _TEXT,
                "retry_in_seconds": _SECONDS,
                "durations_seconds": {"type": "object", "additionalProperties": _SECONDS},
            }
        ),
        "Plugins": _object({"cycle": _COUNT, "items": {"type": "array", "items": _schema("Plugin")}}),
        "Field": _object({"name": _TEXT, "scope": _TEXT, "unit": _TEXT, "description": _TEXT, "source": _TEXT, "plugin": _TEXT}),
        "Fields": _list("Field"),
        "Control": _object(
            {
                "name": _TEXT,
                "scope": _TEXT,
                "unit": _TEXT,
                "description": _TEXT,
                "field": _TEXT,
                "minimum": {"type": ["number", "null"]},
                "maximum": {"type": ["number", "null"]},
                "choices": {"type": "array", "items": {"type": "integer"}},
                "plugin": _TEXT,
            }
        ),
        "Controls": _list("Control"),
        "Host": _object({"cycle": "Cycle", "name": _TEXT, "properties": {"type": "object"}, "fields": _fields(declarations, Scope.HOST)}),
        "HostHistory": _list(
            _object(
                {
                    **past,
                    "fields": _fields(declarations, Scope.HOST),
                    "guests_together": {
                        **_fields(declarations, Scope.GUEST, GUEST_HISTORY),
                        "description": "Sums over all guests of which the field is known; null where it is known of none.",
                    },
                }
            ),
            of_one_cycle=False,
        ),
        "Guest": _object(guest),
        "Guests": _list("Guest"),
        "GuestWithDecisions": _object({**guest, "cycle": "Cycle", "properties": {"type": "object"}, **lists}),
        "GuestHistory": _list(_object({**past, "fields": _fields(declarations, Scope.GUEST, GUEST_HISTORY)}), of_one_cycle=False),
        **_explanations(),
        "GuestHistories": _object(
            {
                "field": _TEXT,
                "times": {"type": "array", "items": _TIME},
                "guests": {
                    "type": "object",
                    "description": "By guest id, a value for each of `times`, in the field's unit; null is unknown.",
                    "additionalProperties": {"type": "array", "items": {"type": ["number", "null"]}},
                },
            }
        ),
        "Client": _object(
            {"name": _TEXT, "right": {"type": "string", "enum": [right.name.lower() for right in Right]}, "local": {"type": "boolean"}}
        ),
        **_reservations(),
        **_trials(changed_text),
        "Decision": _object(decision),
        "Decisions": _list("Decision"),
        "Revision": _object(
            {
                **about,
                "wanted": _ANY,
                "became": _ANY,
                "dropped": {"type": "boolean"},
                "reason": _TEXT,
                "reviewer": _TEXT,
                "source": "Source",
            }
        ),
        "Revisions": _list("Revision"),
        "Outcome": _object(outcome),
        "Outcomes": _list("Outcome"),
        "RecentOutcomes": _list(_object({"cycle": _COUNT, "time": _TIME, **outcome}), of_one_cycle=False),
        "CycleProblem": _object(problem),
        "StandingProblem": _object({**problem, "since": _TIME, "cycles": {"type": "integer", "description": "In which it was seen."}}),
        "Problems": _list("StandingProblem"),
        "CommonProblem": _object(
            {
                "severity": problem["severity"],
                "source": "Source",
                "about": {"type": "integer", "description": "How many guests have it, or 1 for the host; 0: it is about none."},
                "first": {"type": "array", "items": _schema("Entity"), "description": "The first of them."},
                "who": {"type": "string", "description": "The same in words."},
                "message": _TEXT,
                "hint": {"type": "string", "description": "Where each has its own, that of the first, with its name."},
                "since": _TIME,
                "cycles": {"type": "integer", "description": "In which it was seen."},
            }
        ),
        "CommonProblems": _list("CommonProblem"),
        "Difference": _object({**about, "decided": _ANY, "considered": _ANY}),
        "Differences": _list("Difference"),
        "PolicyProblem": _object(
            {
                "name": _TEXT,
                "line": _COUNT,
                "column": _COUNT,
                "kind": _TEXT,
                "message": _TEXT,
                "severity": {"enum": ["error", "warning"]},
                "hint": {"type": "string", "description": "What to do; may be empty."},
            }
        ),
        "PolicyText": _object({"text": _TEXT}, closed=True),
        "Policies": _object(
            {"version": _TEXT, "items": {"type": "array", "items": _object({"name": _TEXT, "origin": _TEXT, "text": _TEXT})}}
        ),
        "Policy": _object({"version": _TEXT, "name": _TEXT, "origin": _TEXT, "text": _TEXT}),
        "Changes": _object(
            {
                "changes": {"type": "object", "additionalProperties": changed_text},
                "replace_all": {"type": "boolean", "default": False, "description": "Remove all other policies, those from files too."},
            },
            optional=("replace_all",),
            closed=True,
        ),
        "Changed": _object({"version": _TEXT, "names": {"type": "array", "items": _TEXT}}),
        "Checked": _object(
            {
                "good": {"type": "boolean", "description": "Whether the changes could be made: there may be warnings."},
                "problems": {"type": "array", "items": _schema("PolicyProblem")},
                "warnings": {"type": "array", "items": _schema("PolicyProblem")},
            }
        ),
        "Version": _object({"version": _TEXT}, closed=True),
        "PolicyHistory": _list(_object({"version": _TEXT, "time": _TIME, "who": _TEXT, "what": _TEXT, "diff": _TEXT}), of_one_cycle=False),
    }


def _trials(changed_text: Schema) -> Mapping[str, Schema]:
    """Policies that are tried on some guests."""
    share: Schema = {"type": "number", "exclusiveMinimum": 0, "maximum": 1}
    percent: Schema = {"type": "string", "description": "As `10%`.", "examples": ["10%"]}
    time: Schema = {"type": "string", "description": "With a unit, as `10m`.", "examples": ["10m"]}
    text: Schema = {"type": "string"}
    return {
        "Trial": _object(
            {
                "changes": {"type": "object", "additionalProperties": changed_text},
                "share": {"anyOf": [share, percent], "description": "Of the guests; or `guests`."},
                "guests": {**text, "description": "A pattern for guests' names or ids; or `share`."},
                "duration": {"anyOf": [time, {**_SECONDS, "exclusiveMinimum": 0}], "default": "10m"},
            },
            optional=("share", "guests", "duration"),
            closed=True,
        ),
        "CanaryGroup": _object(
            {
                "guests": _COUNT,
                "looks": {**_COUNT, "description": "How often one of them was looked at: once in each cycle."},
                "told": {**_COUNT, "description": "In how many looks it told how it is."},
                "ailing": {**_COUNT, "description": "In how many of those it was short of memory, swapped or waited."},
                "killed": {**_COUNT, "description": "Programs that guests' kernels killed for want of memory."},
            }
        ),
        "Canary": _object(
            {
                "state": {"type": "string", "enum": [state.value for state in CanaryState]},
                "what": _TEXT,
                "who": _TEXT,
                "version": _TEXT,
                "share": {"type": ["number", "null"]},
                "guests": _TEXT,
                "duration_seconds": _SECONDS,
                "began_at": _TIME,
                "left_seconds": _SECONDS,
                "cycles": _COUNT,
                "on": {"type": "array", "items": _object({"id": _TEXT, "name": _TEXT})},
                "canary": "CanaryGroup",
                "others": "CanaryGroup",
                "before": {"$ref": "#/components/schemas/CanaryGroup", "description": "The same guests before the trial."},
                "reason": _TEXT,
                "note": _TEXT,
            }
        ),
        "CanaryAnswer": _object({"canary": {"anyOf": [_schema("Canary"), {"type": "null"}], "description": "null: there was none."}}),
    }


def _reservations() -> Mapping[str, Schema]:
    """What is kept for launches."""
    kib: Schema = {"type": "integer", "x-unit": "KiB"}
    size: Schema = {"type": "string", "description": "With a unit, as `8GiB`.", "examples": ["8GiB"]}
    time: Schema = {"type": "string", "description": "From now, with a unit, as `10m`.", "examples": ["10m"]}
    return {
        "Wanted": _object(
            {
                "memory": {"anyOf": [size, {**kib, "minimum": 1024, "maximum": 1 << 40}]},
                "deadline": {"anyOf": [time, {**_SECONDS, "minimum": 1, "maximum": 86400}]},
                "name": {"type": "string", "maxLength": 200, "description": "A pattern for the name or id of the guest that it is for."},
            },
            optional=("name",),
            closed=True,
        ),
        "Room": _object(
            {
                "available_kib": kib,
                "host_keeps_kib": kib,
                "reserved_kib": kib,
                "can_be_freed_kib": kib,
                "can_be_offloaded_kib": kib,
                "returning_kib": kib,
                "guaranteed_kib": kib,
                "most_kib": {**kib, "description": "The largest reservation that can be had."},
                "free_kib": {**kib, "description": "What of that is there already."},
                "why": {"type": "string", "description": "Why guests give nothing; empty if they do."},
            }
        ),
        "Reservation": _object(
            {
                "id": _TEXT,
                "state": {"type": "string", "enum": [state.value for state in ReservationState]},
                "memory_kib": kib,
                "name": _TEXT,
                "who": _TEXT,
                "created_at": _TIME,
                "expires_in_seconds": _SECONDS,
                "kept_kib": {**kib, "description": "What is kept still: less than `memory_kib` when a guest has touched a part."},
                "there_kib": {**kib, "description": "What of that is free now."},
                "expected_kib": {**kib, "description": "What is still to come from guests."},
                "expected_in_seconds": {"type": ["number", "null"], "x-unit": "s", "description": "Until all is there; null: unknown."},
                "guest": {"anyOf": [_object({"id": _TEXT, "name": _TEXT}), {"type": "null"}]},
                "note": _TEXT,
            }
        ),
        "Admission": _object(
            {
                "admitted": {"type": "boolean"},
                "count": {"type": "integer"},
                "fits": {"type": "integer", "description": "How many such guests there could be, counted up to 10,000."},
                "memory_kib": kib,
                "class": {"type": "string", "description": "Empty: none."},
                "guarantee_kib": {**kib, "description": "What each would be promised."},
                "reasons": {"type": "array", "items": _TEXT, "description": "Sentences; those against it first."},
                "donors": {
                    "type": "array",
                    "description": "Guests that would have to give.",
                    "items": _object(
                        {
                            "guest": _object({"id": _TEXT, "name": _TEXT}),
                            "kib": kib,
                            "what": {"type": "string", "enum": ["memory", "promise"]},
                        }
                    ),
                },
            }
        ),
        "Reservations": _object(
            {
                "room": {
                    "anyOf": [_schema("Room"), {"type": "null"}],
                    "description": "What could be reserved; null: unknown.",
                },
                "items": {"type": "array", "items": _schema("Reservation")},
                "ended": {"type": "array", "items": _schema("Reservation"), "description": "The last ones, newest first."},
            }
        ),
    }


def _explanations() -> Mapping[str, Schema]:
    """Why a guest has its size."""
    unknown: Schema = {"type": ["number", "null"], "description": "null: unknown."}
    revision = _object({"reviewer": _TEXT, "reason": _TEXT, "became": _ANY, "dropped": {"type": "boolean"}})
    outcome: dict[str, Value] = {
        "status": {"type": "string", "enum": [status.value for status in Status]},
        "value": _ANY,
        "before": _ANY,
        "after": _ANY,
        "error": _TEXT,
    }
    place: dict[str, Value] = {"name": _TEXT, "line": _COUNT, "column": _COUNT}
    line: Schema = {"type": "string", "description": "The policy's line; empty if it is not known."}
    return {
        "Memory": _object(
            {
                "size_kib": _KIB,
                "maximum_kib": _KIB,
                "used_kib": _KIB,
                "usable_kib": _KIB,
                "unused_kib": _KIB,
                "swap_in_kib_per_second": _KIB_PER_SECOND,
                "swap_out_kib_per_second": _KIB_PER_SECOND,
                "major_faults_per_second": {**unknown, "x-unit": "1/s"},
                "statistics_age_seconds": {**unknown, "x-unit": "s"},
                "guarantee_kib": _KIB,
                "asked_kib": _KIB,
            },
            description="What a guest has, needs (`used_kib`), is guaranteed, and was asked for.",
        ),
        "Since": _object(
            {
                "time": _TIME,
                "at_least": {"type": "boolean", "description": "It had this size already when mom first saw it."},
                "by": {"type": "string", "enum": ["mom", "maximum", "somebody-else", "unknown"]},
                "before_kib": _KIB,
                "source": {"anyOf": [_schema("Source"), {"type": "null"}]},
            }
        ),
        "ExplainedDecision": _object(
            {
                "control": _TEXT,
                "unit": _TEXT,
                "value": _ANY,
                "reason": _TEXT,
                "why": {"type": "string", "description": "Why the policy wants it, in words; empty if it is not known."},
                "source": _object({**place, "text": line}),
                "revisions": {"type": "array", "items": revision},
                "outcome": {"anyOf": [_object(outcome), {"type": "null"}]},
            }
        ),
        "Explanation": _object(
            {
                "guest": _object({"id": _TEXT, "name": _TEXT}),
                "cycle": _COUNT,
                "time": _TIME,
                "mode": {"type": "string", "enum": ["enforce", "observe"]},
                "interval_seconds": {**unknown, "x-unit": "s", "description": "Between two cycles."},
                "memory": "Memory",
                "guarantee_from": _TEXT,
                "since": {"anyOf": [_schema("Since"), {"type": "null"}]},
                "decisions": {"type": "array", "items": _schema("ExplainedDecision")},
                "why_unchanged": {
                    "type": "string",
                    "description": "Why no policy wants another size; empty: one does, or it is not known.",
                },
                "asked_again_in_seconds": {**unknown, "x-unit": "s"},
                "obstacle": {"type": "string", "description": "Why its size cannot be changed, or it gives nothing; empty: nothing does."},
                "problems": {
                    "type": "array",
                    "items": _object({"severity": _TEXT, "source": "Source", "message": _TEXT, "hint": _TEXT}),
                },
                "trial": {
                    "type": ["array", "null"],
                    "items": _object({"control": _TEXT, "decided": _ANY, "considered": _ANY}),
                    "description": "What policies on trial would decide otherwise; null without a trial.",
                },
                "unknown": {"type": "array", "items": _TEXT},
                "sentences": {"type": "array", "items": _object({"topic": _TEXT, "text": _TEXT})},
            },
            optional=("memory", "guarantee_from", "since", "asked_again_in_seconds", "obstacle"),
            description="In `sentences`, the same for a person: what to print, in this order, below a heading for each topic. Figures of a "
            "plugin that is not enabled are missing, such as `memory` without the plugin balloon.",
        ),
    }


_OF_A_GUEST: Final[Mapping[str, str]] = {
    "decisions": "Decision",
    "revisions": "Revision",
    "outcomes": "Outcome",
    "problems": "CycleProblem",
}
