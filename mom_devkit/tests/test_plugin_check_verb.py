"""`mom plugin check` as a process: findings, cures and exit code."""

import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.processes

BIN = Path(sys.executable).parent
WRITTEN = '''
import os, sys, time, threading
from mom_core import FieldSpec, PluginSettings, Scope, Unit, hookimpl

{before}

class AcmePlugin:
    """A plugin for a test."""


    def __init__(self, settings, context):
        pass

    @hookimpl
    def mom_declare(self):
        return [FieldSpec("acme", Unit.COUNT, Scope.HOST, "A number", "nowhere")]

    @hookimpl
    def mom_collect_host(self):
        {body}
        return {{"acme": 1}}
'''


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Return a function that installs a plugin like pip, and returns its name."""

    def install(body: str = "pass", before: str = "") -> str:
        (tmp_path / "mom_acme").mkdir()
        (tmp_path / "mom_acme/__init__.py").write_text(WRITTEN.format(body=body, before=textwrap.dedent(before)))
        (tmp_path / "mom_acme/py.typed").write_text("")
        about = tmp_path / "mom_acme-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: mom-acme\nVersion: 1.0\nSummary: Acme\nRequires-Dist: mom-core\n")
        (about / "entry_points.txt").write_text("[mom.plugins]\nacme = mom_acme:AcmePlugin\n")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        return "acme"

    return install


def check(*arguments: object) -> tuple[int, str, str]:
    done = subprocess.run([BIN / "mom", "plugin", "check", *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False)
    return done.returncode, done.stdout, done.stderr


def test_a_valid_plugin_passes_and_its_output_is_ignored(acme: Callable[..., str]) -> None:
    code, out, err = check(acme("print('{}')"))
    assert (code, err) == (0, "")
    assert out == "acme (mom-acme 1.0): 10 checks, passed\n"


def test_a_fault_has_its_cure_and_exit_code_1(acme: Callable[..., str]) -> None:
    code, out, _ = check(acme('return {"acme": "many"}'))
    assert code == 1
    assert "error: results: its host field acme should be a number" in out
    assert "    return only declared fields" in out


@pytest.mark.parametrize(
    ("body", "before", "messages"),
    [
        ("os._exit(7)", "", {"results: its process exited with code 7"}),
        (
            "pass",
            "from mom_core.engine import Engine\nimport mom_devkit.hosts",
            {
                "packaging: mom_acme/__init__.py:5 imports mom_core.engine, which is private, or not installed where mom runs",
                "packaging: mom_acme/__init__.py:6 imports mom_devkit, which is private, or not installed where mom runs",
            },
        ),
    ],
)
def test_faults_are_findings(acme: Callable[..., str], body: str, before: str, messages: set[str]) -> None:
    code, out, err = check(acme(body, before), "--json")
    (result,) = json.loads(out)
    assert (code, result["passed"]) == (1, False), err
    assert messages <= {f"{finding['subject']}: {finding['message']}" for finding in result["findings"] if finding["severity"] == "error"}


def test_an_installed_plugin_is_checked_with_yaml_settings() -> None:
    code, out, _ = check("policy", "--settings", "{directory: /srv/policies}")
    assert code == 0, out
    assert check("policy", "--settings", "[1]")[0] == 2
    code, _, err = check("/no-such-plugin")
    assert (code, "is not installed" in err) == (2, True)


def test_wrong_settings_are_said_once_with_their_place_and_the_fix() -> None:
    code, out, _ = check("policy", "--settings", "{directry: /srv/policies, deadline: 3}")
    assert code == 1
    assert "2 checks, errors: 2" in out
    assert "settings of policy: directry: there is no such setting (did you mean 'directory'?)" in out
    assert "settings of policy: deadline: 3 has no unit (write it like 5s" in out
