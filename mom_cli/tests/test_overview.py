"""What plugins add to `mom status` and the table of `mom guests`."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from mom_cli.status import _columns, _parts, _show_guests
from mom_core import Report, Unit, Value, load_config
from mom_core.testing import snapshot
from mom_toolkit import GuestColumn

NO_CPU = "CPU time cannot be limited: no cgroup controller"


def test_what_is_so_for_all_guests_is_said_once_below_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"name": "a", "blocked": {"vcpu_quota": NO_CPU, "*": "the guest is paused"}}, {"name": "b", "blocked": {"vcpu_quota": NO_CPU}}]
    _show_guests(rows)
    shown = capsys.readouterr().out
    assert shown.count(NO_CPU) == 1
    assert shown.splitlines()[-1] == f"all guests: {NO_CPU}"
    assert "the guest is paused" in shown


def test_what_is_so_for_a_single_guest_stands_beside_it(capsys: pytest.CaptureFixture[str]) -> None:
    _show_guests([{"name": "a", "blocked": {"vcpu_quota": NO_CPU}}])
    assert capsys.readouterr().out.splitlines()[-1].endswith(NO_CPU)


def test_columns_of_plugins_stand_in_their_order_and_empty_ones_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    columns = [
        GuestColumn.of_field("has", "size", Unit.KIB, 20),
        GuestColumn.of_field("reads", "rate", Unit.KIB_PER_SECOND, 30),
        GuestColumn("class", lambda fields: str(fields.get("kind") or ""), 40, legend="what it is"),
        GuestColumn("odd", lambda fields: "", 50, legend="never seen"),
        GuestColumn("remarks", lambda fields: str(fields.get("why") or "")),
    ]
    _show_guests([{"name": "a", "blocked": {}, "size": 2048, "kind": "gold", "why": "it sleeps"}, {"name": "b", "blocked": {}}], columns)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        ["guest", "has", "reads", "class", "remarks"],
        ["a", "2,048", "KiB", "?", "gold", "it", "sleeps"],
        ["b", "?", "?"],
        ["class:", "what", "it", "is"],
    ]


def test_a_column_that_fails_is_unknown_and_the_others_stand(capsys: pytest.CaptureFixture[str]) -> None:
    def fails(fields: Mapping[str, Value]) -> str:
        raise SystemError("lame")

    _show_guests(
        [{"name": "a", "blocked": {}, "size": 2048}], [GuestColumn("bad", fails), GuestColumn.of_field("has", "size", Unit.KIB, 2)]
    )
    assert capsys.readouterr().out.splitlines()[1].split() == ["a", "?", "2,048", "KiB"]


PLUGIN = """
@staticmethod
@hookimpl
def mom_status(report):
    yield StatusPart("host", "{words}", {place})
    yield StatusPart("more", "of {words}", {place})

@staticmethod
@hookimpl
def mom_guest_columns():
    return [GuestColumn("has", lambda fields: "{words}", {place}), GuestColumn("remarks", lambda fields: "{words}")]
"""


def test_parts_of_plugins_are_joined_by_heading_in_their_order_and_a_broken_plugin_is_remarked_upon(
    only_shelf, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, place in (("late", 60), ("early", 20)):
        only_shelf.add_plugin(name, PLUGIN.format(words=name, place=place), before="from mom_toolkit import GuestColumn, StatusPart")
    only_shelf.add_plugin("odd", "@staticmethod\n@hookimpl\ndef mom_status(report):\n    raise SystemExit(3)\n")
    config = load_config({"plugins": {"late": {}, "odd": {}, "early": {}}})
    taken = snapshot()
    report = Report(1, taken.time, "enforce", taken, (), (), (), (), (), 0.01)
    assert _parts(config, report) == {"host": "early, late", "more": "of early, of late"}
    assert "mom_status failed: SystemExit: 3" in capsys.readouterr().err
    assert [(column.heading, column.text({})) for column in _columns(config, [])] == [
        ("remarks", "late"),
        ("remarks", "early"),
        ("has", "late"),
    ]


def test_usual_fields_have_their_columns_whichever_plugin_has_them(only_shelf, capsys: pytest.CaptureFixture[str]) -> None:
    only_shelf.add_plugin("quiet")
    rows = [{"name": "a", "blocked": {}, "balloon_cur": 524288, "balloon_max": 1048576, "mem_usable": 102400, "stats_age": 1.0}]
    _show_guests(rows, _columns(load_config({"plugins": {"quiet": {}}}), rows))
    heading, guest, *_ = capsys.readouterr().out.splitlines()
    assert heading.split() == ["guest", "has", "of", "usable", "statistics", "remarks"], "and nothing of what nobody collects"
    assert guest.split() == ["a", "512", "MiB", "1.00", "GiB", "100", "MiB", "1", "s", "old"]


def test_what_several_plugins_say_of_the_host_stands_there_once(only_shelf) -> None:
    """As the plugins sim and host do of the memory that both collect."""
    for name in ("one", "other"):
        only_shelf.add_plugin(name, PLUGIN.format(words="memory 1 GiB", place=10), before="from mom_toolkit import GuestColumn, StatusPart")
    only_shelf.add_plugin("later", PLUGIN.format(words="swapped", place=30), before="from mom_toolkit import GuestColumn, StatusPart")
    taken = snapshot()
    report = Report(1, taken.time, "enforce", taken, (), (), (), (), (), 0.01)
    parts = _parts(load_config({"plugins": {"one": {}, "other": {}, "later": {}}}), report)
    assert parts["host"] == "memory 1 GiB, swapped"


def test_without_plugins_nothing_is_known_of_the_host(only_shelf) -> None:
    only_shelf.add_plugin("quiet")
    taken = snapshot()
    report = Report(1, taken.time, "enforce", taken, (), (), (), (), (), 0.01)
    assert _parts(load_config({"plugins": {"quiet": {}}}), report) == {"host": "nothing is known of it"}
