"""A real Prometheus scrapes a real `mom run` over TLS with a token; every query of the dashboard and of the alert rules is asked of it."""

import json
import re
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from http_over_tcp import tcp_settings
from real_guests import not_here

from mom_devkit import wait_until

pytestmark = pytest.mark.real

PACKAGING = Path(__file__).parents[2] / "packaging"

MAY_BE_EMPTY = ("mom_trial_", "mom_revisions_total", "mom_guest_swap_", "mom_plugin_retry_seconds", "mom_host_waited_today_")
"""What there is only while policies are on trial, guests swap, or plugins are set aside, or where guests tell how long they wait."""


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory, unused_port: Callable[[], int]) -> Iterator[httpx.Client]:
    """A Prometheus that has scraped a mom on a simulated host under pressure several times."""
    if shutil.which("prometheus") is None:
        not_here("there is no prometheus (apt-get install prometheus)")
    folder = tmp_path_factory.mktemp("prometheus")
    port, own = unused_port(), unused_port()
    tcp = tcp_settings(folder, port, read="read" * 8)
    pressure = {"load": "12GiB", "load_after": "1s", "load_for": "1h", "load_growth": "4GiB"}
    plugins = {"sim": pressure, "balloon": {}, "ksm": {}, "policy": {}, "record": {"reserve": "0"}, "http": {"tcp": tcp}}
    config = {"interval": "1s", "state_directory": f"{folder}/s", "run_directory": f"{folder}/r", "plugins": plugins}
    guests = {"*": {"guarantee": "128MiB"}}
    (folder / "mom.yaml").write_text(yaml.safe_dump({**config, "guests": guests}))
    (scrape,) = yaml.safe_load((PACKAGING / "prometheus/scrape.yml").read_text())
    scrape |= {"scrape_interval": "1s", "static_configs": [{"targets": [f"localhost:{port}"]}]}
    scrape["authorization"]["credentials_file"] = tcp["read_token"]
    scrape["tls_config"]["ca_file"] = tcp["certificate"]
    rules = [str(PACKAGING / "prometheus/mom-alerts.yml")]
    (folder / "prometheus.yml").write_text(
        yaml.safe_dump({"global": {"evaluation_interval": "2s"}, "scrape_configs": [scrape], "rule_files": rules})
    )
    checked = subprocess.run(["promtool", "check", "config", str(folder / "prometheus.yml")], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    mom = [str(Path(sys.executable).parent / "mom"), "run", "-c", str(folder / "mom.yaml")]
    options = {"config.file": folder / "prometheus.yml", "storage.tsdb.path": folder / "data", "web.listen-address": f"127.0.0.1:{own}"}
    server = ["prometheus", "--log.level=warn", *(f"--{name}={value}" for name, value in options.items())]
    with (folder / "log").open("wb") as log:
        processes = [subprocess.Popen(command, stdout=log, stderr=log) for command in (mom, server)]

    def log_text() -> str:
        return (folder / "log").read_text()

    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{own}", timeout=60) as client:
            wait_until(lambda: scrapes(client) >= 6 and bool(ask(client, "mom_balloon_distance_bytes")), log_text)
            yield client
    finally:
        for process in processes:
            process.send_signal(signal.SIGTERM)
        for process in processes:
            process.wait(60)


def scrapes(client: httpx.Client) -> float:
    try:
        if client.get("/-/ready").status_code != httpx.codes.OK:
            return 0  # it is still starting
        found = ask(client, 'count_over_time(up{job="mom"}[5m]) and up{job="mom"} == 1')
    except httpx.HTTPError:
        return 0
    return float(found[0]["value"][1]) if found else 0


def ask(client: httpx.Client, query: str) -> list[dict[str, Any]]:
    answer = client.get("/api/v1/query", params={"query": query})
    assert answer.status_code == 200, f"{query}: {answer.text}"
    found: list[dict[str, Any]] = answer.json()["data"]["result"]
    return found


def in_force(query: str) -> str:
    """A dashboard's query as Grafana sends it with everything selected."""
    return re.sub(r"\$(instance|domain)\b", ".*", query).replace("$__rate_interval", "1m")


def test_every_query_of_the_dashboard_has_an_answer(prometheus: httpx.Client) -> None:
    dashboard = json.loads((PACKAGING / "grafana/mom.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(queries) > 30
    for query in queries:
        found = ask(prometheus, in_force(query))
        assert found or any(name in query for name in MAY_BE_EMPTY), f"nobody answers {query}"


def test_every_variable_of_the_dashboard_has_values(prometheus: httpx.Client) -> None:
    dashboard = json.loads((PACKAGING / "grafana/mom.json").read_text())
    variables = [one["query"]["query"] for one in dashboard["templating"]["list"] if one["type"] == "query"]
    for variable in variables:
        match = re.fullmatch(r"label_values\((.*), (\w+)\)", variable)
        assert match is not None, variable
        values = {one["metric"].get(match[2]) for one in ask(prometheus, in_force(match[1]))}
        assert values - {None}, variable


def test_no_panel_lies_upon_another() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads((PACKAGING / "grafana/mom.json").read_text())["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_every_alert_rule_is_evaluated_without_an_error_and_knows_its_metrics(prometheus: httpx.Client) -> None:
    wait_until(lambda: all(rule["lastEvaluation"] > "0002" for rule in rules(prometheus)), lambda: "no rule was evaluated")
    for rule in rules(prometheus):
        assert rule["health"] in {"ok", "unknown"}, rule
        assert not rule.get("lastError"), rule
        metrics = set(re.findall(r"\b(?:mom|libvirt)_\w+|\bup\b", rule["query"]))
        assert metrics
        for metric in metrics:
            assert ask(prometheus, metric), f"{rule['name']} asks for {metric}, which nobody has"
    assert not ask(prometheus, 'ALERTS{alertstate="firing"}')


def rules(client: httpx.Client) -> list[dict[str, Any]]:
    groups = client.get("/api/v1/rules").json()["data"]["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_the_alert_rules_fire_when_they_should_and_only_then() -> None:
    if shutil.which("promtool") is None:
        not_here("there is no promtool (apt-get install prometheus)")
    tested = subprocess.run(
        ["promtool", "test", "rules", "mom-alerts.test.yml"], cwd=PACKAGING / "prometheus", capture_output=True, text=True, check=False
    )
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_without_the_token_nothing_is_scraped(prometheus: httpx.Client) -> None:
    (target,) = prometheus.get("/api/v1/targets").json()["data"]["activeTargets"]
    answer = httpx.get(target["scrapeUrl"], verify=_trusting())
    assert answer.status_code == 401


def _trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
