"""Each shipped alert has a runbook, and each runbook has an alert."""

import re
import tomllib
from pathlib import Path

import click
import pytest
import yaml
from runbooks import FOLDER, commands

from mom_daemon.cli.frame import mom

ROOT = Path(__file__).parents[2]
RULES = {
    rule["alert"]: rule
    for name in ("mom-alerts.yml", "mom-fleet-alerts.yml")
    for rule in yaml.safe_load((ROOT / "packaging/prometheus" / name).read_text())["groups"][0]["rules"]
}

CONDITIONS = {
    **dict.fromkeys(("memory", "killed", "eviction", "guests", "plugin ksm", "of a third party"), ("error", "warning")),
    **dict.fromkeys(("growth", "promises", "pressure", "suffering"), ("warning",)),
    "ledger": ("error",),
}
"""Conditions of the host in `mom status`, keyed by severity."""
ADDRESS = tomllib.loads((ROOT / "mom_core/pyproject.toml").read_text())["project"]["urls"]["Homepage"]


def test_each_alert_has_its_page_and_each_page_its_alert() -> None:
    assert {path.stem for path in FOLDER.glob("*.md")} == {*RULES, "README"}
    listed = re.findall(r"^\| \[(\w+)\]\((\w+)\.md\) \|", (FOLDER / "README.md").read_text(), re.M)
    assert [name for name, page in listed if name == page] == list(RULES), "in the order of the rules"


@pytest.mark.parametrize(("condition", "severity"), [(name, severity) for name, several in CONDITIONS.items() for severity in several])
def test_each_condition_of_the_verdict_has_one_alert_which_is_as_bad_as_it_is(condition: str, severity: str) -> None:
    matching = [rule for rule in RULES.values() if _matches(rule["expr"], {"condition": condition, "severity": severity})]
    (rule,) = matching
    assert rule["labels"]["severity"] == {"error": "critical", "warning": "warning"}[severity]
    assert rule["expr"].endswith({"error": "}", "warning": "> 300"}[severity]), "an error is told at once"


def _matches(expression: str, labels: dict[str, str]) -> bool:
    """Return whether a rule is about a condition with these labels."""
    metric = re.match(r"mom_condition_seconds\{(.*)\}", expression)
    if metric is None:
        return False
    matchers = re.findall(r'(\w+)(=~|!~|=)"([^"]*)"', metric[1])
    return all((re.fullmatch(text, labels[name]) is None) is (how == "!~") for name, how, text in matchers)


@pytest.mark.parametrize("alert", RULES)
def test_the_metrics_that_a_rule_asks_for_are_documented(alert: str) -> None:
    documented = "".join((ROOT / "docs" / name).read_text() for name in ("metrics.md", "fleet.md"))
    asked = re.findall(r"\bmom_\w+", RULES[alert]["expr"])
    assert [name for name in asked if not re.search(rf"`{name}\b", documented)] == []


@pytest.mark.parametrize("alert", RULES)
def test_a_page_says_what_it_means_what_to_look_at_what_to_do_and_when_to_wake_somebody(alert: str) -> None:
    text = (FOLDER / f"{alert}.md").read_text()
    severity, first = RULES[alert]["labels"]["severity"], text.splitlines()[2]
    assert text.startswith(f"# {alert}\n")
    assert RULES[alert]["annotations"]["runbook_url"] == f"{ADDRESS}/blob/main/docs/runbooks/{alert}.md"
    assert first.startswith(f"{severity.capitalize()}: ")
    minutes = re.search(r"(\d+) min|a minute", first)
    assert "for" not in RULES[alert] or minutes
    assert "for" not in RULES[alert] or RULES[alert]["for"] == f"{(minutes and minutes[1]) or 1}m" or "intervals and a minute" in first
    parts = re.split(r"^## (.*)\n", text, flags=re.M)[1:]
    assert parts[::2] == ["What it means", "Look", "Do", "When to wake somebody"]
    assert all(part.strip() for part in parts[1::2])
    assert len(text.splitlines()) <= 60, "it is read at night"


@pytest.mark.parametrize("alert", RULES)
def test_the_verbs_that_a_page_names_exist(alert: str) -> None:
    text = (FOLDER / f"{alert}.md").read_text()
    told = re.findall(r"(?:^\$ |`|-- )mom ([a-z][\w-]*(?: [a-z][\w-]*)?)", text, re.M)
    assert told or "mom status" in text
    for words in told:
        command: click.Command | None = mom
        for word in words.split():
            if isinstance(command, click.Group):
                command = command.get_command(click.Context(command), word)
                assert command is not None, f"mom {words}"
    for shown in commands(alert):
        assert shown.lines, f"mom {' '.join(shown.words)}: and what does it print?"
