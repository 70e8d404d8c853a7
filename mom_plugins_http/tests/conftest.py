"""A mom on a simulated host that serves a real unix socket, and clients for it."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from mom_core import Engine, Report, load_config
from mom_plugins_http import HttpPlugin

Serve = Callable[..., "Served"]


@dataclass
class Served:
    """A mom that serves, and what a test asks it with. Cycles are done by the test."""

    engine: Engine
    path: Path
    client: httpx.Client

    @property
    def plugin(self) -> HttpPlugin:
        (found,) = (one.instance for one in self.engine.plugins.plugins if isinstance(one.instance, HttpPlugin))
        return found

    def tell(self, report: Report) -> None:
        """As the engine tells of a cycle."""
        self.plugin.mom_report(report)

    def get(self, url: str, status: int = 200, **more: Any) -> Any:
        answer = self.client.get(url, **more)
        assert answer.status_code == status, answer.text
        return answer.json()

    def version(self) -> str:
        """The entity tag of the policies."""
        return self.client.get("/v1/policies").headers["etag"]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts a mom with these settings of the plugin http."""
    with ExitStack() as stack:
        started = 0

        def start(cycles: int = 1, plugins: dict[str, object] | None = None, **settings: object) -> Served:
            nonlocal started
            started += 1
            folder = tmp_path / str(started)
            folder.mkdir(exist_ok=True)
            config = load_config(
                {
                    "interval": "1h",
                    "state_directory": str(folder / "state"),
                    "run_directory": str(folder / "run"),
                    "plugins": {"sim": {}, "balloon": {}, "ksm": {}, "policy": {}, **(plugins or {}), "http": settings},
                }
            )
            engine = stack.enter_context(Engine(config))
            for _ in range(cycles):
                engine.cycle()
            path = folder / "run/mom.sock"
            client = stack.enter_context(
                httpx.Client(transport=httpx.HTTPTransport(uds=str(path), verify=False), base_url="http://mom", timeout=60)
            )
            return Served(engine, path, client)

        yield start


def unused_port() -> int:
    """A TCP port of the loopback on which nobody listens: below those that the kernel gives to whoever connects anywhere meanwhile."""
    while True:
        port = 10_000 + secrets.randbelow(20_000)
        with socket.socket() as sock, suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port


@pytest.fixture
def free_port() -> int:
    """Another one for each test."""
    return unused_port()


@pytest.fixture(scope="module")
def modules_port() -> int:
    """One for all tests of a module."""
    return unused_port()
