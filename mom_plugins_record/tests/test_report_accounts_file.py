"""The file of accounts: any tool opens it; a crash, damage or a full disk cost as little as can be, and keep no mom from starting."""

import logging
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from full_disk import largest_file
from test_report_accounts import GIB, KNOWN, cycle

from mom_core import Report
from mom_plugins_record.report.accounts_file import AccountsError, AccountsFile, check, read_guests, read_hosts, read_minutes
from mom_plugins_record.report.hours import AccountedHour, GuestHour, MinuteRow
from mom_plugins_record.report.keeper import MOST_UNWRITTEN, AccountsKeeper

EPOCH = 1_000_000 * 3600.0
LOG = logging.getLogger("test")


def file_at(path: Path, run: int = 1) -> AccountsFile:
    return AccountsFile(path, keep=40 * 86_400.0, run=run)


def kept(file: AccountsFile, now: float = EPOCH) -> AccountsKeeper:
    keeper = AccountsKeeper(file, LOG)
    keeper.open(now)
    return keeper


def hour(number: int = 1_000_000, guests: int = 2) -> tuple[AccountedHour, list[GuestHour]]:
    host, rows = AccountedHour(number, "vm"), []
    for n in range(guests):
        row = GuestHour(number, f"guest {n}", id=f"g{n}", service_class="gold", incarnation="1")
        row.sums.update({"seconds": 3600.0, "sold_kib_seconds": 1.5})
        row.spreads["used_spread"].update({7: 1.0, 300: 2.5})
        rows.append(row)
    host.sums["seconds"], host.latest["ended"] = 3600.0, number * 3600.0 + 3600
    return host, rows


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = file_at(tmp_path / "accounts.sqlite3")
    assert file.open() == ""
    return file.path


