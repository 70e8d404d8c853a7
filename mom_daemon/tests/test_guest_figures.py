"""Figures of guests: their list, order and values."""

from collections.abc import Mapping

import pytest

from mom_core import Declarations, EngineState, FieldSpec, GuestColumn, Report, Scope, Unit, Value
from mom_core.testing import snapshot
from mom_daemon import guest_columns
from mom_daemon.report_models import report_document


def declared(*names: str, columns: tuple[GuestColumn, ...] = ()) -> Declarations:
    fields = {(Scope.GUEST, name): FieldSpec(name, Unit.KIB, Scope.GUEST, "") for name in names}
    return Declarations(fields, guest_columns=columns)


def names(declarations: Declarations) -> list[str]:
    return [column.name for column in guest_columns(declarations)]


def fails(fields: Mapping[str, Value]) -> Value:
    raise SystemError("lame")


def test_a_plugin_adds_columns_of_its_fields_and_the_first_of_a_name_counts() -> None:
    mine, other = (GuestColumn("size", ("mine",), Unit.COUNT, about, 1) for about in ("mine", "other"))
    found = guest_columns(declared("mine", "balloon_cur", columns=(mine, other, GuestColumn("gone", ("gone",), Unit.TEXT, ""))))
    assert [(column.name, column.about) for column in found if column.name in {"size", "gone"}] == [("size", "mine")]


def test_remarks_of_all_are_joined_and_come_last() -> None:
    given = tuple(GuestColumn("remarks", (name,), Unit.TEXT, name) for name in ("a", "b", "c"))
    *_, remarks = guest_columns(declared("balloon_cur", "a", "b", "c", columns=given))
    assert remarks.name == "remarks"
    assert remarks.value({"a": "it sleeps", "b": "it sleeps", "c": "it lies"}) == "it sleeps; it lies"
    assert remarks.value({}) is None


@pytest.mark.parametrize(
    ("name", "fields", "expected"),
    [
        ("used", {"balloon_cur": 10, "mem_usable": 4}, 6),
        ("used", {"balloon_cur": 10, "mem_usable": 12}, 0),
        ("used", {"balloon_cur": 10}, None),
        ("swap", {"swap_in": 1, "swap_out": 2}, 3),
        ("swap", {}, None),
        ("pressure", {"guest_psi_memory_some_avg10": 0.0, "host_psi_memory_some_avg10": 7.0}, 0.0),
        ("pressure", {"host_psi_memory_some_avg10": 7.0}, 7.0),
        ("huge pages", {"host_huge_pages": 512, "rss": 2048}, 25.0),
        ("huge pages", {"host_huge_pages": 2049, "rss": 2048}, 100.0),
        ("huge pages", {"host_huge_pages": 512, "rss": 0}, None),
        ("huge pages", {"rss": 2048}, None),
    ],
)
def test_what_is_made_of_several_fields_is_unknown_rather_than_nothing(name: str, fields: dict[str, Value], expected: Value) -> None:
    declarations = declared("balloon_cur", "mem_usable", "swap_in", "guest_psi_memory_some_avg10", "host_huge_pages")
    (column,) = [one for one in guest_columns(declarations) if one.name == name]
    assert column.value(fields) == expected


def test_a_document_has_the_values_of_columns_whichever_fields_are_asked_for_and_unknown_where_one_fails() -> None:
    odd = GuestColumn("odd", ("balloon_cur",), Unit.COUNT, "", 99, made=fails)
    declarations = declared("balloon_cur", "mem_usable", "mem_unused", columns=(odd,))
    fields = {"balloon_cur": 10, "mem_usable": 4, "mem_unused": 7}
    properties: dict[str, Value] = {"flavor": "m1.small", "pid": 7, "tags": ("db",)}
    report = Report(1, 0.0, "enforce", snapshot(guests={"a": fields}, properties={"a": properties}), (), (), (), (), (), 0.1)
    document = report_document(report, declarations, EngineState(), 5.0, fields=["mem_unused"])
    assert [(one["name"], one["key"]) for one in document["guest_columns"]] == [
        ("size", "balloon_cur"), ("used", "column.used"), ("usable", "mem_usable"), ("odd", "column.odd"),
    ]  # fmt: skip
    (row,) = document["guests"]["rows"]
    assert dict(zip(document["guests"]["columns"], row, strict=True)) == {
        "id": "a", "name": "a", "blocked": {}, "properties": {"flavor": "m1.small", "tags": ["db"]}, "balloon_cur": 10,
        "column.used": 6, "mem_usable": 4, "column.odd": None, "mem_unused": 7,
    }  # fmt: skip
