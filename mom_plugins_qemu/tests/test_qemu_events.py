"""A monitor of mom's own whose QEMU tells of more than anybody can want to know."""

import logging
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from fake_monitors import FakeHost

from mom_devkit import wait_until
from mom_plugins_qemu import events
from mom_plugins_qemu.events import EventMonitors
from mom_plugins_qemu.monitors import trusted_users

SECONDS = 2.0
STOPPED = b'{"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 2}}\r\n'
LONG = b'{"event": "X", "data": [' + b"[]," * 20_000 + b"0]}\n"
FLOODS = {"events": STOPPED, "small-messages": b"{}\n", "long-messages": LONG, "a-line-without-end": b"x"}


def listener(host: FakeHost, told: list[str]) -> EventMonitors:
    log, users = logging.getLogger("test"), trusted_users(())
    return EventMonitors(Path("/"), [f"{host.folder}/*.qmp"], lambda _, text: told.append(text), lambda *_: None, log, users)


@pytest.mark.long
def test_floods_of_events_are_read_slowly_and_said_once_each(host: FakeHost, caplog: pytest.LogCaptureFixture) -> None:
    floods = [host.add(name, without_end=text) for name, text in FLOODS.items()]
    told: list[str] = []
    listening = listener(host, told)
    listening.start()
    try:
        time.sleep(SECONDS)
    finally:
        listening.stop()
    for flood in floods:
        assert flood.sent > 4096, "it was read at all"
        assert flood.sent < (512 << 10) + SECONDS * (250 << 10), "a socket's buffer, and 50 reads a second"
    assert len(told) < 2 + SECONDS * 400
    assert len(caplog.messages) == len(set(caplog.messages)) <= len(floods)


def test_after_a_failure_the_search_goes_on(host: FakeHost, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    really, tries = events.find_monitors, []

    def failing(*arguments: Any) -> list[str]:
        tries.append(1)
        return really(*arguments) if len(tries) > 1 else [str(1 // 0)]

    with socket.socket(socket.AF_UNIX) as nobody:
        nobody.bind(str(host.folder / "nobody.qmp"))
    host.add("web")
    told: list[str] = []
    monkeypatch.setattr(events, "_FAILURE_SECONDS", 0.05)
    monkeypatch.setattr(events, "find_monitors", failing)
    listening = listener(host, told)
    listening.start()
    try:
        wait_until(lambda: told == ["has a monitor now"], "nothing was heard after the failure", 10)
    finally:
        listening.stop()
    assert caplog.messages == ["searching for monitors failed"]


def test_after_an_unexpected_failure_a_monitor_is_read_again(
    host: FakeHost, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    really, tries = events.message, []

    def failing(line: bytes) -> Mapping[str, Any]:
        tries.append(1)
        return really(line) if len(tries) > 1 else {"event": 1 // 0}

    host.add("web")
    told: list[str] = []
    monkeypatch.setattr(events, "_RETRY_SECONDS", 0.05)
    monkeypatch.setattr(events, "_SEARCH_SECONDS", 0.05)
    monkeypatch.setattr(events, "message", failing)
    listening = listener(host, told)
    listening.start()
    try:
        wait_until(lambda: told.count("has a monitor now") > 1, "it was not connected to again", 10)
    finally:
        listening.stop()
    assert "reading events from" in caplog.text
