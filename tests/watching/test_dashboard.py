"""The shipped Grafana dashboard shows the verdict of `mom status`, with its words and scale.

promtool evaluates the dashboard's queries on made-up series."""

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from real_guests import not_here

DASHBOARD = json.loads((Path(__file__).parents[2] / "packaging/grafana/mom.json").read_text())
PANELS: Mapping[str, Mapping[str, Any]] = {panel["title"]: panel for panel in DASHBOARD["panels"]}

CALM = {
    'mom_verdict{severity="ok"}': 1, 'mom_verdict{severity="warning"}': 0, 'mom_verdict{severity="error"}': 0,
    "mom_host_killed_lately": 0, "mom_interval_seconds": 5, "mom_cycle_timestamp_seconds": 60,
}  # fmt: skip
WARNED = {**CALM, 'mom_verdict{severity="ok"}': 0, 'mom_verdict{severity="warning"}': 1}
WRONG = {**CALM, 'mom_verdict{severity="ok"}': 0, 'mom_verdict{severity="error"}': 1}
SHORT, FULL = (f'mom_condition_seconds{{condition="memory",severity="{severity}"}}' for severity in ("warning", "error"))


@pytest.mark.parametrize(
    ("title", "series", "text", "colour"),
    [
        ("Verdict", CALM, "ok", "green"),
        ("Verdict", WARNED, "warn", "orange"),
        ("Verdict", WRONG, "WRONG", "red"),
        ("Verdict", {**CALM, "mom_cycle_timestamp_seconds": -60}, "WRONG", "red"),
        ("Memory of the host", {**WARNED, SHORT: 400}, "short", "orange"),
        ("Memory of the host", {**WRONG, FULL: 0}, "full", "red"),
        ("Programs killed in 10 min", {**WRONG, "mom_host_killed_lately": 329}, "329", "red"),
    ],
)
def test_a_tile_shows_what_mom_status_says(tmp_path: Path, title: str, series: Mapping[str, int], text: str, colour: str) -> None:
    values = PANELS[title]["fieldConfig"]["defaults"]
    shown = {
        option["text"]: (int(value), option["color"]) for one in values.get("mappings", ()) for value, option in one["options"].items()
    }
    value = shown[text][0] if shown else int(text)
    by_step = [step["color"] for step in values["thresholds"]["steps"] if (step["value"] or 0) <= value][-1]
    assert (shown[text][1] if shown else by_step) == colour
    assert answered(tmp_path, PANELS[title]["targets"][0]["expr"], series, value) == ""


def test_the_chart_of_the_hosts_memory_has_its_watermarks() -> None:
    queries = " ".join(target["expr"] for target in PANELS["Host memory"]["targets"])
    assert set(re.findall(r"watermark_(\w+)_bytes", queries)) == {"high", "hard", "low"}


def answered(folder: Path, query: str, series: Mapping[str, int], value: int) -> str:
    """Return promtool's error if the result of a query after a minute differs from this value; otherwise empty."""
    if shutil.which("promtool") is None:
        not_here("there is no promtool (apt-get install prometheus)")
    given = [
        {"series": name.replace("{", '{instance="h",') if "{" in name else f'{name}{{instance="h"}}', "values": f"{made}x5"}
        for name, made in series.items()
    ]
    asked = {"expr": query.replace("$instance", ".*"), "eval_time": "1m", "exp_samples": [{"labels": "{}", "value": value}]}
    (folder / "test.yml").write_text(yaml.safe_dump({"tests": [{"interval": "1m", "input_series": given, "promql_expr_test": [asked]}]}))
    done = subprocess.run(["promtool", "test", "rules", folder / "test.yml"], capture_output=True, text=True, timeout=60, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr
