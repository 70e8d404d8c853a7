"""`mom status` and `mom guests`: parts of plugins, tables, and problems of many guests."""

from collections.abc import Mapping
from typing import Any

import pytest

from mom_core import (
    Decision,
    Declarations,
    EngineState,
    Entity,
    Outcome,
    Problem,
    Report,
    Scope,
    Severity,
    Source,
    Status,
    Unit,
    load_config,
)
from mom_core.testing import snapshot
from mom_daemon.look.status import _parts, show_guests
from mom_daemon.report_models import GuestColumnModel, report_document
from mom_daemon.report_words import common_problems, guest_rows

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


NO_STATISTICS = "it tells no statistics"


def of(name: str | None, message: str = NO_STATISTICS, hint: str = "", since: float = 100.0, cycles: int = 5) -> Problem:
    entity = None if name is None else Entity(Scope.GUEST, f"id-{name}", name)
    return Problem(Source("libvirt"), message, entity, Severity.WARNING, hint, since=since, cycles=cycles)


@pytest.mark.parametrize(
    ("names", "who"),
    [
        (["a"], "a"),
        (["a", "b"], "2 guests (a, b)"),
        (["a", "b", "c", "d"], "4 guests (a, b, c and 1 more)"),
        (["a", "b", "c", "d", "e"], "5 guests (a, b, c and 2 more)"),
    ],
)
def test_those_who_have_it_are_counted_and_the_first_are_named(names: list[str], who: str) -> None:
    (one,) = common_problems([of(name) for name in names])
    assert one.who == who
    assert [entity.name for entity in one.about] == names
    assert one.text == f"libvirt: {who}: {NO_STATISTICS}"


def test_it_stands_since_the_first_had_it_and_was_seen_as_often_as_with_whom_it_was_most() -> None:
    (one,) = common_problems([of("a", since=160.0, cycles=2), of("b", since=100.0, cycles=1), of("c", since=130.0, cycles=7)])
    assert (one.since, one.cycles) == (100.0, 7)
    assert one.lasted(190.0) == "for 1 min 30 s, in 7 cycles"
    assert common_problems([of("a", cycles=1)])[0].lasted(0.0) == "for less than 1 s, in 1 cycle", "also when the clock has jumped"


def test_names_from_outside_cannot_write_on_a_terminal() -> None:
    (one,) = common_problems([of("a\x1b[2J\n", "said\x07", "do\x1b]0;x\x07"), of("b\x9b", "said\x07", "or\n")])
    assert one.text.isprintable(), one.text
    assert len(common_problems([of("n" * 10_000, "m" * 10_000, "h" * 10_000)])[0].text) < 2000
