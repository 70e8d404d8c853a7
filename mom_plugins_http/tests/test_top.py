"""`mom top` without a terminal: lines of the screen, keys, and refusals."""

import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from served_mom import Served

from mom_core import Condition, Declarations, EngineState, PluginReport, Problem, Report, Severity, Source, Verdict
from mom_core.testing import snapshot
from mom_daemon import NotRunning
from mom_daemon.report_models import REPORT_FORMAT, GuestColumnModel, ReportDocument, report_document
from mom_devkit import wait_until
from mom_plugins_http.cli.client import Client
from mom_plugins_http.top.picture import FeedState, Looking, Picture, Row, picture_of
from mom_plugins_http.top.screen import brief_verdict, screen
from mom_plugins_http.top.terminal import shortened
from mom_plugins_http.top.verb import Feed

NOTHING_NEW = Report(1, 0.0, "enforce", snapshot(), (), (), (), (), [PluginReport("sim", PluginReport.State.OK, {}, 1, 0)], 0.1)


def column(name: str, unit: str = "KiB") -> GuestColumnModel:
    return {"name": name, "key": name, "unit": unit, "about": f"its {name}", "rank": 0, "mark_from": None}


def picture_with(report: Report = NOTHING_NEW, **members: object) -> Picture:
    document = report_document(report, Declarations(), EngineState(), 5.0)
    return picture_of(cast(ReportDocument, {**document, "version": "1", **members}))


def picture(*rows: Row, **members: object) -> Picture:
    return replace(picture_with(NOTHING_NEW, **members), columns=[column("size"), column("max")], rows=rows)


def guests(columns: dict[str, str], *rows: list[Any]) -> Picture:
    """Return a picture of guests: the columns' units, and each guest's name and values."""
    table = {"columns": ["id", "name", "blocked", *columns], "rows": [[name, name, {}, *values] for name, *values in rows]}
    return picture_with(guests=table, guest_columns=[column(name, unit) for name, unit in columns.items()])


def looking_at(view: str, marked: str = "") -> Looking:
    look = Looking()
    look.view, look.marked = view, marked
    return look


def text_of(look: Looking, shown: Picture | None, size: tuple[int, int] = (80, 24), now: float | None = None, **known: Any) -> list[str]:
    lines = screen(look, FeedState(**known), shown, size, time.monotonic() if now is None else now)
    return ["".join(text for text, _ in line) for line in lines]


def test_a_name_cannot_write_on_the_terminal() -> None:
    table = {"columns": ["id", "name", "blocked", "kind"], "rows": [["1", "a\x1b[2Jb\nc", {"x": "\x1b]0;title\x07"}, "\x1b[1m"]]}
    lines = text_of(Looking(), picture_with(guests=table, guest_columns=[column("kind", "text")]))
    assert not any("\x1b" in line or "\n" in line or "\x07" in line for line in lines)


def test_names_are_in_the_order_of_the_numbers_in_them_and_the_foot_says_which_of_how_many_are_seen() -> None:
    look = Looking()
    shown = guests({}, *([name] for name in ("build-10", "build-2", "Build-1", "10", "9", *(f"z{n}" for n in range(30)))))
    assert [row.name for row in look.listed(shown)][:6] == ["9", "10", "Build-1", "build-2", "build-10", "z0"]
    assert text_of(look, shown)[-1].startswith("1 to 18 of 35, ")
    for key in ("page down", "down"):
        look.press(key, look.listed(shown), 18)
    assert text_of(look, shown)[-1].startswith("2 to 19 of 35, ")


