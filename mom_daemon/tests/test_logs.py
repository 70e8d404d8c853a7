"""The log of a running mom. No thread waits for it."""

import io
import logging
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from mom_core import PluginSettings
from mom_core.config import Config
from mom_core.plugins.secrets import MASK, SecretMask
from mom_daemon import logs
from mom_daemon.logs import WAITING, LineFormatter, Log
from mom_devkit import config_of, wait_until

LOG = logging.getLogger("mom.plugin.test_logs")


class Disk(logging.Handler):
    """Handler of a hanging or full disk."""

    def __init__(self, *, hangs: bool = False, full: bool = False) -> None:
        super().__init__()
        self.free = threading.Event()
        self.full = full
        self.lines: list[str] = []
        if not hangs:
            self.free.set()

    def emit(self, record: logging.LogRecord) -> None:
        self.free.wait(600)
        if self.full:
            self.handleError(record)
        else:
            self.lines.append(self.format(record).partition(" mom.plugin.test_logs: ")[2])


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    # Waiting lines are written at the end, also on a busy machine.
    monkeypatch.setattr(logs, "CLOSE_SECONDS", 60.0)
    yield (disk := Disk())
    disk.free.set()


def test_no_message_looks_like_another_record_or_steers_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    forged = "x\n2026-01-01 00:00:00,000 ERROR mom.engine: all is lost\r\x1b[2K\x9b1A\u2028"
    monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
    log = Log()
    try:
        raise ValueError(forged)
    except ValueError:
        LOG.warning("%s", forged, exc_info=True)
    log.end()
    first, *others = stream.getvalue().splitlines()
    assert first.endswith(" WARNING mom.plugin.test_logs: x")
    assert any("ValueError" in line for line in others)
    assert all(line.startswith("    ") and line.isprintable() for line in others)


def test_the_journal_gets_the_level_of_each_line_and_adds_the_time() -> None:
    def line(text: str, level: int) -> str:
        return LineFormatter(SecretMask(), for_journal=True).format(logging.LogRecord("mom.x", level, __file__, 7, text, None, None))

    assert line("two\nlines", logging.WARNING) == "<4>WARNING mom.x: two\n<4>    lines"
    assert [line("x", level)[:3] for level in (logging.DEBUG, logging.INFO, logging.ERROR)] == ["<7>", "<6>", "<3>"]


@pytest.mark.long
def test_a_disk_that_hangs_stops_nobody_and_what_is_lost_is_counted(disk: Disk) -> None:
    disk.free.clear()
    log = Log(disk)
    began = time.monotonic()
    for number in range(WAITING + 500):
        LOG.warning("line %s", "x" * number)
    assert time.monotonic() - began < 30
    assert log.lost >= 499
    disk.free.set()
    assert log.end()
    assert len(disk.lines) >= WAITING


def test_a_full_disk_stops_nobody_and_is_told_what_is_missing_when_it_has_room_again(disk: Disk) -> None:
    disk.full = True
    log = Log(disk)
    for number in range(10):
        LOG.warning("line %d", number)
    wait_until(lambda: log.lost == 10)
    disk.full = False
    LOG.warning("there is room again")
    log.end()
    assert [line or "dropped" for line in disk.lines] == ["there is room again", "dropped"]


def test_arguments_are_what_they_were_when_it_was_logged(disk: Disk) -> None:
    disk.free.clear()
    log, changing = Log(disk), [1]
    LOG.warning("have %s", changing)
    changing.append(2)
    disk.free.set()
    log.end()
    assert disk.lines == ["have [1]"]


def test_a_configuration_that_is_only_learnt_has_its_secrets_hidden_and_is_not_in_force(tmp_path: Path, disk: Disk) -> None:
    class Settings(PluginSettings):
        password: SecretStr

    settings = {"secretive": {"password": "correct horse"}}
    refused = config_of(tmp_path, {"secretive": type("Secretive", (), {"Settings": Settings})}, settings)
    log = Log(disk)
    log.use(Config(log_level="warning"))
    log.learn(refused)
    LOG.info("not this")
    LOG.warning("correct horse")
    log.use(Config(log_level="debug"))
    LOG.debug("this")
    log.end()
    assert disk.lines == [MASK, "this"]
