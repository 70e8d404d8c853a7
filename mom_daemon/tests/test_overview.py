"""Plugins' parts of `mom status`, and the table of `mom guests`."""

from collections.abc import Mapping
from typing import Any

import pytest

from mom_core import Decision, Declarations, EngineState, Outcome, Problem, Report, Severity, Source, Status, Unit, load_config
from mom_core.testing import snapshot
from mom_daemon.look.status import _parts, show_guests
from mom_daemon.report_models import GuestColumnModel, report_document
from mom_daemon.report_words import guest_rows

NO_CPU = "CPU time cannot be limited: no cgroup controller"


def row(name: str, blocked: Mapping[str, str] | None = None) -> dict[str, Any]:
    return {"name": name, "blocked": blocked or {}, "remarks": [], "last": None}


def test_what_is_so_for_all_guests_is_said_once_below_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    show_guests([row("a", {"vcpu_quota": NO_CPU, "*": "the guest is paused"}), row("b", {"vcpu_quota": NO_CPU})], [])
    shown = capsys.readouterr().out
    assert shown.count(NO_CPU) == 1
    assert shown.splitlines()[-1] == f"all guests: {NO_CPU}"
    assert "the guest is paused" in shown


def column(name: str, unit: Unit, *, key: str = "", rank: int = 0) -> GuestColumnModel:
    return {"name": name, "key": key or name, "unit": unit, "about": "", "rank": rank, "mark_from": None}


def test_figures_stand_in_their_columns_and_empty_ones_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    columns = [
        column("size", Unit.KIB),
        column("reads", Unit.KIB_PER_SECOND),
        column("class", Unit.TEXT, key="kind"),
        column("odd", Unit.COUNT),
        column("remarks", Unit.TEXT, key="column.remarks"),
    ]
    of_a = {"size": 2048, "reads": 1.25, "kind": "gold", "odd": None, "column.remarks": "it sleeps"}
    show_guests([{**row("a"), **of_a}, row("b")], columns)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        ["guest", "size", "reads", "class", "remarks"],
        ["a", "2,048", "KiB", "1", "KiB/s", "gold", "it", "sleeps"],
        ["b", "?", "?", "?"],
    ]


PLUGIN = """
@staticmethod
@hookimpl
def mom_status(report):
    yield StatusPart("host", "{words}", {place})
    yield StatusPart("more", "of {words}", {place})
"""


def parts(*plugins: str) -> Mapping[str, str]:
    taken = snapshot()
    report = Report(1, taken.time, "enforce", taken, (), (), (), (), (), 0.01)
    return _parts(load_config({"plugins": {name: {} for name in plugins}}), report)


def test_parts_of_plugins_are_joined_by_heading_and_a_broken_plugin_is_remarked_upon(
    only_shelf, capsys: pytest.CaptureFixture[str]
) -> None:
    """The plugins sim and host both collect the host's memory."""
    for name, words, place in (("late", "late", 60), ("early", "early", 20), ("other", "early", 20)):
        only_shelf.add_plugin(name, PLUGIN.format(words=words, place=place), before="from mom_daemon import StatusPart")
    only_shelf.add_plugin("odd", "@staticmethod\n@hookimpl\ndef mom_status(report):\n    raise SystemExit(3)\n")
    assert parts("late", "odd", "early", "other") == {"host": "early, late", "more": "of early, of late"}
    assert "mom_status failed: SystemExit: 3" in capsys.readouterr().err


def test_what_is_wrong_with_a_guest_is_among_its_remarks_and_what_was_done_last_is_not_said_twice() -> None:
    taken = snapshot(guests={"a": {}, "b": {}})
    a, b = (guest.entity for guest in taken.guests.values())
    problems = [
        Problem(Source("balloon"), "its guarantee is unclear: 1 parsec", a, Severity.ERROR),
        Problem(Source("libvirt"), "it tells nothing", a, Severity.WARNING),
        Problem(Source("60_mine"), "balloon_target is not set: it is away", b),
    ]
    failed = Outcome(Decision(b, "balloon_target", 5), None, None, Status.FAILED, "it is away")
    report = Report(1, 0.0, "enforce", taken, (), (), [failed], problems, (), 0.1)
    rows = guest_rows(report_document(report, Declarations(), EngineState(), 5.0))
    assert [row["remarks"] for row in rows] == [["its guarantee is unclear: 1 parsec", "it tells nothing"], []]