def test_guests_that_suffer_come_first_and_the_list_stays_at_its_beginning_until_somebody_moves() -> None:
    look, units = Looking(), {"suffers": "text", "killed_lately": "count"}
    well: list[list[Any]] = [[f"g{n}", "", 0] for n in range(40)]
    suffering = guests(units, *well, ["silent", None, None], ["slow", "swapping", 0], ["torn", "2 killed", 2], ["worst", "3 killed", 3])
    assert [row.name for row in look.listed(suffering)][:4] == ["worst", "torn", "slow", "g0"]
    lines = text_of(look, suffering)
    assert "3 suffer" in lines[3]
    assert "sufferers first" in lines[-1]
    assert lines[5].startswith("worst"), "though nothing is marked"
    assert text_of(look, guests(units, *well, ["worst", "", 0]))[5].startswith("g0"), "it is well again"
    look.press("down", look.listed(suffering), 18)
    assert look.marked == "torn"
    for key, first in (("r", "g0"), ("s", "worst"), (">", "g0")):
        look.press(key, look.listed(suffering), 18)
        assert look.listed(suffering)[0].name == first


def test_problems_and_sick_plugins_are_counted_above_the_guests_and_told_in_their_view() -> None:
    taken = snapshot(guests={f"vm{number:03}": {} for number in range(200)})
    silent = [
        Problem(Source("libvirt"), "it tells nothing", guest.entity, Severity.WARNING, "install a driver")
        for guest in taken.guests.values()
    ]
    sick = PluginReport("libvirt", PluginReport.State.SET_ASIDE, {}, 9, 3, "away", 20.0)
    report = replace(NOTHING_NEW, mode="observe", snapshot=taken, problems=[*silent, Problem(Source("host"), "no swap")], plugins=[sick])
    lines = text_of(looking_at("problems"), picture_with(report), (132, 40))
    assert "only observes" in lines[0]
    assert lines[3].endswith("  2 problems (!)  plugins: libvirt set-aside")
    assert any(
        line.startswith("warning: libvirt: 200 guests (vm000, vm001, vm002 and 197 more): it tells nothing (install a") for line in lines
    )
    assert any(line.startswith("libvirt") and "tried again in 20 s, 3 of 9 calls failed, last: away" in line for line in lines)


class Gone(Client):
    """Client of a mom that has just ended."""

    asked = 0

    def get(self, path: str) -> object:
        self.asked += 1
        raise NotRunning("no process serves it")


def test_a_mom_that_goes_away_while_a_guest_is_shown_is_not_asked_all_the_time(tmp_path: Path) -> None:
    client = Gone(tmp_path / "mom.sock")
    with closing(Feed(client, lambda: None)) as feed:
        wait_until(lambda: followed(feed, "vm").lost_at, "it is asked")
        until = time.monotonic() + 0.3
        wait_until(lambda: followed(feed, "vm") and time.monotonic() > until)
        assert client.asked == 1


@given(
    st.lists(st.sampled_from(["up", "down", "page down", "end", "home", "enter", "escape", "/", "x", "r", ">", "d", "!", "tab", "?", "p"]))
)
def test_no_keys_lead_to_a_screen_that_cannot_be_drawn(keys: list[str]) -> None:
    for shown in (picture(*[Row(str(n), f"g{n}") for n in range(40)]), None):
        look = Looking()
        for key in keys:
            look.press(key, look.listed(shown), 18)
            assert len(text_of(look, shown, trouble=("waiting for mom", ""))) <= 24


def test_late_cycles_and_lost_connections_are_said_whole_on_a_narrow_terminal() -> None:
    shown, now = picture(Row("1", "web-01")), time.monotonic()
    assert any("has not finished a cycle for" in line for line in text_of(Looking(), shown, now=shown.received + 17))
    trouble = ("mom did not answer on /run/mom/mom.sock within 5 s", "it has hung, or is suspended; `mom status` shows the last state")
    lines = text_of(Looking(), shown, now=now, trouble=trouble, lost_at=now - 5)
    said = " ".join(line.strip() for line in lines[1:3])
    assert f"NOT REACHED 5 s: {'; '.join(trouble)}" in said
    assert max(map(len, lines)) <= 80
    assert any("Mom did not answer" in line for line in text_of(Looking(), None, trouble=trouble))


