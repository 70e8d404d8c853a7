"""A real Prometheus scrapes a real `mom run` over TLS with a token, and evaluates all queries of the dashboard."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from http_over_tcp import tcp_settings
from mom_run import MomRun
from prometheus_process import Prometheus, running_prometheus
from real_guests import not_here

from mom_devkit import wait_until

pytestmark = pytest.mark.real

PACKAGING = Path(__file__).parents[2] / "packaging"

MAY_BE_EMPTY = (
    "mom_trial_",
    "mom_revisions_total",
    "mom_guest_swap_",
    "mom_plugin_retry_seconds",
    "mom_host_waited_today_",
    "mom_guest_killed_programs",
)
"""Metrics that exist only during trials of policies, while guests swap, after OOM kills, for plugins set aside, or with guests' stalls."""


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory, unused_port: Callable[[], int]) -> Iterator[Prometheus]:
    """Yield a Prometheus after several scrapes of a mom on a simulated host under pressure."""
    folder = tmp_path_factory.mktemp("prometheus")
    port, own = unused_port(), unused_port()
    tcp = tcp_settings(folder, port, read="read" * 8)
    pressure = {"load": "12GiB", "load_after": "1s", "load_for": "1h", "load_growth": "4GiB"}
    plugins = {"sim": pressure, "balloon": {}, "ksm": {}, "policy": {}, "record": {"reserve": "0"}, "http": {"tcp": tcp}}
    folders = {"state_directory": f"{folder}/state", "run_directory": f"{folder}/run"}
    mom = MomRun(folder)
    mom.config.write_text(
        yaml.safe_dump({"interval": "1s", **folders, "mode": "enforce", "plugins": plugins, "guests": {"*": {"guarantee": "128MiB"}}})
    )
    (scrape,) = yaml.safe_load((PACKAGING / "prometheus/scrape.yml").read_text())
    scrape |= {"scrape_interval": "1s", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
    scrape["authorization"]["credentials_file"] = tcp["read_token"]
    scrape["tls_config"]["ca_file"] = tcp["certificate"]
    with running_prometheus(folder, {"scrape_configs": [scrape]}, own) as started:
        mom.start()
        try:
            scraped = 'count_over_time(up{job="mom"}[5m]) >= 6 and up{job="mom"} == 1'
            wait_until(
                lambda: started.has(scraped) and started.has("mom_balloon_distance_bytes"),
                lambda: mom.log + (folder / "prometheus.log").read_text(),
            )
            yield started
            mom.stop()
        finally:
            mom.kill()


def in_force(query: str) -> str:
    """Return a query of the dashboard as Grafana sends it, with everything selected."""
    return re.sub(r"\$(instance|domain)\b", ".*", query).replace("$__rate_interval", "1m")


def test_every_query_of_the_dashboard_has_an_answer(prometheus: Prometheus) -> None:
    dashboard = json.loads((PACKAGING / "grafana/mom.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(queries) > 30
    for query in queries:
        found = prometheus.ask(in_force(query))
        assert found or any(name in query for name in MAY_BE_EMPTY), f"nobody answers {query}"


def test_every_variable_of_the_dashboard_has_values(prometheus: Prometheus) -> None:
    dashboard = json.loads((PACKAGING / "grafana/mom.json").read_text())
    variables = [one["query"]["query"] for one in dashboard["templating"]["list"] if one["type"] == "query"]
    for variable in variables:
        match = re.fullmatch(r"label_values\((.*), (\w+)\)", variable)
        assert match is not None, variable
        values = {one["metric"].get(match[2]) for one in prometheus.ask(in_force(match[1]))}
        assert values - {None}, variable


@pytest.mark.parametrize("tests", ["mom-alerts.test.yml", "mom-fleet-alerts.test.yml"])
def test_the_alert_rules_fire_when_they_should_and_only_then(tests: str) -> None:
    if shutil.which("promtool") is None:
        not_here("there is no promtool (apt-get install prometheus)")
    tested = subprocess.run(["promtool", "test", "rules", tests], cwd=PACKAGING / "prometheus", capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stdout + tested.stderr
