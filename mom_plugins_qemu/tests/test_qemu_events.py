"""A monitor of mom's own whose QEMU tells of more than anybody can want to know."""

import logging
import select
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from fake_monitors import FakeHost

from mom_devkit import wait_until
from mom_plugins_qemu import events
from mom_plugins_qemu.events import EventMonitors

SECONDS = 2.0
STOPPED = b'{"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 2}}\r\n'
FLOODS = {"events": STOPPED, "small-messages": b"{}\n", "a-line-without-end": b"x"}


@pytest.mark.long
def test_floods_of_events_are_read_slowly_and_said_once_each(host: FakeHost, caplog: pytest.LogCaptureFixture) -> None:
    floods = [host.add(name, without_end=text) for name, text in FLOODS.items()]
    told: list[str] = []
    log = logging.getLogger("test")
    listening = EventMonitors(Path("/"), [f"{host.folder}/*.qmp"], lambda _, text: told.append(text), lambda *_: None, log)
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


def test_what_fails_for_want_of_open_files_is_told_and_tried_again(
    host: FakeHost, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    epoll, tries = select.epoll, []

    def failing() -> Any:
        tries.append(1)
        if len(tries) == 1:
            raise OSError(24, "Too many open files")
        return epoll()

    with socket.socket(socket.AF_UNIX) as nobody:
        nobody.bind(str(host.folder / "nobody.qmp"))
    host.add("web")
    told: list[str] = []
    monkeypatch.setattr(events, "_FAILURE_SECONDS", 0.05)
    monkeypatch.setattr(select, "epoll", failing)
    log = logging.getLogger("test")
    listening = EventMonitors(Path("/"), [f"{host.folder}/*.qmp"], lambda _, text: told.append(text), lambda *_: None, log)
    listening.start()
    try:
        wait_until(lambda: told == ["has a monitor now"], "nothing was heard after the failure", 10)
    finally:
        listening.stop()
    assert caplog.messages == ["listening on monitors failed"]
