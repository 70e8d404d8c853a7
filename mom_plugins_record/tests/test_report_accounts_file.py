"""The file of accounts: common tools read it; crashes, damage and full disks lose little, and never stop mom's start."""

import logging
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from full_disk import largest_file
from test_report_accounts import GIB, KNOWN, cycle

from mom_plugins_record.report.accounts import Hour
from mom_plugins_record.report.accounts_file import (
    MOST_UNWRITTEN,
    AccountsError,
    AccountsKeeper,
    check,
    read_guests,
    read_hosts,
    read_minutes,
    write,
)
from mom_plugins_record.report.hours import AccountedHour, GuestHour, MinuteRow

EPOCH = 1_000_000 * 3600.0
KEEP = 40 * 86_400.0
EVER = float("inf")


def kept(path: Path, now: float = EPOCH, run: int = 1) -> AccountsKeeper:
    keeper = AccountsKeeper(path, KEEP, logging.getLogger("test"), run=run)
    keeper.open(now)
    return keeper


def put(path: Path, *hours: Hour, run: int = 1, minutes: list[MinuteRow] | None = None) -> None:
    write(path, run, hours, minutes or [], KEEP)


def hour(number: int = 1_000_000, guests: int = 2) -> Hour:
    host, rows = AccountedHour(number, "vm"), []
    for n in range(guests):
        row = GuestHour(number, f"guest {n}", id=f"g{n}", service_class="gold", incarnation="1")
        row.sums.update({"seconds": 3600.0, "sold_kib_seconds": 1.5})
        row.spreads["used"].update({7: 1.0, 300: 2.5})
        rows.append(row)
    host.sums["seconds"], host.latest["ended"] = 3600.0, number * 3600.0 + 3600
    return host, rows


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "recording" / "accounts.sqlite3"


