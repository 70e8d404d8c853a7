"""The relay between libvirt's client and a pod. It limits the length of messages, and ends other connections."""

import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from mom_plugins_kubevirt.pod_socket import MOST_BYTES, Relay

SECONDS = 20.0


class Passage:
    """Connection of a client to a pod's socket through the relay."""

    def __init__(self, folder: Path, relay: Relay) -> None:
        self.refused: list[str] = []
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(folder / "s"))
            listener.listen()
            with relay.to(str(folder / "s"), self.refused.append) as path:
                self.client = socket.socket(socket.AF_UNIX)
                self.client.connect(path)
            self.pod, _ = listener.accept()
        for one in (self.client, self.pod):
            one.settimeout(SECONDS)

    def hears(self, number: int) -> bytes:
        """Return this number of bytes, or those before the end."""
        heard = b""
        while len(heard) < number and (more := self.client.recv(number - len(heard))):
            heard += more
        return heard

    def close(self) -> None:
        self.client.close()
        self.pod.close()


@pytest.fixture
def relay() -> Iterator[Relay]:
    made = Relay()
    yield made
    made.stop(SECONDS)


@pytest.fixture
def passage(relay: Relay) -> Iterator[Passage]:
    with TemporaryDirectory(prefix="relay-") as folder:  # paths of sockets have at most 107 bytes
        made = Passage(Path(folder), relay)
        yield made
        made.close()


def message(size: int) -> bytes:
    return struct.pack(">I", size) + bytes(size - 4)


def test_requests_and_answers_are_passed_on_whole(passage: Passage) -> None:
    passage.client.sendall(b"request")
    assert passage.pod.recv(100) == b"request"
    answers = message(4) + message(28) + message(5) + message(MOST_BYTES)

    def send() -> None:
        for byte in range(35):  # messages may come in any pieces
            passage.pod.sendall(answers[byte : byte + 1])
        passage.pod.sendall(answers[35:])

    sender = threading.Thread(target=send)
    sender.start()
    assert passage.hears(len(answers)) == answers
    sender.join(SECONDS)
    assert passage.refused == []


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (message(28) + struct.pack(">I", 32 << 20), f"its libvirt sends a message of {32 << 20} bytes, and the limit for one guest is"),
        (message(28) + struct.pack(">I", MOST_BYTES + 1), f"its libvirt sends a message of {MOST_BYTES + 1} bytes"),
        (message(28) + bytes(4), "its libvirt does not speak libvirt's protocol"),
    ],
)
def test_a_message_that_is_too_long_ends_the_connection_before_any_of_it_is_read(passage: Passage, sent: bytes, why: str) -> None:
    passage.pod.sendall(sent[:28])
    assert passage.hears(28) == sent[:28]
    passage.pod.sendall(sent[28:])
    assert passage.client.recv(1) == b""
    assert [one[: len(why)] for one in passage.refused] == [why]


def test_after_its_end_nothing_is_connected(relay: Relay) -> None:
    with TemporaryDirectory(prefix="relay-") as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{folder}/s")
        listener.listen()
        relay.stop(SECONDS)
        with pytest.raises(OSError, match="mom is stopping"), relay.to(f"{folder}/s", print):
            pass
