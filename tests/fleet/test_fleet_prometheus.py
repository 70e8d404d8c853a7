"""A real Prometheus finds hosts in the output of `mom fleet status --json`, and scrapes them."""

import json
import signal
import subprocess
from collections.abc import Callable

from fleet_world import FleetWorld
from prometheus_process import running_prometheus


def test_prometheus_finds_and_scrapes_all_hosts_that_serve_metrics_by_a_file(fleet: FleetWorld, unused_port: Callable[[], int]) -> None:
    token, targets = fleet.folder / "token", fleet.folder / "mom-fleet.json"
    token.touch(0o600)
    token.write_text("read" * 8)
    by = {"authorization": {"type": "Bearer", "credentials_file": str(token)}, "tls_config": {"ca_file": str(fleet.ca)}}
    found = [{"files": [str(targets)], "refresh_interval": "1s"}]
    config = {"scrape_configs": [{"job_name": "mom", "scrape_interval": "1s", "file_sd_configs": found, **by}]}
    keys = {"certificate": str(fleet.home / "server.pem"), "key": str(fleet.home / "server-key.pem"), "read_token": str(token)}
    http = {"tcp": {"listen": f"0.0.0.0:{unused_port()}", "hosts": ["localhost"], **keys}}

    def write_targets() -> None:
        new = targets.with_suffix(".new")
        rows = [row for row in fleet.status()["hosts"] if row["metrics"]]
        found = [
            {"targets": [row["metrics"]], "labels": {"host": row["host"], "group": row["group"], "__scheme__": "https"}} for row in rows
        ]
        new.write_text(json.dumps(found))
        new.replace(targets)

    with running_prometheus(fleet.folder, config, unused_port()) as prometheus:
        fleet.enroll("h1", "g1", "--address", "host://localhost")
        fleet.enroll("h2", "g2")
        fleet.start_host("h1", 1, guests=1, http=http)
        fleet.start_host("h2", 2, guests=1)
        fleet.until(lambda: all(row["guests"] is not None for row in fleet.status()["hosts"]), "both are heard")
        write_targets()
        fleet.start_coordinator("c1", "--metrics", str(fleet.folder / "mom-fleet.prom"))
        fleet.until(lambda: prometheus.has('up{job="mom", host="h1", group="g1"} == 1'), "it scrapes the host that has metrics")
        fleet.until(lambda: prometheus.has('mom_host_memory_total_bytes{host="h1"}'), "and has its metrics")
        assert prometheus.ask('up{host="h2"}') == []
        own = fleet.folder / "mom-fleet.prom"
        fleet.until(
            lambda: own.exists() and b'mom_fleet_host_heard{host="h2",group="g2"}' in own.read_bytes(), "the coordinator writes its own"
        )
        written = own.read_bytes()
        subprocess.run(["promtool", "check", "metrics"], input=written, check=True, capture_output=True, timeout=60)
        fleet.kill("c1", signal.SIGTERM)
        assert not (fleet.folder / "mom-fleet.prom").exists()
        # A lost host stays listed as down; a removed host does not.
        fleet.kill("h1")
        fleet.until(lambda: prometheus.has('up{job="mom", host="h1"} == 0'), "its silence is seen")
        fleet.fleet("remove", "h1")
        write_targets()
        fleet.until(lambda: not prometheus.ask('up{job="mom", host="h1"}'), "it is looked for no more")
