"""What `mom report` says: in every form, of all and of one tenant, with what is unknown said to be unknown."""

import csv
import io
import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from mom_kvm import RecordedPoint
from mom_plugins_record.report.accounts_file import NAME, AccountsFile
from mom_plugins_record.report.command import report
from mom_plugins_record.report.hours import GivenBackSums, GuestHour, GuestSums, HarmSums, HostHour, SizeSpread, SoldSums, bin_of
from mom_plugins_record.report.minutes import MinuteRow
from mom_plugins_record.report.page import page
from mom_plugins_record.report.sizes import Fit, advise, growth_of, risk_of
from mom_plugins_record.report.summary import AccountedHours, summary_of

GIB = float(1 << 20)
FIRST = 490_008  # midnight, UTC
HOURS = 24 * 10


def size(gib: float, seconds: float = 3600.0, most: float | None = None) -> SizeSpread:
    return SizeSpread(gib * GIB * seconds, seconds, (gib if most is None else most) * GIB, {bin_of(gib * GIB): seconds})


def guest(hour: int, name: str, sold: float, uses: float, **more: Any) -> GuestHour:
    harm: dict[str, Any] = {"waiting_known_seconds": 3600.0, "promise_kept_seconds": 3590.0, "promise_broken_seconds": 10.0}
    harm |= {key: more.pop(key) for key in HarmSums.__slots__ if key in more}
    held = uses + 0.5
    known: dict[str, Any] = {
        "sold_kib": sold * GIB, "used": size(uses), "held_spread": {bin_of(held * GIB): 3600.0}, "harm": HarmSums(**harm),
        "kib_seconds": SoldSums(*(gib * GIB * 3600 for gib in (sold, sold, held, 0, 0, sold - held))),
        "given_back_kib_seconds": GivenBackSums(sweeps=0.25 * GIB * 3600),
    }  # fmt: skip
    return GuestHour(hour, name, name, "gold" if name.startswith("a") else "", "1", 3600.0, **{**known, **more})


def host(hour: int, **more: Any) -> HostHour:
    known: dict[str, Any] = {
        "seconds": 3600.0, "cycles": 720, "guests_most": 3, "used": size(12 + (hour - FIRST) / 100, most=14), "total_kib": 32 * GIB,
        "wanted_kib": 2 * GIB, "sold_most_kib": 16 * GIB, "guests": GuestSums(SoldSums(held=8.7 * GIB * 3600)),
    }  # fmt: skip
    return HostHour(**{"hour": hour, "name": "kvm-07", "began": hour * 3600.0, "ended": (hour + 1) * 3600.0, **known, **more})


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("accounts") / NAME
    file = AccountsFile(path, keep=400 * 86_400.0, largest=1 << 30)
    file.open()
    file.write(
        (host(hour), [guest(hour, "acme-db", 8, 1), guest(hour, "acme-<b>web", 4, 3), guest(hour, "bank-1", 4, 3.2, waited_seconds=60.0)])
        for hour in range(FIRST, FIRST + HOURS)
    )
    return path


@pytest.fixture
def accounts(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(written, tmp_path))


def run(*arguments: object, width: int | None = None) -> Result:
    return CliRunner(env={"COLUMNS": str(width)} if width else None).invoke(report, [str(one) for one in arguments])


def told(*arguments: object) -> dict[str, Any]:
    done = run(*arguments, "--json")
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_sums_averages_and_worth_are_those_of_the_accounts(accounts: Path) -> None:
    found = told(accounts, "--by", "guest")
    assert (found["from"], found["to"]) == ("2025-11-25T00:00:00Z", "2025-12-05T00:00:00Z")
    assert found["seen_hours"] == HOURS
    whole = found["whole"]
    assert (whole["sold_gib"], whole["held_gib"], whole["used_gib"]) == pytest.approx((16, 8.7, 7.2))
    assert whole["given_back"]["at_least_gib_hours"] == pytest.approx(0.75 * HOURS)
    assert whole["given_back"]["by_ksm_gib_hours"] is None, "no plugin has told of KSM"
    assert found["worth"]["gib_months"] == pytest.approx(0.75 * HOURS / 730, rel=1e-4)
    assert found["worth"]["hosts"] == pytest.approx(0.75 / 32, rel=1e-4)
    assert found["worth"]["money"] is None
    assert (whole["promise_kept_hours"], whole["promise_broken_seconds"]) == pytest.approx((3 * 3590 * HOURS / 3600, 30 * HOURS))
    assert whole["killed"] is None


