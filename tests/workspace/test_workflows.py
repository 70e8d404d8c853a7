"""Workflows on GitHub have only the rights that they need, and their commands exist."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted([*ROOT.glob(".github/workflows/*.yml"), *ROOT.glob("examples/*/.github/workflows/*.yml")])
RELEASE = ROOT / ".github/workflows/release.yml"


def workflow(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.load(path.read_text(), Loader=yaml.BaseLoader)  # noqa: S506  # `on` is a text: no objects are made
    return content


def steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in workflow(path)["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_may_do_nothing_that_it_does_not_name_and_ends(path: Path) -> None:
    content = workflow(path)
    assert content["permissions"] in ({}, "", {"contents": "read"})
    for name, job in content["jobs"].items():
        assert int(job["timeout-minutes"]) <= 60, name
        for step in job["steps"]:
            assert ("run" in step) != ("uses" in step)
            if "uses" in step:
                assert re.fullmatch(r"[\w-]+/[\w.-]+@[0-9a-f]{40}", step["uses"]), "a commit: a tag can be moved"
            assert "${{" not in step.get("run", ""), "what an event says reaches a shell as a variable, and is never part of its text"
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] == "false"


def test_sessions_and_files_that_workflows_call_are_there() -> None:
    tree = ast.parse((ROOT / "noxfile.py").read_text())
    sessions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.decorator_list}
    called = [step["run"] for step in steps(RELEASE) if "run" in step]
    named = {name for command in called for found in re.findall(r"nox -s ((?:[a-z]+ ?)+)", command) for name in found.split()}
    assert named
    assert named <= sessions
    for script in re.findall(r"packaging/[\w/]+\.py", "\n".join(called)):
        assert (ROOT / script).is_file()
