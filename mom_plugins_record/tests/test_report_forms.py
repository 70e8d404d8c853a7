"""`mom report` in every form, of all tenants and of one, with unknown values shown as unknown."""

import json
import re
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from mom_plugins_record.report.accounts import Hour
from mom_plugins_record.report.accounts_file import NAME, write
from mom_plugins_record.report.command import report
from mom_plugins_record.report.hours import AccountedHour, GuestHour, bin_of
from mom_plugins_record.report.summary import Fit, advise, growth_of, risk_of

GIB = float(1 << 20)
FIRST = 490_008  # midnight, UTC
HOURS = 24 * 10


def guest(
    hour: int, name: str, sold: float, uses: float, properties: Mapping[str, str | list[str]] | None = None, **more: float
) -> GuestHour:
    row = GuestHour(hour, name, id=name, service_class="gold" if name.startswith("a") else "", incarnation="1", properties=properties or {})
    held = uses + 0.5
    for part, gib in {"sold": sold, "had": sold, "held": held, "untaken": sold - held, "given_back_sweeps": 0.25}.items():
        row.sums[f"{part}_kib_seconds"] = gib * GIB * 3600
    row.latest["sold_kib"], row.spreads["held"][bin_of(held * GIB)] = sold * GIB, 3600.0
    row.add_spread("used", uses * GIB, 3600.0)
    known = {"seconds": 3600.0, "waiting_known_seconds": 3600.0, "promise_kept_seconds": 3590.0, "promise_broken_seconds": 10.0}
    row.sums.update({**known, **more})
    return row


def host(hour: int, used: float | None = None, seconds: float = 3600.0, ended: float | None = None, held: float = 8.7) -> AccountedHour:
    row = AccountedHour(hour, "kvm-07")
    row.add_spread("used", (12 + (hour - FIRST) / 100 if used is None else used) * GIB, 3600.0)
    row.sums.update({"seconds": seconds, "cycles": 720, "guests_held_kib_seconds": held * GIB * 3600})
    row.most.update({"used_most_kib": 14 * GIB, "guests_most": 3, "sold_most_kib": 16 * GIB})
    ends = (hour + 1) * 3600.0 if ended is None else ended
    row.latest.update({"began": hour * 3600.0, "ended": ends, "total_kib": 32 * GIB, "wanted_kib": 2 * GIB})
    return row


def put(folder: Path, hours: Iterable[Hour]) -> Path:
    write(folder / NAME, 1, hours, [], 400 * 86_400.0)
    return folder / NAME


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    hours = (
        (host(hour), [guest(hour, "acme-db", 8, 1), guest(hour, "acme-<b>web", 4, 3), guest(hour, "bank-1", 4, 3.2, waited_seconds=60.0)])
        for hour in range(FIRST, FIRST + HOURS)
    )
    return put(tmp_path_factory.mktemp("accounts"), hours)


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
    assert (found["since"], found["until"]) == (FIRST * 3600, (FIRST + HOURS) * 3600)
    assert found["seen_hours"] == HOURS
    whole = found["whole"]["figures"]
    assert (whole["sold_gib"], whole["held_gib"], whole["used_gib"]) == pytest.approx((16, 8.7, 7.2))
    assert whole["given_back_at_least_gib_hours"] == pytest.approx(0.75 * HOURS)
    assert whole["given_back_ksm_gib_hours"] is None, "no plugin has told of KSM"
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
    lines = {line["name"]: line for line in told(accounts, "--by", "guest")["lines"]}
    fits = {name: line["size"]["fit"] for name, line in lines.items()}
    assert fits == {"acme-db": "too large", "acme-<b>web": "fits", "bank-1": "too small"}
    assert lines["acme-db"]["size"]["would_do_gib"] == pytest.approx(1.5)
    assert lines["acme-db"]["size"]["risk"] == pytest.approx(risk_of(HOURS), rel=1e-4)
    assert lines["bank-1"]["size"]["risk"] is None


