"""A real Prometheus reads the list of hosts that `mom fleet targets` prints, and scrapes them."""

import shutil
import signal
import subprocess
from contextlib import closing
from typing import Any

import httpx
import yaml
from fleet_world import FleetWorld, free_port, port_of
from real_guests import not_here

TOKEN = "read" * 8


class Monitoring:
    """A Prometheus that reads the hosts from a file."""

    def __init__(self, fleet: FleetWorld) -> None:
        self.fleet = fleet
        self.token = fleet.folder / "token"
        self.token.touch(0o600)
        self.token.write_text(TOKEN)
        self._places = [free_port() for _ in range(2)]
        self.host, self.own = map(port_of, self._places)
        self._targets = fleet.folder / "mom-fleet.json"
        by = {"authorization": {"type": "Bearer", "credentials_file": str(self.token)}, "tls_config": {"ca_file": str(fleet.ca)}}
        found = [{"files": [str(self._targets)], "refresh_interval": "1s"}]
        self._config = fleet.folder / "prometheus.yml"
        self._config.write_text(
            yaml.safe_dump({"scrape_configs": [{"job_name": "mom", "scrape_interval": "1s", "file_sd_configs": found, **by}]})
        )
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.own}", timeout=60)

    def write_targets(self) -> None:
        new = self._targets.with_suffix(".new")
        new.write_text(self.fleet.fleet("targets"))
        new.replace(self._targets)

    def start(self) -> None:
        subprocess.run(["promtool", "check", "config", str(self._config)], check=True, capture_output=True, timeout=60)
        data = f"--storage.tsdb.path={self.fleet.folder}/data"
        command = ["prometheus", "--log.level=warn", f"--config.file={self._config}", data, f"--web.listen-address=127.0.0.1:{self.own}"]
        self.fleet.start_program("prometheus", command)

    def http_settings(self) -> dict[str, Any]:
        tcp = {
            "certificate": str(self.fleet.home / "server.pem"),
            "key": str(self.fleet.home / "server-key.pem"),
            "read_token": str(self.token),
        }
        return {"tcp": {"listen": f"0.0.0.0:{self.host}", "hosts": ["localhost"], **tcp}}

    def ask(self, query: str) -> list[dict[str, Any]]:
        try:
            answer = self.client.get("/api/v1/query", params={"query": query})
        except httpx.HTTPError:
            return []
        found: list[dict[str, Any]] = answer.json()["data"]["result"] if answer.status_code == httpx.codes.OK else []
        return found

    def close(self) -> None:
        self.client.close()
        for place in self._places:
            place.close()


def test_prometheus_finds_and_scrapes_all_hosts_that_serve_metrics_by_a_file(fleet: FleetWorld) -> None:
    if shutil.which("prometheus") is None or shutil.which("promtool") is None:
        not_here("there is no prometheus (apt-get install prometheus)")
    with closing(Monitoring(fleet)) as monitoring:
        fleet.enroll("h1", "g1", "--metrics-host", "localhost")
        fleet.enroll("h2", "g2")
        fleet.start_host("h1", 1, guests=1, http=monitoring.http_settings())
        fleet.start_host("h2", 2, guests=1)
        fleet.until(lambda: all(row["guests"] is not None for row in fleet.status()["hosts"]), "both are heard")
        monitoring.write_targets()
        monitoring.start()
        fleet.start_coordinator("c1", "--metrics", str(fleet.folder / "mom-fleet.prom"))
        fleet.until(lambda: monitoring.ask('up{job="mom", host="h1", group="g1"} == 1'), "it scrapes the host that has metrics")
        fleet.until(lambda: monitoring.ask('mom_host_memory_total_bytes{host="h1"}'), "and has its metrics")
        assert not monitoring.ask('up{host="h2"}')
        fleet.until((fleet.folder / "mom-fleet.prom").exists, "the coordinator writes its own")
        written = (fleet.folder / "mom-fleet.prom").read_bytes()
        assert b'mom_fleet_host_without_metrics{host="h2",group="g2",why="it serves no metrics' in written
        subprocess.run(["promtool", "check", "metrics"], input=written, check=True, capture_output=True, timeout=60)
        fleet.kill("c1", signal.SIGTERM)
        assert not (fleet.folder / "mom-fleet.prom").exists()
        # A host that has gone is missed; one that was taken out is not.
        fleet.kill("h1")
        fleet.until(lambda: monitoring.ask('up{job="mom", host="h1"} == 0'), "its silence is seen")
        fleet.fleet("remove", "h1")
        monitoring.write_targets()
        fleet.until(lambda: not monitoring.ask('up{job="mom", host="h1"}'), "it is looked for no more")
        fleet.kill("prometheus", signal.SIGTERM)