def test_a_price_in_the_settings_makes_money_of_it(accounts: Path, tmp_path: Path) -> None:
    config = tmp_path / "mom.yaml"
    config.write_text(f"plugins: {{record: {{path: {tmp_path}, price: 3.5, currency: EUR}}}}\n")
    worth = told("-c", config)["worth"]
    assert worth["money"] == pytest.approx(3.5 * worth["gib_months"], rel=1e-4)
    assert worth["currency"] == "EUR"
    assert "EUR" in run("-c", config).output


def test_each_guest_is_judged_by_what_it_was_seen_to_use(accounts: Path) -> None:
    sizes = {line["name"]: line["size"] for line in told(accounts, "--by", "guest")["lines"]}
    assert sizes["acme-db"]["fit"] == "too large"
    assert sizes["acme-db"]["would_do_gib"] == pytest.approx(1.5)
    assert sizes["acme-db"]["risk"] == pytest.approx(risk_of(HOURS), rel=1e-4)
    assert sizes["acme-<b>web"]["fit"] == "fits"
    assert sizes["bank-1"]["fit"] == "too small"
    assert sizes["bank-1"]["risk"] is None


def test_growth_says_when_the_host_is_full(accounts: Path) -> None:
    growth = told(accounts)["growth"]
    assert growth["gib_each_week"] == pytest.approx(0.24 * 7, rel=1e-3)
    assert growth["full_on"] == "2026-02-14"


def test_a_tenants_report_tells_of_its_guests_and_of_nothing_else(accounts: Path) -> None:
    for form in (["--json"], ["--csv"], ["--by", "guest"]):
        done = run(accounts, "--tenant", "acme-*", *form)
        assert done.exit_code == 0
        assert "bank" not in done.output
        assert "32.0" not in done.output, "the host's memory"
    found = told(accounts, "--tenant", "acme-*")
    assert found["whole"]["guests"] == 2
    assert (found["host"], found["growth"], found["days"]) == (None, None, [])


OF_ACME: dict[str, str | list[str]] = {"project": "acme", "tags": ["db", "web"]}


@pytest.fixture
def of_projects(tmp_path: Path) -> Path:
    """Accounts in which one guest goes from one project to another after an hour, and another has none."""
    file = AccountsFile(tmp_path / NAME, keep=400 * 86_400.0, largest=1 << 30)
    file.open()
    for hour in range(FIRST, FIRST + 4):
        moved: dict[str, str | list[str]] = OF_ACME if hour == FIRST else {"project": "=ci"}
        guests = [guest(hour, "a", 8, 1, properties=OF_ACME), guest(hour, "b", 4, 1, properties=moved), guest(hour, "plain", 2, 1)]
        file.write([(host(hour), guests)])
    return file.path


def test_a_line_for_each_project_has_the_hours_in_which_guests_were_of_it(of_projects: Path) -> None:
    found = told(of_projects, "--by", "project")
    hours = {line["name"]: (line["guests"], line["seen_guest_hours"], line["sold_parts"]["sold_gib_hours"]) for line in found["lines"]}
    assert hours == {"acme": (2, 5.0, 36.0), "=ci": (1, 3.0, 12.0), "without a project": (1, 4.0, 8.0)}
    assert found["by"] == "project"
    assert "'=ci" in run(of_projects, "--by", "project", "--csv").output, "a spreadsheet takes it for text"
    assert re.search(r"^project +guests +sold", run(of_projects, "--by", "project").output, re.MULTILINE)
    assert [line["name"] for line in told(of_projects, "--by", "tags")["lines"]] == ["without a tags", "db, web"]


