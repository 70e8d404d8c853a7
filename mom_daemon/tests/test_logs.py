"""The log of a running mom: fields, formats, the journal's protocol, repetitions, and that nobody ever waits for it."""

import io
import json
import logging
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr

import mom_daemon.logs.writer as writer_module
from mom_core import PluginSettings
from mom_core.config import Config
from mom_core.plugins.secrets import MASK, SecretMask
from mom_daemon.logs import Log
from mom_daemon.logs.formats import JsonFormatter, TextFormatter
from mom_daemon.logs.writer import WAITING, Writer
from mom_devkit import config_of, wait_until

LOG = logging.getLogger("mom.plugin.test_logs")


def record(text: str, *arguments: object, level: int = logging.WARNING, name: str = "mom.plugin.ksm", **extra: object) -> logging.LogRecord:
    made = logging.LogRecord(name, level, __file__, 7, text, arguments, None, "function")
    if extra:
        made.mom = extra
    return made


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits at the end is written, however busy the machine is."""
    monkeypatch.setattr(writer_module, "CLOSE_SECONDS", 60.0)


class Slow(logging.Handler):
    """A disk that hangs until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.free = threading.Event()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.free.wait(600)
        self.lines.append(record.getMessage())


class Full(logging.Handler):
    """A disk that is full."""

    def emit(self, record: logging.LogRecord) -> None:
        raise OSError(28, "No space left on device")


# --- formats ----------------------------------------------------------------------------------------------------------------------------


FORGED = "x\n2026-01-01 00:00:00,000 ERROR mom.engine: all is lost\r\x1b[2K\x9b1A\u2028"


def test_no_message_looks_like_another_record_or_steers_a_terminal() -> None:
    try:
        raise ValueError(FORGED)
    except ValueError:
        made = record("%s", FORGED)
        made.exc_info = sys.exc_info()
    first, *others = TextFormatter(SecretMask(), for_journal=False).format(made).split("\n")
    assert first.endswith(" WARNING mom.plugin.ksm: x")
    assert others
    assert all(line.startswith("    ") and line.isprintable() for line in others)
    line = JsonFormatter(SecretMask()).format(made)
    assert line.isprintable()
    assert json.loads(line)["message"].startswith(FORGED), "programs get what was said"


def test_json_has_a_line_with_fields() -> None:
    line = JsonFormatter(SecretMask()).format(record("grew\nby %d", 5, guest="web-1", cycle=7))
    assert "\n" not in line
    content = json.loads(line)
    assert content.pop("time").endswith("+00:00")
    assert content == {
        "level": "warning",
        "logger": "mom.plugin.ksm",
        "message": "grew\nby 5",
        "plugin": "ksm",
        "guest": "web-1",
        "cycle": "7",
    }


# --- the journal ------------------------------------------------------------------------------------------------------------------------


def test_the_journal_gets_the_level_of_each_line_and_adds_the_time() -> None:
    text = TextFormatter(SecretMask(), for_journal=True)
    assert text.format(record("two\nlines")) == "<4>WARNING mom.plugin.ksm: two\n<4>    lines"
    assert [text.format(record("x", level=level))[:3] for level in (logging.DEBUG, logging.INFO, logging.ERROR)] == ["<7>", "<6>", "<3>"]


# --- writing -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_a_disk_that_hangs_stops_nobody_and_what_is_lost_is_counted() -> None:
    sink = Slow()
    writer = Writer(sink)
    began = time.monotonic()
    for number in range(WAITING + 500):
        writer.handle(record("%s", f"line {'x' * number}", level=logging.INFO, name="mom"))
    assert time.monotonic() - began < 30
    assert writer.lost >= 499
    sink.free.set()
    writer.close()
    assert any("log lines that could not be written" in line for line in sink.lines)


def test_a_full_disk_stops_nobody_and_is_told_what_is_missing_when_it_has_room_again() -> None:
    sink = Full()
    writer = Writer(sink)
    for number in range(10):
        writer.handle(record(f"line {'x' * number}"))
    wait_until(lambda: writer.lost == 10)
    room = Slow()
    room.free.set()
    writer.sink = room
    writer.handle(record("there is room again"))
    writer.close()
    assert [line for line in room.lines if "dropped" in line] == ["dropped 10 log lines that could not be written in time"]


def test_arguments_are_what_they_were_when_it_was_logged() -> None:
    sink = Slow()
    writer = Writer(sink, cycle=lambda: 12)
    changing = [1]
    writer.handle(record("have %s", changing))
    changing.append(2)
    sink.free.set()
    writer.close()
    assert sink.lines == ["have [1]"]


def test_a_configuration_that_is_only_learnt_has_its_secrets_hidden_and_is_not_in_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Settings(PluginSettings):
        password: SecretStr

    settings = {"secretive": {"password": "correct horse"}}
    refused = config_of(tmp_path, {"secretive": type("Secretive", (), {"Settings": Settings})}, settings)
    monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
    log, in_force = Log(), Config(log_level="warning")
    try:
        log.use(in_force)
        log.learn(replace(refused, log_level="debug", log_format="json"))
        LOG.info("not this")
        LOG.warning("correct horse")
        log.toggle_debug(in_force)
        log.use(in_force)  # as after each cycle
        LOG.debug("and what was changed at run time stays")
        log.use(Config(log_level="info"))
        LOG.debug("nor this")
    finally:
        log.close()
    text = stream.getvalue()
    assert "not this" not in text
    assert "nor this" not in text
    assert f"WARNING mom.plugin.test_logs: {MASK}" in text
    assert "stays" in text
