"""mom on a simulated host with a real unix socket, and a client."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from unix_clients import client_of

from mom_core import Engine, Report
from mom_devkit import config_of
from mom_plugins_http import HttpPlugin
from mom_plugins_http.service import Service

Serve = Callable[..., "Served"]


@dataclass
class Served:
    """mom with a server and a client. Tests run its cycles."""

    engine: Engine
    path: Path
    client: httpx.Client

    @property
    def plugin(self) -> HttpPlugin:
        (found,) = (one.instance for one in self.engine.plugins.plugins if isinstance(one.instance, HttpPlugin))
        return found

    @property
    def service(self) -> Service:
        assert self.plugin._service is not None
        return self.plugin._service

    def tell(self, report: Report) -> None:
        """Report a cycle like the engine."""
        self.plugin.mom_report(report)

    def ask(self, method: str, url: str, status: int = 200, seen: str | None = "*", **more: Any) -> Any:
        """Send a request, and return the answer of this status. Changes of policies send the version `seen`."""
        answer = self.client.request(method, url, headers={} if seen is None else {"if-match": seen}, **more)
        assert answer.status_code == status, answer.text
        return answer.json()

    def get(self, url: str, status: int = 200) -> Any:
        return self.ask("GET", url, status)

    def put(self, name: str, text: str = "(+ 1 2)", seen: str = "*") -> httpx.Response:
        """Set a policy."""
        return self.client.patch("/v1/policies", json={"changes": {name: text}}, headers={"if-match": seen})

    def version(self) -> str:
        """Entity tag of the policies."""
        return self.client.get("/v1/policies").headers["etag"]


def patient(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let mom wait this long for clients."""
    for module in ("server.server", "routes.route"):
        monkeypatch.setattr(f"mom_plugins_http.{module}.PATIENCE_SECONDS", seconds)


@contextmanager
def serving(folder: Path) -> Iterator[Serve]:
    """Yield a function that starts moms in folders below this one. They end with the block."""
    with ExitStack() as stack:
        numbers = count(1)

        def start(cycles: int = 1, plugins: dict[str, Any] | None = None, without: Sequence[str] = (), **settings: object) -> Served:
            own = folder / str(next(numbers))
            own.mkdir()
            usual = {"sim": {}, "balloon": {}, "ksm": {}, "policy": {}, **(plugins or {}), "http": settings}
            enabled = {name: said for name, said in usual.items() if name not in without}
            engine = stack.enter_context(Engine(config_of(own, enabled, interval=3600.0)))
            for _ in range(cycles):
                engine.cycle()
            path = own / "run/mom.sock"
            return Served(engine, path, stack.enter_context(client_of(path)))

        yield start