def act(who: str, text: str, about: int = 1) -> dict[str, object]:
    source = {"name": "50_balloon", "line": 463, "column": 37} if about else None
    first = [{"scope": "guest", "id": who, "name": who}] if about else []
    status = "applied" if about else ""
    return {"time": 0.0, "about": about, "first": first, "who": who, "text": text, "status": status, "source": source}


SHRUNK = "shrunk in 5 steps, 4.00 → 1.86 GiB: the host is full, so the guest's headroom for bursts was taken"


def test_what_mom_did_is_told_in_sentences_with_where_it_was_decided_on_a_narrow_terminal_too() -> None:
    acts = [act("a-guest-with-a-name-of-many-letters", SHRUNK, about=3), act("policies", "set 61_try, by root", 0)]
    text = " ".join(line.strip() for line in text_of(looking_at("changes"), replace(picture(), acts=acts)))
    assert f"a-guest-with…any-letters and 2 more {SHRUNK} (50_balloon:463:37)" in text
    assert "policies set 61_try, by root" in text


def test_long_names_of_one_kind_can_be_told_apart() -> None:
    rows = [Row(f"id{n}", f"ci-runner-customer-a-{n:03}") for n in range(8)]
    names = [line.split()[0] for line in text_of(Looking(), picture(*rows), (40, 24)) if line.startswith("ci-")]
    assert len(set(names)) == 8
    assert names[3] == "ci-run…a-003"
    assert cell_len(shortened("数据库服务器生产环境第一号主节点备份节点", 12)) <= 12


@pytest.mark.parametrize(("available", "told"), [(3, "available, 4.00G too little (7.00G wanted)"), (9, "available, 7.00G wanted")])
def test_a_narrow_terminal_says_how_much_is_wanted_and_how_much_is_missing(available: int, told: str) -> None:
    fields = {"mem_available": 96 << 20, "mem_really_available": available << 20, "mem_watermark_high": 7 << 20}
    line = text_of(Looking(), picture(host={"name": "h", "fields": fields}))[1]
    assert line.endswith(told)
    assert cell_len(line) < 80


def feeding(served: Served) -> closing[Feed]:
    return closing(Feed(Client(served.path, 60), lambda: None, 0.05))


def followed(feed: Feed, guest: str | None = None) -> FeedState:
    feed.follow(guest)
    return feed.state


def test_each_cycle_is_a_new_picture_and_a_guest_is_explained_or_said_to_be_gone(served: Served) -> None:
    with feeding(served) as feed:
        wait_until(lambda: followed(feed).picture, lambda: feed.state.trouble)
        for _ in range(3):
            served.engine.cycle()
        shown = wait_until(lambda: seen if (seen := followed(feed).picture) and seen.report["cycle"]["number"] == 4 else None)
        assert len(shown.rows) == 24
        guest = shown.rows[0]
        drill = wait_until(lambda: followed(feed, guest.id).drill)
        assert drill.explanation["guest"]["name"] == guest.name
        assert all(act["who"] == guest.name for act in drill.acts)
        wait_until(
            lambda: (gone := followed(feed, "nobody").drill) and gone.trouble.startswith("there is no guest nobody. The guest may have")
        )
        unlisted = Verdict([Condition("guests", "the guests are unknown: no answer", plugins=("core",))])
        served.tell(replace(NOTHING_NEW, number=9, verdict=unlisted))
        wait_until(lambda: (unknown := followed(feed, "nobody").drill) and unknown.trouble == "the guests are unknown: no answer")


