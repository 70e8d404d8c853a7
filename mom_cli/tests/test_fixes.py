"""`mom doctor --fix`: what is shown, asked and run; and what is never run."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click
import pytest

from mom_cli import fixes as module
from mom_cli.draft import draft_config
from mom_cli.fixes import fixes, offer_fixes
from mom_core import Config, Finding, Fix, PluginSettings, Severity
from mom_core.config.configuration import ConfiguredPlugin
from mom_core.plugins.discovery import load_plugins

MOM = Path(sys.executable).with_name("mom")


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder in which programs are found, with `note`, which writes what it is given into a file."""
    folder = tmp_path / "bin"
    folder.mkdir()
    note = folder / "note"
    note.write_text(f'#!/bin/sh\nprintf "%s|" "$@" >>{tmp_path}/noted\necho "noted \x1b[2J"\n[ "$1" != fail ]\n')
    note.chmod(0o755)
    monkeypatch.setattr(module, "PATH", str(folder))
    return folder


def noted(programs: Path) -> str:
    file = programs.parent / "noted"
    return file.read_text() if file.exists() else ""


def answer(monkeypatch: pytest.MonkeyPatch, *answers: bool) -> list[str]:
    """A terminal at which the operator gives these answers; what was asked."""
    asked: list[str] = []
    left = list(answers)

    def confirm(text: str, **_: object) -> bool:
        asked.append(text)
        return left.pop(0)

    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr(click, "confirm", confirm)
    return asked


def one(*commands: Sequence[str], harmless: bool = False) -> list[tuple[Finding, Fix]]:
    fix = Fix(tuple(tuple(command) for command in commands), "notes it", harmless)
    return [(Finding(Severity.ERROR, "subject", "it is wrong", "a cure", fix), fix)]


@pytest.mark.processes
def test_commands_are_shown_before_they_are_asked_about_and_run_as_they_are(
    programs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(monkeypatch, True)
    assert offer_fixes(one(("note", "a b", "$(touch x); *")), yes=False)
    assert noted(programs) == "a b|$(touch x); *|", "no shell reads it"
    shown = capsys.readouterr().out
    assert shown.index("note 'a b'") < shown.index("done: note")
    assert "\x1b" not in shown, "what a command says steers no terminal"


def test_nothing_is_run_that_was_not_agreed_to(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert answer(monkeypatch, False) == []
    assert not offer_fixes(one(("note", "a")), yes=False)
    assert noted(programs) == ""


@pytest.mark.processes
def test_yes_answers_for_what_is_harmless_and_for_nothing_else(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answer(monkeypatch, False)
    assert offer_fixes([*one(("note", "harmless"), harmless=True), *one(("note", "other"))], yes=True)
    assert noted(programs) == "harmless|"
    assert len(asked) == 1


def test_where_there_is_no_terminal_to_ask_at_nothing_is_run(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False)
    assert not offer_fixes(one(("note", "a")), yes=True)
    assert noted(programs) == ""


@pytest.mark.processes
def test_the_commands_after_one_that_fails_are_not_run(
    programs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(monkeypatch, True)
    offer_fixes(one(("note", "fail"), ("note", "next")), yes=False)
    assert noted(programs) == "fail|"
    assert "failed with 1: note fail" in capsys.readouterr().out


@pytest.mark.processes
def test_a_command_that_does_not_end_is_ended(programs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (programs / "sleep").symlink_to("/bin/sleep")
    monkeypatch.setattr(module, "SECONDS", 0.2)
    answer(monkeypatch, True)
    offer_fixes(one(("sleep", "60")), yes=False)
    assert "did not end within 0.2 s: sleep 60" in capsys.readouterr().out


def test_a_program_that_is_not_where_the_systems_are_is_not_looked_for_elsewhere(
    programs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setattr(module, "PATH", "/nowhere")
    answer(monkeypatch, True)
    offer_fixes(one(("note", "a")), yes=False)
    assert noted(programs) == ""
    assert "there is no note in /nowhere" in capsys.readouterr().out


def test_fixes_of_other_makers_and_of_a_host_that_is_not_this_one_are_not_offered() -> None:
    finding, fix = one(("note", "a"))[0]
    loaded = load_plugins(["host"])[0]["host"]
    theirs = replace(loaded, distribution="their-plugin")
    config = Config(
        plugins={"host": ConfiguredPlugin("host", loaded, PluginSettings()), "theirs": ConfiguredPlugin("theirs", theirs, PluginSettings())}
    )
    assert [found for _, found in fixes([("host", finding), ("core", finding)], config)] == [fix], "and each once"
    assert list(fixes([("theirs", finding)], config)) == []
    assert list(fixes([("host", finding)], replace(config, root=Path("/copy")))) == []


@pytest.mark.processes
def test_an_operator_at_a_terminal_is_asked(tmp_path: Path) -> None:
    """The whole way, with a configuration file that is missing, and the answer no."""
    environment = {name: value for name, value in os.environ.items() if name != "MOM_CONFIG"} | {"TERM": "dumb"}
    if Path("/etc/mom/mom.yaml").exists():
        pytest.skip("this host has a configuration of its own")
    operator, terminal = pty.openpty()
    doctor = subprocess.Popen([MOM, "doctor", "--fix"], stdin=terminal, stdout=terminal, stderr=terminal, env=environment, cwd=tmp_path)
    os.close(terminal)
    shown = b""
    try:
        until = time.monotonic() + 120
        while time.monotonic() < until and b"run this? [y/N]" not in shown and doctor.poll() is None:
            if select.select([operator], [], [], 0.2)[0]:
                shown += os.read(operator, 65536)
        assert b"    mom config init" in shown, shown.decode()
        os.write(operator, b"n\nn\nn\nn\nn\n")
        while time.monotonic() < until and doctor.poll() is None:
            if select.select([operator], [], [], 0.2)[0]:
                try:
                    shown += os.read(operator, 65536)
                except OSError:  # the terminal is closed: doctor has ended
                    break
        assert doctor.wait(60) in {0, 1}
    finally:
        doctor.kill()
        doctor.wait()
        os.close(operator)
    assert not Path("/etc/mom/mom.yaml").exists()


@pytest.mark.processes
def test_without_a_configuration_doctor_looks_with_what_would_be_written() -> None:
    """And not with plugins that do not fit the host, of which everything would be wrong."""
    if Path("/etc/mom/mom.yaml").exists():
        pytest.skip("this host has a configuration of its own")
    environment = {name: value for name, value in os.environ.items() if name != "MOM_CONFIG"}
    done = subprocess.run([MOM, "doctor", "--json"], capture_output=True, text=True, timeout=120, check=False, env=environment)
    said = {finding["plugin"] for finding in json.loads(done.stdout)}
    assert "host" in said
    assert said <= {"core", *draft_config(Path("/")).settings}


@pytest.mark.processes
def test_json_and_fix_exclude_each_other() -> None:
    for words in (["--fix", "--json"], ["--yes"]):
        done = subprocess.run([MOM, "doctor", *words], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 2
