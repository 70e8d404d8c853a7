"""Real Prometheus with a test's configuration."""

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import yaml
from real_guests import not_here


class Prometheus:
    """Prometheus on a port of the loopback."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client

    def ask(self, query: str) -> list[dict[str, Any]]:
        """Return the series for a query. Fail on an error."""
        answer = self.client.get("/api/v1/query", params={"query": query})
        assert answer.status_code == httpx.codes.OK, f"{query}: {answer.text}"
        found: list[dict[str, Any]] = answer.json()["data"]["result"]
        return found

    def has(self, query: str) -> bool:
        """Return whether Prometheus is ready and has series for a query."""
        with suppress(httpx.HTTPError):
            return self.client.get("/-/ready").status_code == httpx.codes.OK and bool(self.ask(query))
        return False


@contextmanager
def running_prometheus(folder: Path, config: Mapping[str, object], port: int) -> Iterator[Prometheus]:
    """Run Prometheus with this configuration until the end of the block. The folder has its data and `prometheus.log`."""
    if shutil.which("prometheus") is None or shutil.which("promtool") is None:
        not_here("there is no prometheus (apt-get install prometheus)")
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(config))
    checked = subprocess.run(["promtool", "check", "config", path], capture_output=True, text=True, timeout=60, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    options = {"config.file": path, "storage.tsdb.path": folder / "data", "web.listen-address": f"127.0.0.1:{port}"}
    with (folder / "prometheus.log").open("wb") as log:
        command = ["prometheus", "--log.level=warn", *(f"--{name}={value}" for name, value in options.items())]
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            yield Prometheus(client)
    finally:
        server.terminate()
        server.wait(60)