def test_a_mom_of_another_version_that_still_runs_is_not_misread(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mom_plugins_http.top.verb.REPORT_FORMAT", REPORT_FORMAT + 1)
    with feeding(served) as feed:
        wait_until(lambda: followed(feed).lost_at, lambda: feed.state.trouble)
        assert feed.state.trouble == ("mom and `mom top` have different versions", "restart the daemon after an upgrade")
        assert feed.state.picture is None


WHY = "guests are promised 69.9 GiB, but this host can promise only 60.8 GiB"
CURE = "move guests away, reduce their guarantees, or give the host more memory; start no more"
FULL = Condition("memory", "the host is full: 0 KiB of 60.8 GiB available", WHY, CURE, lasted=185.0)


def with_conditions(*conditions: Condition) -> Picture:
    return replace(picture_with(replace(NOTHING_NEW, verdict=Verdict(conditions))), rows=[Row(f"id{n}", f"vm{n}") for n in range(100)])


@pytest.mark.parametrize("size", [(80, 24), (40, 10)])
def test_a_full_host_is_told_first_with_since_when_why_and_what_to_do(size: tuple[int, int]) -> None:
    lines = text_of(Looking(), with_conditions(FULL), size)
    assert len(lines) == size[1]
    assert cell_len(lines[0]) <= size[0]
    assert lines[0].startswith("WRONG: the host is full")
    said = " ".join(" ".join(lines).split())
    wanted = ("the host is full: 0 KiB of 60.8 GiB available, for 3 min 5 s", f"why: {WHY}", f"→ {CURE}") if size[1] > 20 else ()
    assert [part for part in wanted if part not in said] == []
    assert any("vm0" in line for line in lines), "the guests are still there"
    assert " ".join(text_of(looking_at("problems"), with_conditions(FULL))).count("start no more") == 1


def test_each_condition_has_a_line_on_the_smallest_usual_terminal() -> None:
    killed = replace(FULL, name="killed", message="24 programs killed in 10 min: " + "ci-runner-customer, " * 5, over=12.0)
    suffer = replace(killed, severity=Severity.WARNING, message="8 of 40 guests suffer: " + "ci-runner-customer " * 5)
    shown = with_conditions(FULL, killed, suffer)
    told = ["".join(text for text, _ in line) for line in brief_verdict(shown, 80, 24)]
    starts = ["WRONG: the host is full: 0", "WRONG: 24 programs killed in 10", "warning: 8 of 40 guests suffer: ci", "  why: g", "  → move"]
    assert [line[: len(start)] for line, start in zip(told, starts, strict=True)] == starts
    assert all(cell_len(line) < 80 for line in told)
    assert brief_verdict(with_conditions(killed), 200, 24)[0][0][0].endswith("for 3 min 5 s, over for 12 s")


def test_what_is_unknown_is_neither_none_nor_zero() -> None:
    unlisted = replace(with_conditions(Condition("guests", "the guests are unknown: no answer", plugins=("core",))), rows=())
    lines = text_of(Looking(), unlisted)
    assert "the guests are unknown: no answer" in lines
    assert any(line.startswith("the guests are unknown, nothing changed") for line in lines)
    assert not any("no guests" in line or "0 guests" in line for line in lines)
    assert "there are no guests on this host" in text_of(Looking(), picture())
    sizes = guests({"size": "KiB", "max": "KiB"}, ["a", None, 4096], ["b", None, None])
    assert any(line.startswith("2 guests with - of 4M") for line in text_of(Looking(), sizes))


@pytest.mark.parametrize("controls", [["cpu_limit", "balloon_target"], ["balloon_target", "cpu_limit"]])
def test_in_observe_mode_the_target_is_the_one_that_mom_would_set_whatever_else_it_would_do(controls: list[str]) -> None:
    table = {"columns": ["id", "name", "blocked", "target"], "rows": [["1", "web-1", {}, None]]}
    entity = {"scope": "guest", "id": "1", "name": "web-1"}
    outcomes = [{"entity": entity, "control": name, "value": 4096, "status": "observed", "reason": "", "source": ""} for name in controls]
    (row,) = picture_with(guests=table, guest_columns=[column("target")], outcomes=outcomes).rows
    assert row.values["target"] == 4096
