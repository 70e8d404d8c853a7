"""What changes in the report's document from one cycle to the next: told by the event stream, and put together again by readers."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final, NotRequired, TypeVar, cast

from typing_extensions import TypedDict  # pydantic's, for Pythons before 3.12

from mom_daemon import CycleModel, OutcomeModel, ReportDocument, described

Item = TypeVar("Item")


@described
class GuestChangesModel(TypedDict):
    """How the table of guests differs."""

    rows: list[list[Any]]
    """Those that are new or not what they were: for the guest of that id, this row from now on."""
    gone: list[str]
    """Ids of guests that are there no more."""


@described
class OutcomeChangesModel(TypedDict):
    """How outcomes differ."""

    items: list[OutcomeModel]
    """Those that are new or not what they were: for the entity and the control, this outcome from now on."""
    gone: list[tuple[str, str]]
    """Entity's id and control of what is decided no more."""


@described
class ReportChanges(TypedDict):
    """The difference from the document before: each member of `GET /v1/report` that does, whole, but for `guests` and `outcomes`, of which
    only the rows and outcomes that differ are told. `cycle` is always there."""

    guests: NotRequired[GuestChangesModel]
    outcomes: NotRequired[OutcomeChangesModel]
    cycle: CycleModel


_KEYED: Final = ("guests", "outcomes")


def changes_between(before: ReportDocument, now: ReportDocument) -> Mapping[str, Any] | None:
    """The changes that make of the one the other, as `ReportChanges`; None where guests have other columns, and all of it is to be told."""
    if before["guests"]["columns"] != now["guests"]["columns"]:
        return None
    changes: dict[str, Any] = {
        name: value for name, value in now.items() if name == "cycle" or (name not in _KEYED and value != before.get(name))
    }
    rows, gone = _differing(before["guests"]["rows"], now["guests"]["rows"], _guest)
    if rows or gone:
        changes["guests"] = {"rows": rows, "gone": gone}
    items, gone = _differing(before["outcomes"], now["outcomes"], _decided)
    if items or gone:
        changes["outcomes"] = {"items": items, "gone": gone}
    return changes


def with_changes(before: ReportDocument, changes: Mapping[str, Any]) -> ReportDocument:
    """The document after these changes."""
    now = {**before, **{name: value for name, value in changes.items() if name not in _KEYED}}
    if "guests" in changes:
        rows = _joined(before["guests"]["rows"], changes["guests"]["rows"], changes["guests"]["gone"], _guest)
        now["guests"] = {"columns": before["guests"]["columns"], "rows": sorted(rows, key=itemgetter(1, 0))}
    if "outcomes" in changes:
        gone = map(tuple, changes["outcomes"]["gone"])
        now["outcomes"] = _joined(before["outcomes"], changes["outcomes"]["items"], gone, _decided)
    return cast(ReportDocument, now)


_guest = itemgetter(0)
"""The id in a row of the table of guests."""


def _decided(one: OutcomeModel) -> tuple[str, str]:
    return one["entity"]["id"], one["control"]


def _differing(before: Sequence[Item], now: Sequence[Item], key: Callable[[Item], Hashable]) -> tuple[list[Item], list[Any]]:
    """The items that are not what they were, and the keys of those that are gone."""
    known = {key(one): one for one in before}
    differing = [one for one in now if known.pop(key(one), None) != one]
    return differing, list(known)


def _joined(before: Sequence[Item], items: Sequence[Item], gone: Any, key: Callable[[Item], Hashable]) -> list[Item]:
    known = {key(one): one for one in before}
    for name in gone:
        known.pop(name, None)
    return list((known | {key(one): one for one in items}).values())
