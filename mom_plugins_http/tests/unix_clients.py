"""Clients of mom's socket, and what they wait for. Tests import it by its name: `conftest` is another folder's when all are tested."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import httpx

Found = TypeVar("Found")


def client_of(path: Path, name: str = "mom") -> httpx.Client:
    """A client of this socket, which calls the server by this name."""
    return httpx.Client(transport=httpx.HTTPTransport(uds=str(path), verify=False), base_url=f"http://{name}", timeout=60)


def wait_until(what: Callable[[], Found | None], explain: Callable[[], object] = str) -> Found:
    """What there is, or is so, as soon as it is."""
    until = time.monotonic() + 60
    while not (found := what()):
        assert time.monotonic() < until, explain()
        time.sleep(0.01)
    return found