def test_plot_of_a_week_keeps_every_minimum(path: Path) -> None:
    lows = range(400, 7 * 1440, 531)
    put(path, minutes=[MinuteRow(n, "mem_really_available", 1.0 if n in lows else 50.0, 60.0, 80.0) for n in range(7 * 1440)])
    parts = read_minutes(path, 0, 7 * 86_400 - 1, 700)
    assert [one.time for one in parts] == [n * 900 + 450 for n in range(672)]
    assert {int(one.time // 900) for one in parts if one.least["mem_really_available"] == 1} == {low // 15 for low in lows}
    assert {(one.mean["mem_really_available"], one.most["mem_really_available"], one.seconds) for one in parts} == {(60, 80, 900)}
    assert len(read_minutes(path, 3600, 7200 - 1, 700)) == 60


def test_any_tool_can_open_it(path: Path) -> None:
    put(path, hour())
    with closing(sqlite3.connect(path)) as connection:
        query = "SELECT sums ->> 'name', sum(sums -> 'sums' ->> 'sold_kib_seconds') FROM guest_hours GROUP BY id ORDER BY id"
        assert connection.execute(query).fetchall() == [("guest 0", 1.5), ("guest 1", 1.5)]
    assert [*read_guests(path, 0, EVER)] == hour()[1]


def test_rewritten_hour_replaces_its_own_row_only(path: Path) -> None:
    put(path, hour())
    put(path, hour())
    put(path, hour(), run=2)
    assert len(read_hosts(path, 0, EVER)) == 2
    assert len(list(read_guests(path, 0, EVER))) == 4


def test_each_write_deletes_one_old_hour(path: Path) -> None:
    for number in range(4):
        put(path, hour(1_000_000 + number), minutes=[MinuteRow(60 * (1_000_000 + number), "guests.rss", 1, 1, 1)])
    put(path, hour(2_000_000))
    put(path, hour(1_000_003))
    assert [row.hour for row in read_hosts(path, 0, EVER)] == [1_000_001, 1_000_002, 1_000_003, 2_000_000]
    assert [row.hour for row in read_guests(path, 0, EVER)][::2] == [1_000_001, 1_000_002, 1_000_003, 2_000_000]
    assert len(read_minutes(path, EPOCH, EPOCH + 4 * 3600, 1000)) == 3
    put(path, hour(2_000_000 + 24 * 40 + 1))
    assert read_hosts(path, 0, EVER)[0].hour == 1_000_002


def overwritten(path: Path) -> bytes:
    put(path, hour(guests=500))
    content = path.read_bytes()
    return content[:8192] + b"\x55" * (20_000 - 8192) + content[20_000:]


@pytest.mark.parametrize(
    "content", [b"no accounts\n" * 500, b"SQLite format 3\0" + b"\xff" * 4000, None], ids=["text", "torn", "overwritten"]
)
def test_damaged_file_is_set_aside(path: Path, content: bytes | None, caplog: pytest.LogCaptureFixture) -> None:
    damaged = overwritten(path) if content is None else content
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(damaged)
    keeper = kept(path, EPOCH + 60)
    assert "mom starts new accounts" in keeper.damage
    assert keeper.damage in caplog.text
    assert path.with_name(f"{path.name}.damaged").read_bytes() == damaged
    keeper.add(cycle(60, {"a": KNOWN}), None)
    keeper.write()
    assert (len(read_hosts(path, 0, EVER)), keeper.write_error) == (1, "")


def test_damaged_row_sets_the_file_aside(path: Path) -> None:
    put(path, hour())
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute('UPDATE guest_hours SET sums = replace(sums, \'"sold_kib_seconds":1.5\', \'"sold_kib_seconds":"1x"\')')
    assert "is damaged" in kept(path, EPOCH + 60).damage


def test_damage_at_runtime_is_set_aside(path: Path) -> None:
    keeper = kept(path)
    keeper.add(cycle(0, {"a": KNOWN}), None)
    path.parent.mkdir()
    path.write_bytes(b"no accounts\n" * 500)
    keeper.write()
    assert f"{path.name}.damaged" in keeper.damage
    keeper.add(cycle(60, {"a": KNOWN}), None)
    keeper.write()
    assert keeper.write_error == ""
    assert [row.sums["seconds"] for row in read_hosts(path, 0, EVER)] == [60]


def test_file_of_another_format_stays(path: Path) -> None:
    put(path, hour())
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    keeper = kept(path, run=2)
    keeper.add(cycle(0, {"a": KNOWN}), None)
    keeper.write()
    assert (path.read_bytes(), keeper.damage) == (before, "")
    assert "has the format 99" in keeper.write_error
    assert keeper.write_hint == "move the file away; mom then starts new accounts"
    path.rename(path.with_name("theirs"))
    keeper.write()
    assert (len(read_hosts(path, 0, EVER)), keeper.write_error) == (1, "")


def test_folder_is_not_set_aside(path: Path) -> None:
    path.mkdir(parents=True)
    assert "cannot be read" in kept(path).write_error
    assert path.is_dir()


def test_locked_file_is_no_damage(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mom_plugins_record.report.accounts_file.WAITS_SECONDS", 0.01)
    put(path, hour())
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        with pytest.raises(AccountsError, match=r"cannot be read: database is locked \(check"):
            check(path)


def test_killed_write_is_rolled_back(path: Path, tmp_path: Path) -> None:
    put(path, hour(guests=300))
    (killed := tmp_path / "killed").mkdir()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA cache_size = 5")  # so that parts reach the disk before the end
        connection.execute("BEGIN")
        connection.execute("UPDATE guest_hours SET sums = hex(randomblob(300))")
        for name in (path.name, f"{path.name}-journal"):
            shutil.copy(path.with_name(name), killed)
    with pytest.raises(AccountsError, match="cannot be read"):
        check(killed / path.name)
    put(killed / path.name)
    check(killed / path.name)
    assert list(read_guests(killed / path.name, 0, EVER)) == list(read_guests(path, 0, EVER))


def test_full_disk_keeps_hours_in_memory(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keeper = kept(path)
    for size, since in ((0, 0), (0, 3600), (5000, 7200)):
        with largest_file(size):
            for now in range(since, since + 3600, 60):
                keeper.add(cycle(now, {f"g{n}": KNOWN for n in range(50)}), None)
            keeper.write()
            assert "cannot be written" in keeper.write_error
    assert caplog.text.count("cannot be written") == 1, "said once"
    keeper.write()
    assert (keeper.write_error, keeper.damage) == ("", "")
    assert sum(row.sums["seconds"] for row in read_hosts(path, 0, EVER)) == 3 * 3600 - 60


def test_hours_in_memory_are_bounded(tmp_path: Path) -> None:
    (tmp_path / "recording").write_text("a file where a folder should be")
    keeper = kept(tmp_path / "recording" / "accounts.sqlite3")
    for now in range(0, (MOST_UNWRITTEN + 10) * 3600, 1200):
        keeper.add(cycle(now, {"a": KNOWN}), None)
    (tmp_path / "recording").unlink()
    keeper.write()
    assert len(read_hosts(tmp_path / "recording" / "accounts.sqlite3", 0, EVER)) == MOST_UNWRITTEN + 1, "and the present hour"


def test_restart_continues_touched_sizes_and_today(path: Path) -> None:
    first = kept(path)
    first.add(cycle(0, {"a": {**KNOWN, "mem_promised": 4 * GIB}}), None)
    assert not first.today().sums["seconds"]
    first.add(cycle(60, {"a": {**KNOWN, "mem_promised": 4 * GIB, "balloon_cur": 3 * GIB}}), None)
    assert first.today().sums["seconds"] == 60
    first.write()
    second = kept(path, EPOCH + 60, run=2)
    less = {**KNOWN, "rss": 1 * GIB}
    second.add(cycle(70, {"a": less}), None)
    second.add(cycle(80, {"a": less}), None)
    assert second.given_back()["given_back_sweeps"] == 2 * GIB
    sums = second.today().sums
    assert sums["guests_promise_broken_seconds"] == 60
    assert sums["guests_given_back_sweeps_kib_seconds"] + sums["guests_given_back_balloon_kib_seconds"] == pytest.approx(10 * 2 * GIB)
    assert (sums["seconds"], sums["guests_killed_known_seconds"]) == (70, 0)