def test_growth_says_when_the_host_is_full(accounts: Path) -> None:
    growth = told(accounts)["growth"]
    assert growth["gib_each_week"] == pytest.approx(0.24 * 7, rel=1e-3)
    assert time.strftime("%Y-%m-%d", time.gmtime(growth["full_on"])) == "2026-02-14"


def test_tenant_report_hides_the_others(accounts: Path) -> None:
    for form in (["--json"], ["--by", "guest"]):
        done = run(accounts, "--tenant", "acme-*", *form)
        assert done.exit_code == 0
        assert "bank" not in done.output
        assert "32.0" not in done.output, "the host's memory"
    found = told(accounts, "--tenant", "acme-*")
    assert found["whole"]["guests"] == 2
    assert (found["host"], found["growth"], found["spans"]) == (None, None, [])


OF_ACME: dict[str, str | list[str]] = {"project": "acme", "tags": ["db", "web"]}


@pytest.fixture
def of_projects(tmp_path: Path) -> Path:
    """Return accounts of a guest that changes its project after an hour, and another without a project."""
    for hour in range(FIRST, FIRST + 4):
        moved: dict[str, str | list[str]] = OF_ACME if hour == FIRST else {"project": "=ci"}
        guests = [guest(hour, "a", 8, 1, properties=OF_ACME), guest(hour, "b", 4, 1, properties=moved), guest(hour, "plain", 2, 1)]
        put(tmp_path, [(host(hour), guests)])
    return tmp_path / NAME


def test_lines_by_property_follow_each_hour(of_projects: Path) -> None:
    found = told(of_projects, "--by", "project")
    hours = {
        line["name"]: (line["guests"], line["figures"]["seen_guest_hours"], line["figures"]["sold_gib_hours"]) for line in found["lines"]
    }
    assert hours == {"acme": (2, 5.0, 36.0), "=ci": (1, 3.0, 12.0), "without a project": (1, 4.0, 8.0)}
    assert found["by"] == "project"
    assert re.search(r"^project +guests +sold", run(of_projects, "--by", "project").output, re.MULTILINE)
    assert [line["name"] for line in told(of_projects, "--by", "tags")["lines"]] == ["without a tags", "db, web"]


def test_a_tenant_may_be_a_project(of_projects: Path) -> None:
    found = told(of_projects, "--tenant", "project=acme", "--by", "guest")
    assert {line["name"]: line["figures"]["seen_guest_hours"] for line in found["lines"]} == {"a": 4.0, "b": 1.0}
    assert found["host"] is None
    assert [line["name"] for line in told(of_projects, "--tenant", "tags=web", "--by", "guest")["lines"]] == ["a", "b"]


def test_unknown_guest_is_an_error(accounts: Path) -> None:
    done = run(accounts, "--tenant", "amce-*")
    assert done.exit_code == 1
    assert "no guest in that period is named amce-*" in str(done.exception)


