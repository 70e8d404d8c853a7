"""What the tests of this folder share."""

import secrets
import socket
from contextlib import suppress

import pytest


@pytest.fixture
def free_port() -> int:
    """A TCP port of the loopback on which nobody listens: below those that the kernel gives to whoever connects anywhere meanwhile."""
    while True:
        port = 10_000 + secrets.randbelow(20_000)
        with socket.socket() as sock, suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port
