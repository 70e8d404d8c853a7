"""Changes in the report between two cycles."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final, NotRequired, TypeVar, cast

from typing_extensions import TypedDict

from mom_daemon.report_models import CycleModel, OutcomeModel, ReportDocument, described

Item = TypeVar("Item")


@described
class GuestChangesModel(TypedDict):
    """Changes in the table of guests."""

    rows: list[list[Any]]
    """New and changed rows; each replaces the row with the same id."""
    gone: list[str]
    """Ids of guests that no longer exist."""


@described
class OutcomeChangesModel(TypedDict):
    """Changes in the outcomes."""

    items: list[OutcomeModel]
    """New and changed outcomes; each replaces the outcome with the same entity and control."""
    gone: list[tuple[str, str]]
    """Entity's id and control of outcomes that no longer exist."""


@described
class ReportChanges(TypedDict):
    """Changed members of `GET /v1/report`, always with `cycle`. Members are complete, except `guests` and `outcomes`."""

    guests: NotRequired[GuestChangesModel]
    outcomes: NotRequired[OutcomeChangesModel]
    cycle: CycleModel


_KEYED: Final = ("guests", "outcomes")


def changes_between(before: ReportDocument, now: ReportDocument) -> Mapping[str, Any] | None:
    """Return the changes as `ReportChanges`; None if the guests' columns differ."""
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
    """Return the report after these changes."""
    now = {**before, **{name: value for name, value in changes.items() if name not in _KEYED}}
    if "guests" in changes:
        rows = _joined(before["guests"]["rows"], changes["guests"]["rows"], changes["guests"]["gone"], _guest)
        now["guests"] = {"columns": before["guests"]["columns"], "rows": sorted(rows, key=itemgetter(1, 0))}
    if "outcomes" in changes:
        gone = map(tuple, changes["outcomes"]["gone"])
        now["outcomes"] = _joined(before["outcomes"], changes["outcomes"]["items"], gone, _decided)
    return cast(ReportDocument, now)


_guest = itemgetter(0)


def _decided(outcome: OutcomeModel) -> tuple[str, str]:
    return outcome["entity"]["id"], outcome["control"]


def _differing(before: Sequence[Item], now: Sequence[Item], key: Callable[[Item], Hashable]) -> tuple[list[Item], list[Any]]:
    old = {key(item): item for item in before}
    differing = [item for item in now if old.pop(key(item), None) != item]
    return differing, list(old)


def _joined(before: Sequence[Item], items: Sequence[Item], gone: Any, key: Callable[[Item], Hashable]) -> list[Item]:
    joined = {key(item): item for item in before}
    for name in gone:
        joined.pop(name, None)
    return list((joined | {key(item): item for item in items}).values())