@pytest.mark.parametrize("by", ["class", "guest"])
def test_terminal_report_fits_80_columns(accounts: Path, by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mom_daemon.cli.output.terminal_columns", lambda *_, **__: 80)
    lines = run(accounts, "--by", by).output.splitlines()
    assert max(map(len, lines)) <= 80
    assert "Given back to the host" in lines


@pytest.mark.parametrize(("last", "span"), [("30d", "day"), ("12h", "hour")])
def test_page_is_self_contained_and_escapes_names(accounts: Path, tmp_path: Path, last: str, span: str) -> None:
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


def test_stalls_and_kills_state_the_known_share(tmp_path: Path) -> None:
    tells = guest(FIRST, "a", 4, 1, waited_seconds=360.0, waited_for_mom_seconds=360.0, killed=1, killed_known_seconds=3600.0)
    silent = [guest(FIRST, f"b{number}", 4, 1, waiting_known_seconds=0.0) for number in range(9)]
    put(tmp_path, [(host(FIRST), [tells, *silent])])
    said = " ".join(run(tmp_path).output.split())
    assert "waited because of mom, at most 360.0 s (10 % of guests' time; known for 10 % of guests' time)" in said
    assert "programs killed in guests 1; known for 10 % of guests' time" in said
    whole = told(tmp_path)["whole"]["figures"]
    assert (whole["waiting_known_guest_hours"], whole["killed_known_guest_hours"], whole["seen_guest_hours"]) == (1, 1, 10)


@pytest.mark.parametrize(("ended", "last", "began"), [(1800, "1h", 0), (1801, "1h", 1), (3600, "10m", 1)])
def test_report_begins_at_a_full_hour(tmp_path: Path, ended: float, last: str, began: int) -> None:
    put(tmp_path, [(host(FIRST), []), (host(FIRST + 1, ended=(FIRST + 1) * 3600 + ended), [])])
    found = told(tmp_path, "--last", last)
    assert found["since"] == (FIRST + began) * 3600


def test_future_hours_are_left_out(tmp_path: Path) -> None:
    put(tmp_path, [(host(FIRST + 24 * 36500, seconds=0.0), [])])
    assert told(tmp_path)["until"] == (FIRST + 24 * 36500 + 1) * 3600, "of another machine, with a clock of its own"
    put(tmp_path, [(host(FIRST + hour), []) for hour in range(HOURS)])
    found = told(tmp_path)
    assert (found["until"], found["seen_hours"]) == ((FIRST + HOURS) * 3600, HOURS)


@pytest.mark.parametrize("arguments", [["--last", "yesterday"], ["--last", "0s"], ["--json", "--html", "-"], ["--tenant", "project="]])
def test_what_cannot_be_meant_is_said(accounts: Path, arguments: Sequence[str]) -> None:
    assert run(accounts, *arguments).exit_code == 2


def test_a_folder_without_accounts_is_said(tmp_path: Path) -> None:
    assert f"there is no file {tmp_path / NAME}" in str(run(tmp_path).exception)


def test_too_little_evidence_gives_no_advice() -> None:
    assert "does not report" in advise(4 * GIB, 0.0, 0, 0, 3600, 0).why
    first_hour = advise(4 * GIB, GIB, 0, 0, 600, 0)
    assert (first_hour.fit, first_hour.why) == (Fit.UNKNOWN, "24 hours of data are needed, and 0 are known")
    assert advise(4 * GIB, GIB, 23, 0, 3600, 0).fit is Fit.UNKNOWN
    assert advise(4 * GIB, GIB, 24, 0, 3600, 0).fit is Fit.LARGE


@pytest.mark.parametrize(("killed", "for_mom", "why"), [(1, 0.0, "the guest's kernel killed programs"), (0, 900.0, "mom had taken")])
def test_guest_short_of_memory_gets_no_smaller_size(killed: int, for_mom: float, why: str) -> None:
    lacked = advise(8 * GIB, GIB, 24, 0.0, 86_400.0, killed, for_mom)
    assert (lacked.fit, lacked.would_do_gib, lacked.risk) == (Fit.UNKNOWN, None, None)
    assert why in lacked.why
    assert advise(8 * GIB, GIB, 24, 0.0, 86_400.0, 0, 800.0).fit is Fit.LARGE


@given(st.lists(st.floats(0, 1e9), min_size=7, max_size=40), st.floats(1, 1e10))
def test_growth_bounds_are_ordered(needed: list[float], limit: float) -> None:
    growth = growth_of(list(enumerate(needed)), limit, 0.0)
    least, week, most = growth.gib_each_week_least, growth.gib_each_week, growth.gib_each_week_most
    assert (least or 0) <= (week or 0) <= (most or 0)
    assert None not in {least, week, most}
    if growth.full_on is not None:
        assert growth.full_on_earliest is not None
        assert growth.full_on_earliest <= growth.full_on
