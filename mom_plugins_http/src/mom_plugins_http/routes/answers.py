"""Parts of answers that several routes share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from itertools import islice
from typing import Any, Final, Generic, TypeVar

from typing_extensions import TypedDict

from mom_core import HOST_ID, Declarations, Entity, Guest, MomError, PluginContext, Scope, Source, first_names
from mom_daemon import find_guest
from mom_daemon.report_models import Seconds, Time
from mom_plugins_http.routes.published import CycleSample, Published, ReportView
from mom_plugins_http.routes.route import ApiCall
from mom_plugins_http.server.problems import ProblemError

Item = TypeVar("Item")
Service = TypeVar("Service")
Result = TypeVar("Result")


class Items(TypedDict, Generic[Item]):
    """List of items."""

    items: list[Item]


class PastModel(TypedDict):
    """Past cycle."""

    cycle: int
    time: Time
    duration_seconds: Seconds


def as_object(value: object) -> Any:
    """Return a service's data class as JSON content, with all members."""
    if isinstance(value, Entity | Source):
        return value._asdict()
    if is_dataclass(value) and not isinstance(value, type):
        return {member.name: as_object(getattr(value, member.name)) for member in fields(value)}
    return [as_object(item) for item in value] if isinstance(value, list | tuple) else value


def offered(context: PluginContext, kind: Callable[..., Service], lack: str, plugin: str) -> Service:
    """Return the service that an enabled plugin offers. Raise `ProblemError` if none does.

    :param lack: end of the error message "no enabled plugin …", such as `has policies`
    """
    service = context.service(kind)
    if service is None:
        raise ProblemError(409, f"no enabled plugin {lack}", f"enable the {plugin} plugin in the configuration")
    return service


def guest_of(view: ReportView, name: str) -> Guest:
    """Return the guest with this id or name. Raise `ProblemError` without such a guest."""
    try:
        return find_guest(listed_guests(view), name)
    except MomError as error:
        raise ProblemError(404, error.message, f"{error.hint}; GET /v1/guests lists all guests, with their ids and names") from None


def listed_guests(view: ReportView) -> Mapping[str, Guest]:
    """Return the guests, keyed by id. Raise `ProblemError` if their list is unknown."""
    if unknown := view.report.guests_unknown:
        raise ProblemError(503, unknown.message, unknown.cure, headers={"retry-after": "1"})
    return view.report.snapshot.guests


def about(call: ApiCall, view: ReportView, items: Sequence[Item], entity_of: Callable[[Item], Entity | None]) -> Sequence[Item]:
    """Return the items about the guest or host that the query names; all items if it names none."""
    if (name := call.query.guest) is None:
        return items
    identity = HOST_ID if name == HOST_ID else guest_of(view, name).id
    return [item for item in items if (entity := entity_of(item)) is not None and entity.id == identity]


def past_cycles(published: Published, call: ApiCall, values: Callable[[CycleSample], Mapping[str, object] | None]) -> object:
    """Return past cycles, newest first. `values` returns a cycle's members, except number, time and duration; None omits the cycle."""
    samples = ((sample, values(sample)) for sample in reversed(published.history()))
    items = ({"cycle": one.number, "time": one.time, "duration_seconds": one.duration, **more} for one, more in samples if more is not None)
    return {"items": list(islice(items, call.query.limit))}


def queried_fields(call: ApiCall, declarations: Declarations, of: Scope = Scope.GUEST) -> tuple[str, ...] | None:
    """Return the fields in the query, sorted; None for all fields. Raise `ProblemError` for an undeclared field."""
    if call.query.fields is None:
        return None
    names = [name.strip() for name in call.query.fields.split(",") if name.strip()]
    declared = [name for scope, name in declarations.fields if scope is of]
    unknown = [name for name in dict.fromkeys(names) if name not in declared and not name.endswith("?")]
    if not unknown:
        return tuple(sorted({name.removesuffix("?") for name in names} & set(declared)))
    near = [alike[0] for name in unknown[:_SHOWN_UNKNOWN] if (alike := get_close_matches(name[:100], declared, 1, 0.6))]
    meant = f"did you mean {', '.join(near)}? " if near else ""
    noun = "field" if len(unknown) == 1 else "fields"
    message = f"no plugin declares the {of} {noun} {first_names(unknown, _SHOWN_UNKNOWN)}"
    raise ProblemError(400, message, f"{meant}GET /v1/fields lists all fields")


_SHOWN_UNKNOWN: Final = 5