def test_a_tenant_may_be_a_project(of_projects: Path, tmp_path: Path) -> None:
    found = told(of_projects, "--tenant", "project=acme", "--by", "guest")
    assert {line["name"]: line["seen_guest_hours"] for line in found["lines"]} == {"a": 4.0, "b": 1.0}
    assert found["host"] is None
    assert [line["name"] for line in told(of_projects, "--tenant", "tags=web", "--by", "guest")["lines"]] == ["a", "b"]
    page_at = tmp_path / "report.html"
    assert run(of_projects, "--tenant", "project=acme", "--by", "project", "--html", page_at).exit_code == 0
    assert "guests project=acme" in page_at.read_text()
    (tmp_path / "link").symlink_to(page_at)
    assert run(of_projects, "--html", tmp_path / "link").exit_code == 0
    assert (tmp_path / "link").is_symlink(), "as /dev/stdout is one"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tenant", "amce-*"], "no guest of that time is named amce-*"),
        (["--tenant", "amce-*", "--json"], "no guest of that time is named amce-*"),
        (["--tenant", "amce-*", "--csv"], "no guest of that time is named amce-*"),
        (["--tenant", "project=amce"], "no guest of that time matches project=amce"),
        (["--by", "projects"], "no guest of that time has the property projects"),
        (["--html", "/nowhere/report.html"], "cannot write /nowhere/report.html"),
    ],
)
def test_what_cannot_be_told_is_an_error_that_says_why(accounts: Path, arguments: Sequence[str], message: str) -> None:
    done = run(accounts, *arguments)
    assert done.exit_code == 1
    assert message in str(done.exception)


def test_the_table_for_spreadsheets_has_a_row_for_each_guest_and_one_for_all(accounts: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(run(accounts, "--by", "guest", "--csv").output)))
    assert [row["name"] for row in rows] == ["acme-db", "acme-<b>web", "bank-1", "all"]
    assert rows[0]["sold_gib"] == "8.0"
    assert rows[0]["given_back_by_ksm_gib_hours"] == ""
    assert rows[0]["used_by_a_guest_most_gib"] == "1.0"


def test_a_name_that_a_spreadsheet_would_compute_is_a_text(tmp_path: Path) -> None:
    file = AccountsFile(tmp_path / NAME, keep=400 * 86_400.0, largest=1 << 30)
    file.open()
    file.write([(host(FIRST), [guest(FIRST, "=1+1", 4, 1)])])
    assert "'=1+1," in run(tmp_path, "--by", "guest", "--csv").output


def test_times_that_are_sums_over_guests_say_so(accounts: Path) -> None:
    said = " ".join(run(accounts).output.split())
    for what in ("waited because of mom, at most", "waited besides", "promises kept"):
        assert re.search(f"{what}[^:]*, summed over guests", said), what
    assert "summed over guests" not in run(accounts, "--tenant", "acme-<b>web").output


