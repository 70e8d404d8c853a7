"""`mom plugin check`: in a process of its own, with findings, cures and an exit code."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
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
def project(tmp_path: Path):
    def write(body: str = "pass", before: str = "") -> Path:
        folder = tmp_path / "acme"
        (folder / "src/mom_acme").mkdir(parents=True)
        (folder / "src/mom_acme/__init__.py").write_text(WRITTEN.format(body=body, before=textwrap.dedent(before)))
        (folder / "src/mom_acme/py.typed").write_text("")
        (folder / "pyproject.toml").write_text(
            '[project]\nname = "mom-acme"\nversion = "1.0"\ndescription = "Acme"\ndependencies = ["mom-core"]\n'
            '[project.entry-points."mom.plugins"]\nacme = "mom_acme:AcmePlugin"\n'
        )
        return folder

    return write


def check(*arguments: object) -> tuple[int, str, str]:
    done = subprocess.run([BIN / "mom", "plugin", "check", *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False)
    return done.returncode, done.stdout, done.stderr


def found(folder: Path) -> dict[str, str]:
    code, out, err = check(folder, "--json")
    (result,) = json.loads(out)
    assert (code == 0) == result["passed"], err
    return {f"{finding['severity']} {finding['subject']}": finding["message"] for finding in result["findings"]}


def test_a_plugin_without_faults_passes(project) -> None:
    code, out, err = check(project())
    assert (code, err) == (0, "")
    assert out.startswith("acme (mom-acme 1.0): ")
    assert out.endswith(": 10 checks, passed\n")


def test_a_fault_has_its_cure_and_exit_code_1(project) -> None:
    code, out, _ = check(project('return {"acme": "many"}'))
    assert code == 1
    assert "error: results: its host field acme should be a number" in out
    assert "    return what was declared" in out


def test_a_plugin_that_ends_its_process_is_a_finding_and_no_crash(project) -> None:
    assert found(project("os._exit(7)")) == {"error results": "its process ended with 7"}


def test_one_that_ends_it_at_import_too(project) -> None:
    assert found(project(before="os._exit(3)")) == {"error loading": "its process ended with 3"}


def test_threads_and_changes_of_the_process_at_import_are_found(project) -> None:
    findings = found(
        project(before="os.environ['ACME'] = '1'\nthreading.Thread(target=time.sleep, args=(60,), name='early', daemon=True).start()")
    )
    assert "its import" in findings["error loading"]


def test_what_it_prints_is_not_the_answer(project) -> None:
    code, out, _ = check(project("print('{}')"), "--json")
    assert code == 0
    assert json.loads(out)[0]["checks"] == 10


def test_a_private_import_is_found_with_its_place(project) -> None:
    findings = found(project(before="from mom_core.engine import Engine"))
    assert "__init__.py:5 imports mom_core.engine, which is private" in findings["error packaging"]


@pytest.mark.parametrize("line", ["import mom_devkit.hosts", "from mom_devkit import host_of"])
def test_a_plugin_that_needs_the_kit_where_mom_runs_is_found_too(project, line: str) -> None:
    assert "__init__.py:5 imports mom_devkit, which is not installed where mom runs" in found(project(before=line))["error packaging"]


def test_a_plugin_that_cannot_be_imported_is_a_finding(project) -> None:
    assert "RuntimeError: no" in found(project(before="raise RuntimeError('no')"))["error loading"]


@pytest.mark.parametrize("target", ["no-such-plugin", "/nonexistent"])
def test_what_is_no_plugin_is_misuse(target: str) -> None:
    code, _, err = check(target)
    assert code == 2
    assert "neither an installed plugin nor a folder" in err


def test_a_folder_without_a_plugin_says_what_it_needs(tmp_path: Path) -> None:
    code, _, err = check(tmp_path)
    assert code == 1
    assert "pyproject.toml" in err


def test_an_installed_plugin_is_checked_by_name_with_settings() -> None:
    code, _, err = check("sim", "--settings", "{guests: 3}")
    assert (code, err) == (0, "")
    assert check("sim", "--settings", "[1]")[0] == 2


def test_settings_are_taken_as_yaml_is() -> None:
    code, out, _ = check("policy", "--settings", "{directory: /srv/policies}")
    assert code == 0, out
    assert "passed" in out


def test_wrong_settings_are_said_once_with_their_place_and_the_fix() -> None:
    code, out, _ = check("policy", "--settings", "{directry: /srv/policies, deadline: 3}")
    assert code == 1
    assert "1 checks, errors: 2" in out
    assert "--settings:1:2: directry: there is no such setting (did you mean 'directory'?)" in out
    assert "--settings:1:37: deadline: 3 has no unit (write it like 5s" in out


def test_the_root_itself_is_never_the_test_host(project) -> None:
    assert check(project(), "--host", "/")[0] == 1
