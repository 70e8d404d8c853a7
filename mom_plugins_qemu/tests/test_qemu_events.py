"""A monitor of mom's own whose QEMU tells of more than anybody can want to know."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from mom_plugins_qemu.events import EventMonitors

SECONDS = 3.0
STOPPED = b'{"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 2}}\r\n'
FLOODS = {"events": STOPPED * 500, "small messages": b"{}\n" * 10_000, "a line without end": b"x" * 30_000}


class Flood:
    """A QEMU that sends the same again and again to each that connects, until the end."""

    def __init__(self, path: Path, text: bytes) -> None:
        self.sent = 0
        self._text = text
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen()
        self._server.settimeout(0.05)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while not self._ended.is_set():
            try:
                client, _ = self._server.accept()
            except TimeoutError:
                continue
            with client:
                client.settimeout(0.05)
                self._send(client, b'{"QMP": {}}\r\n')
                while not self._ended.is_set() and self._send(client, self._text):
                    pass

    def _send(self, client: socket.socket, text: bytes) -> bool:
        while text and not self._ended.is_set():
            try:
                count = client.send(text)
            except TimeoutError:
                continue
            except OSError:
                return False
            self.sent += count
            text = text[count:]
        return True

    def end(self) -> None:
        self._ended.set()
        self._thread.join()
        self._server.close()


@pytest.fixture
def floods(tmp_path: Path) -> Iterator[Sequence[Flood]]:
    made = [Flood(tmp_path / f"{number}.events", text) for number, text in enumerate(FLOODS.values())]
    yield made
    for one in made:
        one.end()


def test_floods_of_events_are_read_slowly_and_said_once_each(
    floods: Sequence[Flood], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[str] = []
    log = logging.getLogger("test")
    listening = EventMonitors(Path("/"), [f"{tmp_path}/*.events"], lambda _, text: told.append(text), lambda *_: None, log)
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