@pytest.mark.parametrize("by", ["class", "guest", "host"])
def test_at_a_terminal_no_line_is_wider_than_it(accounts: Path, by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mom_daemon.cli.prose.terminal_columns", lambda *_, **__: 80)
    monkeypatch.setattr("mom_daemon.cli.tables.terminal_columns", lambda *_, **__: 80)
    lines = run(accounts, "--by", by).output.splitlines()
    assert max(map(len, lines)) <= 80
    assert "Given back to the host" in lines


@pytest.mark.parametrize(("last", "span"), [("30d", "day"), ("12h", "hour")])
def test_the_page_is_whole_in_itself_and_takes_names_for_text(accounts: Path, tmp_path: Path, last: str, span: str) -> None:
    out = tmp_path / "report.html"
    assert run(accounts, "--last", last, "--by", "guest", "--html", out).exit_code == 0
    made = out.read_text()
    assert not re.search(r'<script|<link|<img|url\((?!#)|@import|src=|href="(?!#)', made)
    assert "http" not in re.sub(r'http-equiv="[^"]*"|xmlns(:\w+)?="[^"]*"', "", made)
    assert "acme-&lt;b&gt;web" in made
    assert "acme-<b>web" not in made
    assert made.count("<svg") == 2
    assert f"average of each {span}" in made
    assert "prefers-color-scheme: dark" in made


def test_the_page_begins_with_the_programs_that_were_killed() -> None:
    hours = [guest(FIRST, "a", 4, 1, killed=3, killed_known_seconds=3600.0), guest(FIRST, "b", 4, 1, killed=2, killed_known_seconds=3600.0)]
    made = page(summary_of(AccountedHours([host(FIRST)], hours, FIRST * 3600, (FIRST + 1) * 3600)))
    assert re.search('<div class="first"><div><b class="bad">5</b><span>programs killed in guests', made)
    made = page(summary_of(AccountedHours([host(FIRST)], hours, FIRST * 3600, (FIRST + 1) * 3600), by="flavor"))
    assert "5 of them in guests without a flavor" in made


def test_waiting_and_killing_are_shares_of_the_time_of_guests_that_tell_of_them(tmp_path: Path) -> None:
    file = AccountsFile(tmp_path / NAME, keep=400 * 86_400.0, largest=1 << 30)
    file.open()
    tells = guest(FIRST, "a", 4, 1, waited_seconds=360.0, waited_for_mom_seconds=360.0, killed=1, killed_known_seconds=3600.0)
    silent = [guest(FIRST, f"b{number}", 4, 1, waiting_known_seconds=0.0) for number in range(9)]
    file.write([(host(FIRST), [tells, *silent])])
    said = " ".join(run(tmp_path).output.split())
    assert "10 % of guests' time waited because of mom, at most; known of 10 % of their time" in said
    assert "waited because of mom, at most 360.0 s (10 % of guests' time; known of 10 % of their time)" in said
    assert "1 programs killed in guests for want of memory, 1 of them in gold; known of 10 % of their time" in said
    whole = told(tmp_path)["whole"]
    assert (whole["waiting_known_guest_hours"], whole["killed_known_guest_hours"], whole["seen_guest_hours"]) == (1, 1, 10)


@pytest.mark.parametrize(("ended", "last", "began"), [(1800, "1h", 0), (1801, "1h", 1), (1801, "20m", 1), (3600, "10m", 1), (600, "1h", 0)])
def test_a_report_begins_at_the_nearest_full_hour_and_has_one_hour_at_least(tmp_path: Path, ended: float, last: str, began: int) -> None:
    file = AccountsFile(tmp_path / NAME, keep=400 * 86_400.0, largest=1 << 30)
    file.open()
    file.write([(host(FIRST), []), (host(FIRST + 1, ended=(FIRST + 1) * 3600 + ended), [])])
    found = told(tmp_path, "--last", last)
    assert found["from"] == f"2025-11-25T{began:02}:00:00Z"
    assert ("accounts are kept by the hour: this is of a whole one" in found["remarks"]) is last.endswith("m")


def test_hours_that_lie_in_the_future_are_left_out_and_said_unless_there_are_no_others(tmp_path: Path) -> None:
    file = AccountsFile(tmp_path / NAME, keep=400 * 86_400.0, largest=1 << 30)
    file.open()
    file.write([(host(FIRST + 24 * 36500, seconds=0.0), [])])
    assert told(tmp_path)["to"] == "2125-11-01T01:00:00Z", "of another machine, with a clock of its own"
    file.write([(host(FIRST + hour), []) for hour in range(HOURS)])
    found = told(tmp_path)
    assert (found["to"], found["seen_hours"]) == ("2025-12-05T00:00:00Z", HOURS)
    assert "1 hours lie in the future, and are left out: a clock was ahead" in " ".join(run(tmp_path).output.split())


def test_how_wrong_forecasts_were_is_told_where_days_are_learned(tmp_path: Path) -> None:
    file = AccountsFile(tmp_path / NAME, keep=400 * 86_400.0, largest=1 << 30)
    file.open()
    file.write([(host(FIRST), [guest(FIRST, "a", 4, 1)])])
    assert told(tmp_path)["forecast"] is None
    assert "forecasts of the next hour" not in run(tmp_path).output
    minutes = [
        MinuteRow(FIRST * 60 + n, name, kib, kib, kib)
        for n in (1, 2)
        for name, kib in (("forecast_error", n * GIB), ("forecast_error_unlearned", 4.0 * GIB))
    ]
    file.write([], minutes)
    assert told(tmp_path)["forecast"] == {"wrong_by_gib": 1.5, "as_now_wrong_by_gib": 4.0}
    assert "wrong by 1.50 GiB together; as they were then: by 4.00 GiB" in run(tmp_path).output


@pytest.mark.parametrize(
    "arguments", [["--last", "yesterday"], ["--last", "0s"], ["--json", "--csv"], ["--by", "of tenant"], ["--tenant", "project="]]
)
def test_what_cannot_be_meant_is_said(accounts: Path, arguments: Sequence[str]) -> None:
    assert run(accounts, *arguments).exit_code == 2


def test_a_folder_without_accounts_is_said(tmp_path: Path) -> None:
    assert f"there is no {tmp_path / NAME}" in str(run(tmp_path).exception)


def test_hours_that_two_moms_have_shared_are_one_hour(tmp_path: Path) -> None:
    halves = [host(FIRST, seconds=1800.0), host(FIRST, seconds=1800.0)]
    summary = summary_of(AccountedHours(halves, [guest(FIRST, "a", 4, 1)], FIRST * 3600, (FIRST + 1) * 3600))
    assert summary.seen_hours == 1
    assert summary.whole.sold_gib == 4


def test_nothing_is_said_of_a_guest_that_tells_nothing_or_was_seen_for_less_than_a_day() -> None:
    assert "does not tell" in advise(4 * GIB, 0.0, 0, 0, 3600, 0).why
    first_hour = advise(4 * GIB, GIB, 0, 0, 600, 0)
    assert (first_hour.fit, first_hour.why) == (Fit.UNKNOWN, "it takes 24 hours at least, and 0 were seen")
    assert advise(4 * GIB, GIB, 23, 0, 3600, 0).fit is Fit.UNKNOWN
    assert advise(4 * GIB, GIB, 24, 0, 3600, 0).fit is Fit.LARGE


def test_time_for_which_a_guest_does_not_tell_what_it_uses_is_no_time_in_which_it_uses_nothing() -> None:
    silent = guest(FIRST, "a", 8, 4, used=size(4, 900.0))
    (line,) = summary_of(AccountedHours([host(FIRST)], [silent], FIRST * 3600, (FIRST + 1) * 3600), by="guest").lines
    assert (line.used_gib, line.sold_gib) == (4, 8)


def test_no_size_would_do_that_is_less_than_was_seen_in_an_hour_in_which_mom_was_started() -> None:
    known = [guest(hour, "a", 8, 1) for hour in range(FIRST, FIRST + 24)]
    short = guest(FIRST + 24, "a", 8, 6, used=size(6, 1200.0))
    hosts = [host(hour) for hour in range(FIRST, FIRST + 25)]
    (line,) = summary_of(AccountedHours(hosts, [*known, short], FIRST * 3600, (FIRST + 25) * 3600), by="guest").lines
    assert (line.size.fit, line.size.would_do_gib, line.size.hours) == (Fit.FITS, 7.75, 24)


@pytest.mark.parametrize(("killed", "for_mom", "why"), [(1, 0.0, "programs were killed"), (0, 900.0, "mom held back")])
def test_no_smaller_size_would_do_for_a_guest_that_lacked_memory_while_it_had_less(killed: int, for_mom: float, why: str) -> None:
    lacked = advise(8 * GIB, GIB, 24, 0.0, 86_400.0, killed, for_mom)
    assert (lacked.fit, lacked.would_do_gib, lacked.risk) == (Fit.UNKNOWN, None, None)
    assert why in lacked.why
    assert advise(8 * GIB, GIB, 24, 0.0, 86_400.0, 0, 800.0).fit is Fit.LARGE


def test_a_guest_that_waits_for_what_mom_holds_back_is_called_too_large_in_no_report(tmp_path: Path) -> None:
    file = AccountsFile(tmp_path / NAME, keep=400 * 86_400.0, largest=1 << 30)
    file.open()
    waits = {"waited_seconds": 60.0, "waited_for_mom_seconds": 60.0}
    file.write((host(hour), [guest(hour, "a", 8, 1, **waits), guest(hour, "b", 8, 1)]) for hour in range(FIRST, FIRST + 24))
    assert {line["name"]: line["size"]["fit"] for line in told(tmp_path, "--by", "guest")["lines"]} == {"a": "unknown", "b": "too large"}


@given(st.integers(1, 10_000))
def test_a_risk_is_no_more_than_so_many_hours_without_it_can_hide(hours: int) -> None:
    assert (1 - risk_of(hours)) ** hours == pytest.approx(0.05, rel=1e-6)


@given(st.lists(st.floats(0, 1e9), min_size=7, max_size=40), st.floats(1, 1e10))
def test_a_host_is_not_full_before_the_earliest_day_that_is_told(needed: list[float], limit: float) -> None:
    growth = growth_of(list(enumerate(needed)), limit, 0.0)
    least, week, most = growth.gib_each_week_least, growth.gib_each_week, growth.gib_each_week_most
    assert (least or 0) <= (week or 0) <= (most or 0)
    assert None not in {least, week, most}
    if growth.full_on is not None:
        assert growth.full_on_earliest is not None
        assert growth.full_on_earliest <= growth.full_on


def test_a_weeks_rhythm_is_no_growth() -> None:
    assert growth_of([(float(n), 5.0) for n in range(6)], 10.0, 0.0).gib_each_week is None
    assert "7 days" in growth_of([], 10.0, 0.0).why_unknown


@pytest.mark.parametrize("at", [0, 6, 12, 22])
def test_growth_is_the_same_at_any_time_of_the_day(at: int) -> None:
    hosts, guests = [], []
    for hour in range(FIRST + at, FIRST + at + 24 * 10):
        used = 3.0 if 8 <= hour % 24 < 20 else 1.5
        hosts.append(host(hour, used=size(2 + used), guests=GuestSums(SoldSums(held=(used + 0.5) * GIB * 3600))))
        guests.append(guest(hour, "a", 4, used))
    growth = summary_of(AccountedHours(hosts, guests, (FIRST + at) * 3600.0, (FIRST + at + 240) * 3600.0)).growth
    assert growth is not None
    assert growth.gib_each_week == pytest.approx(0, abs=1e-9)
    assert growth.full_on is None


def test_an_hour_belongs_to_the_class_that_the_guest_had_then() -> None:
    hours = [replace(guest(FIRST + hour, "b", 4, 1), service_class="gold" if hour > 7 else "") for hour in range(10)]
    summary = summary_of(AccountedHours([host(FIRST + hour) for hour in range(10)], hours, FIRST * 3600, (FIRST + 10) * 3600))
    assert [(line.name, line.guests, line.seen_guest_hours) for line in summary.lines] == [("without a class", 1, 8.0), ("gold", 1, 2.0)]


def test_guests_of_several_classes_are_of_none_together(accounts: Path) -> None:
    assert told(accounts)["whole"]["class"] is None
    guests = [guest(FIRST, "a", 4, 1), guest(FIRST, "ab", 4, 1)]
    alike = summary_of(AccountedHours([host(FIRST)], guests, FIRST * 3600, (FIRST + 1) * 3600))
    assert alike.whole.service_class == "gold"


def test_of_a_few_minutes_the_page_draws_the_host_by_minutes() -> None:
    total, available = {"mem_available": 16 * GIB}, {"mem_really_available": 4 * GIB}
    minutes = [RecordedPoint(60.0 * n, 60.0, available, {"guests.rss": 8 * GIB}, total) for n in range(9)]
    drawn = page(summary_of(AccountedHours([host(FIRST)], [guest(FIRST, "a", 4, 1)], FIRST * 3600.0, FIRST * 3600.0 + 540)), minutes)
    assert drawn.count("<figure>") == 1
    assert "Memory of the host by minutes" in drawn