def test_plot_of_a_week_keeps_every_minimum(path: Path) -> None:
    lows = range(400, 7 * 1440, 531)
    assert len(lows) == 19
    rows = [MinuteRow(n, "mem_really_available", 1.0 if n in lows else 50.0, 60.0, 80.0) for n in range(7 * 1440)]
    file_at(path).write([], rows)
    parts = read_minutes(path, 0, 7 * 86_400 - 1, 700)
    assert [one.time for one in parts] == [n * 900 + 450 for n in range(672)]
    assert {int(one.time // 900) for one in parts if one.least["mem_really_available"] == 1} == {low // 15 for low in lows}
    assert {(one.mean["mem_really_available"], one.most["mem_really_available"], one.seconds) for one in parts} == {(60, 80, 900)}
    assert len(read_minutes(path, 3600, 7200 - 1, 700)) == 60


def test_any_tool_can_open_it(path: Path) -> None:
    file_at(path).write([hour()])
    with closing(sqlite3.connect(path)) as connection:
        query = (
            "SELECT g.name, g.sold_kib_seconds, sum(u.value) FROM guest_hours g, json_each(g.used_spread) u GROUP BY g.name ORDER BY g.name"
        )
        assert connection.execute(query).fetchall() == [("guest 0", 1.5, 3.5), ("guest 1", 1.5, 3.5)]


def test_rewritten_hour_replaces_its_own_row_only(path: Path) -> None:
    file_at(path).write([hour()])
    file_at(path).write([hour()])
    file_at(path, run=2).write([hour()])
    assert len(read_hosts(path, 0, float("inf"))) == 2
    assert len(list(read_guests(path, 0, float("inf")))) == 4


def test_what_is_older_than_is_kept_goes(path: Path) -> None:
    file = file_at(path)
    file.write([hour()])
    file.write([hour(1_000_000 + 24 * 40 + 1)])
    assert {row.hour for row in read_guests(path, 0, float("inf"))} == {1_000_961}
    assert len(read_hosts(path, 0, float("inf"))) == 2, "growth is seen over months"


def test_clock_ahead_deletes_an_hour_per_write_only(path: Path) -> None:
    file = file_at(path)
    for number in range(4):
        host, (guest,) = hour(1_000_000 + number, 1)
        guest.properties = {"flavor": str(number), "tags": ["a", "b"]}
        file.write([(host, [guest])], [MinuteRow(60 * (1_000_000 + number), "guests.rss", 1, 1, 1)])
    file.write([hour(2_000_000)])
    file.write([hour(1_000_003)])
    assert [row.hour for row in read_hosts(path, 0, float("inf"))] == [1_000_001, 1_000_002, 1_000_003, 1_000_003, 2_000_000]
    guests = [row for row in read_guests(path, 0, float("inf")) if row.properties]
    assert [(row.hour, row.properties) for row in guests] == [(1_000_000 + n, {"flavor": str(n), "tags": ["a", "b"]}) for n in (1, 2, 3)]
    assert len(read_minutes(path, EPOCH, EPOCH + 4 * 3600, 1000)) == 3


def test_minutes_count_toward_the_size(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mom_plugins_record.report.accounts_file.LARGEST", 1 << 18)
    file = file_at(path)
    for number in range(0, 24 * 40, 6):
        at = 1_000_000 + number
        file.write([hour(at, 2)], [MinuteRow(at * 60 + minute, f"s{n}", 1.5, 2.5, 3.5) for minute in range(60) for n in range(5)])
    assert path.stat().st_size < 2 << 18
    hours = [row.hour for row in read_guests(path, 0, float("inf"))]
    assert hours[0] < 1_000_954 - 24
    assert hours[-1] == 1_000_954
    points = read_minutes(path, 0.0, 1e12, 10**9)
    assert points[0].time // 3600 >= hours[0]


def test_current_hour_stays_in_a_full_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mom_plugins_record.report.accounts_file.LARGEST", 1 << 16)
    file = file_at(path)
    for number in range(48):
        file.write([hour(1_000_000 + number, 400)])
    assert {row.hour for row in read_guests(path, 0, float("inf"))} == {1_000_047}
    assert read_hosts(path, 0, float("inf"))[-1].hour == 1_000_047
    assert path.stat().st_size < 5 << 16


def overwritten(path: Path) -> bytes:
    file_at(path).write([hour(guests=500)])
    content = path.read_bytes()
    return content[:8192] + b"\x55" * (20_000 - 8192) + content[20_000:]


@pytest.mark.parametrize(
    "content", [b"", b"no accounts\n" * 500, b"SQLite format 3\0" + b"\xff" * 4000, None], ids=["empty", "text", "torn", "overwritten"]
)
def test_damaged_file_is_set_aside(path: Path, content: bytes | None) -> None:
    damaged = overwritten(path) if content is None else content
    path.write_bytes(damaged)
    file = file_at(path)
    assert "damaged" in file.open()
    assert path.with_name(f"{path.name}.damaged").read_bytes() == damaged
    file.write([hour()])
    assert len(read_hosts(path, 0, float("inf"))) == 1


def test_damage_at_runtime_is_set_aside(path: Path) -> None:
    keeper = kept(file_at(path))
    keeper.add(cycle(0, {"a": KNOWN}), None)
    path.write_bytes(b"no accounts\n" * 500)
    keeper.write()
    assert "cannot be written" in keeper.write_error
    keeper.add(cycle(60, {"a": KNOWN}), None)
    keeper.write()
    assert keeper.write_error == ""
    assert f"{path.name}.damaged" in keeper.damage
    assert [row.sums["seconds"] for row in read_hosts(path, 0, float("inf"))] == [60]


def test_file_of_another_format_stays(path: Path) -> None:
    file_at(path).write([hour()])
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    keeper = kept(file_at(path, run=2))
    keeper.add(cycle(0, {"a": KNOWN}), None)
    keeper.write()
    assert (path.read_bytes(), keeper.damage) == (before, "")
    assert "has the format 99" in keeper.write_error
    assert keeper.write_hint == "move the file away; mom then starts new accounts"
    path.rename(path.with_name("theirs"))
    keeper.write()
    assert (len(read_hosts(path, 0, float("inf"))), keeper.write_error) == (1, "")


def test_full_disk_leaves_no_half_file(tmp_path: Path) -> None:
    file = file_at(tmp_path / "accounts.sqlite3")
    for size in (0, 0, 5000):
        with largest_file(size), pytest.raises(AccountsError, match="cannot be written"):
            file.open()
        assert list(tmp_path.iterdir()) == []
    assert file.open() == ""
    assert list(tmp_path.iterdir()) == [file.path]


def test_wrong_clock_at_start_keeps_todays_sums(path: Path) -> None:
    def cycle_of(number: int, ahead: float) -> Report:
        return replace(one := cycle(number, {"a": {**KNOWN, "guest_oom_kills": number}}), time=one.time + ahead)

    before = kept(file_at(path))
    for number in (0, 10):
        before.add(cycle_of(number, 0.0), None)
    before.write()
    keeper = kept(file_at(path, run=2), EPOCH + 40 * 86_400.0)
    for number, ahead in ((20, 40 * 86_400.0), (30, 40 * 86_400.0), (40, 0.0), (50, 0.0)):
        keeper.add(cycle_of(number, ahead), None)
    assert keeper.today().sums["guests_killed"] == 10 + 20, "of the mom before, and of this one"


def test_folder_is_not_set_aside(tmp_path: Path) -> None:
    (path := tmp_path / "accounts.sqlite3").mkdir()
    with pytest.raises(AccountsError, match="is not a regular file"):
        file_at(path).open()
    assert path.is_dir()


def test_locked_file_is_no_damage(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mom_plugins_record.report.accounts_file.WAITS_SECONDS", 0.01)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        with pytest.raises(AccountsError, match=r"cannot be read: database is locked \(try again"):
            check(path)


def test_killed_write_is_rolled_back(path: Path, tmp_path: Path) -> None:
    file_at(path).write([hour(guests=300)])
    (killed := tmp_path / "killed").mkdir()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA cache_size = 5")  # so that some of what is written reaches the disk before it is ended
        connection.execute("BEGIN")
        connection.execute("UPDATE guest_hours SET name = hex(randomblob(300))")
        for name in (path.name, f"{path.name}-journal"):
            shutil.copy(path.with_name(name), killed)
    check(killed / path.name)
    assert list(read_guests(killed / path.name, 0, float("inf"))) == list(read_guests(path, 0, float("inf")))


def test_full_disk_keeps_hours_in_memory(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keeper = kept(file_at(path))
    with largest_file(path.stat().st_size):
        for now in range(0, 3 * 3600, 60):
            keeper.add(cycle(now, {f"g{n}": KNOWN for n in range(50)}), None)
        assert "cannot be written" in keeper.write_error
    assert caplog.text.count("cannot be written") == 1, "said once"
    keeper.write()
    assert keeper.write_error == ""
    assert sum(row.sums["seconds"] for row in read_hosts(path, 0, float("inf"))) == 3 * 3600 - 60


def test_hours_in_memory_are_bounded(tmp_path: Path) -> None:
    (tmp_path / "recording").write_text("a file where a folder should be")
    keeper = kept(file_at(tmp_path / "recording" / "accounts.sqlite3"), EPOCH)
    for now in range(0, (MOST_UNWRITTEN + 10) * 3600, 1200):
        keeper.add(cycle(now, {"a": KNOWN}), None)
    (tmp_path / "recording").unlink()
    keeper.write()
    assert len(read_hosts(tmp_path / "recording" / "accounts.sqlite3", 0, float("inf"))) == MOST_UNWRITTEN + 1, "and the present hour"


def test_restart_continues_touched_sizes_and_today(path: Path) -> None:
    first = kept(file_at(path, run=1), EPOCH)
    first.add(cycle(0, {"a": {**KNOWN, "mem_promised": 4 * GIB}}), None)
    assert not first.today().sums["seconds"]
    first.add(cycle(60, {"a": {**KNOWN, "mem_promised": 4 * GIB, "balloon_cur": 3 * GIB}}), None)
    assert first.today().sums["seconds"] == 60
    first.write()
    second = kept(file_at(path, run=2), EPOCH + 60)
    less = {**KNOWN, "rss": 1 * GIB}
    second.add(cycle(70, {"a": less}), None)
    second.add(cycle(80, {"a": less}), None)
    assert second.given_back()["given_back_sweeps"] == 2 * GIB
    sums = second.today().sums
    assert sums["guests_promise_broken_seconds"] == 60
    assert sums["guests_given_back_sweeps_kib_seconds"] + sums["guests_given_back_balloon_kib_seconds"] == pytest.approx(10 * 2 * GIB)
    assert (sums["seconds"], sums["guests_killed_known_seconds"]) == (70, 0)


def test_damaged_row_sets_the_file_aside(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file_at(path).write([hour()])
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE guest_hours SET touched_kib = 1e12")
    keeper = kept(file_at(path, run=2), EPOCH + 60)
    assert "a checksum in guest_hours is wrong" in keeper.damage
    assert "mom starts new accounts" in caplog.text
    keeper.add(cycle(0, {"a": KNOWN}), None)
    keeper.write()
    assert keeper.write_error == ""
    assert len(read_hosts(path, 0, float("inf"))) == 1
