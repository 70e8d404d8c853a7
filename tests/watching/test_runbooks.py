"""Each shipped alert leads to a page that says what to do, and each page is an alert's."""

import re
import tomllib
from pathlib import Path

import click
import pytest
import yaml
from runbooks import FOLDER, commands

from mom_daemon.cli.frame import mom

ROOT = Path(__file__).parents[2]
RULES = {rule["alert"]: rule for rule in yaml.safe_load((ROOT / "packaging/prometheus/mom-alerts.yml").read_text())["groups"][0]["rules"]}
ADDRESS = tomllib.loads((ROOT / "mom_core/pyproject.toml").read_text())["project"]["urls"]["Homepage"]


def test_each_alert_has_its_page_and_each_page_its_alert() -> None:
    assert {path.stem for path in FOLDER.glob("*.md")} == {*RULES, "README"}
    listed = re.findall(r"^\| \[(\w+)\]\((\w+)\.md\) \|", (FOLDER / "README.md").read_text(), re.M)
    assert [name for name, page in listed if name == page] == list(RULES), "in the order of the rules"


@pytest.mark.parametrize("alert", RULES)
def test_an_alert_leads_to_its_page_in_the_repository(alert: str) -> None:
    assert RULES[alert]["annotations"]["runbook_url"] == f"{ADDRESS}/blob/main/docs/runbooks/{alert}.md"


@pytest.mark.parametrize("alert", RULES)
def test_a_page_says_what_it_means_what_to_look_at_what_to_do_and_when_to_wake_somebody(alert: str) -> None:
    text = (FOLDER / f"{alert}.md").read_text()
    severity, first = RULES[alert]["labels"]["severity"], text.splitlines()[2]
    assert text.startswith(f"# {alert}\n")
    assert first.startswith(f"{severity.capitalize()}: ")
    minutes = re.search(r"(\d+) min|a minute", first)
    assert "for" not in RULES[alert] or minutes
    assert "for" not in RULES[alert] or RULES[alert]["for"] == f"{(minutes and minutes[1]) or 1}m" or "intervals and a minute" in first
    parts = re.split(r"^## (.*)\n", text, flags=re.M)[1:]
    assert parts[::2] == ["What it means", "Look", "Do", "Wake somebody"]
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
