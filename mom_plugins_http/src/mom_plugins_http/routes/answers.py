"""Answers that belong to one cycle: made when they are first asked for, and kept until the next one ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from itertools import islice
from typing import Any, Final, Generic, TypeVar

from typing_extensions import TypedDict  # pydantic's, for Pythons before 3.12

from mom_core import HOST_ID, Declarations, Entity, Guest, MomError, PluginContext, Scope, Source, first_names, printable
from mom_daemon import Seconds, Time, find_guest, guests_unknown, json_text
from mom_plugins_http.routes.published import CycleSample, Published, ReportView
from mom_plugins_http.routes.route import LIMIT, ApiCall, Parameter
from mom_plugins_http.server.problems import ProblemError

Item = TypeVar("Item")
Service = TypeVar("Service")
Result = TypeVar("Result")

FIELDS: Final = Parameter(
    "fields", "Only these fields of each guest, separated by commas; 400 for one that no plugin declares, unless it ends with `?`."
)


class Items(TypedDict, Generic[Item]):
    """A list."""

    items: list[Item]


class PastModel(TypedDict):
    """A past cycle."""

    cycle: int
    time: Time
    duration_seconds: Seconds


class CycleAnswers:
    """The newest report, for all routes that answer from it."""

    def __init__(self, context: PluginContext, published: Published) -> None:
        self.context = context
        self.published = published

    def view(self) -> ReportView:
        """The newest report. Raises `ProblemError` before the first."""
        view = self.published.view
        if view is None:
            raise ProblemError(503, "mom has not finished its first cycle yet", "ask again in a moment", headers={"retry-after": "1"})
        return view

    def kept(self, key: object, make: Callable[[ReportView], object]) -> bytes:
        """The answer of this name."""
        view = self.view()
        return view.answer(key, lambda: json_text(make(view)))


def as_object(value: object) -> Any:
    """A data class of a service with all that is in it, for JSON; entities and sources are objects, too."""
    if isinstance(value, Entity | Source):
        return value._asdict()
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: as_object(getattr(value, one.name)) for one in fields(value)}
    return [as_object(one) for one in value] if isinstance(value, list | tuple) else value


def offered(context: PluginContext, kind: Callable[..., Service], lack: str, plugin: str) -> Service:
    """The service that an enabled plugin offers. Raises `ProblemError` where none does.

    :param lack: what no plugin does then
    :param plugin: the one that would
    """
    found = context.service(kind)
    if found is None:
        raise ProblemError(409, f"no enabled plugin {lack}", f"enable the plugin {plugin} in the configuration")
    return found


def asked(
    context: PluginContext, kind: Callable[..., Service], question: Callable[[Service], Result], wrong: dict[str, str] | None = None
) -> Result | None:
    """The answer of a service; None where no plugin offers it, it knows nothing now, or it fails.

    :param wrong: takes in why one fails, by whose it is; else that is logged
    """
    found = context.service(kind)
    try:
        return None if found is None else question(found)
    except MomError:
        return None
    except BaseException as error:  # noqa: BLE001  # containment: it is another plugin's code, which may raise anything
        why = printable(f"{type(error).__name__}: {error}", 300)
        if wrong is None:
            context.log.warning("%s fails: %s", whose(context, kind), why)
        else:
            wrong[whose(context, kind)] = f"fails: {why}"
        return None


def answered(context: PluginContext, kind: Callable[..., object], question: Callable[[], Result]) -> Result:
    """The answer of a service that the client needs. Raises what the service raises on purpose, and `ProblemError` where it fails."""
    try:
        return question()
    except MomError:
        raise
    except BaseException as error:  # containment: it is another plugin's code, which may raise anything
        context.log.warning("%s failed", whose(context, kind), exc_info=error)
        raise ProblemError(500, f"{whose(context, kind)} failed", "mom's log says more; tell the authors of that plugin") from None


def whose(context: PluginContext, kind: Callable[..., object]) -> str:
    """A service, and whose code it is: which plugin offers it is not said anywhere."""
    return f"{getattr(kind, '__name__', kind)} of {type(context.service(kind)).__module__}"


def sound(kind: type[Result], given: object) -> Result:
    """What a service gave, if it is of its type. Raises `TypeError`."""
    if not isinstance(given, kind):
        raise TypeError(f"it gave a {type(given).__name__} that is no {kind.__name__}")
    return given


def found_guest(view: ReportView, wanted: str) -> Guest:
    """The guest of this id or name. Raises `ProblemError`."""
    try:
        return find_guest(known_guests(view), wanted)
    except MomError as error:
        raise ProblemError(404, error.message, f"{error.hint}; GET /v1/guests lists all, with their ids and names") from None


def known_guests(view: ReportView) -> Mapping[str, Guest]:
    """The guests. Raises `ProblemError` where the hypervisor did not list them: that there is none is not known."""
    guests = view.report.snapshot.guests
    if unknown := guests_unknown(guests, view.report.verdict):
        raise ProblemError(503, unknown.message, unknown.cure, headers={"retry-after": "1"})
    return guests


def about(call: ApiCall, view: ReportView, listed: Sequence[Item], entity: Callable[[Item], Entity | None]) -> Sequence[Item]:
    """Those that concern the guest, or the host, that is asked for, or all. Raises `ProblemError`."""
    if (wanted := call.query.get("guest")) is None:
        return listed
    identity = HOST_ID if wanted == HOST_ID else found_guest(view, str(wanted)).id
    return [one for one in listed if (whom := entity(one)) is not None and whom.id == identity]


def past_cycles(answers: CycleAnswers, call: ApiCall, values: Callable[[CycleSample], Mapping[str, object] | None]) -> object:
    """The newest first.

    :param values: what is told of a cycle beside when it was; None: it is left out
    """
    samples = ((sample, values(sample)) for sample in reversed(answers.published.history()))
    items = ({"cycle": one.number, "time": one.time, "duration_seconds": one.duration, **told} for one, told in samples if told is not None)
    return {"items": list(islice(items, call.number(LIMIT)))}


def wanted_fields(call: ApiCall, declarations: Declarations, of: Scope = Scope.GUEST) -> tuple[str, ...] | None:
    """The fields that are asked for, each once, in the order of their names: one list for all who want the same. None: all.

    Raises `ProblemError` for those that no plugin declares, with near ones.
    """
    wanted = call.query.get("fields")
    if wanted is None:
        return None
    names = [name.strip() for name in str(wanted).split(",") if name.strip()]
    known = [name for scope, name in declarations.fields if scope is of]
    unknown = [name for name in dict.fromkeys(names) if name not in known and not name.endswith("?")]
    if not unknown:
        return tuple(sorted({name for one in names if (name := one.removesuffix("?")) in known}))
    near = [alike[0] for name in unknown[:_SHOWN_UNKNOWN] if (alike := get_close_matches(name[:100], known, 1, 0.6))]
    meant = f"did you mean {', '.join(near)}? " if near else ""
    what = "field" if len(unknown) == 1 else "fields"
    message = f"no plugin declares the {of} {what} {first_names(unknown, _SHOWN_UNKNOWN)}"
    raise ProblemError(400, message, f"{meant}GET /v1/fields lists all")


_SHOWN_UNKNOWN: Final = 5
