"""The command `mom`: verbs are found, completed, and fail with one line and the right exit code."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from mom_core import ConfigError, HypervisorError, PluginError, UnitError
from mom_core.errors import DeadlineExceeded
from mom_daemon.cli import frame
from mom_daemon.cli.frame import run
from mom_daemon.cli.verbs import Verb

MOM = Path(sys.executable).with_name("mom")


@pytest.fixture
def verb(monkeypatch):
    """Return a function that adds a command to mom, which calls a function."""

    def add(function: Callable[..., object]) -> None:
        module = type(sys)("mom_test_verb")
        module.command = click.Command("probe", callback=function)  # type: ignore[attr-defined]  # a module for one test
        monkeypatch.setitem(sys.modules, "mom_test_verb", module)
        monkeypatch.setattr(frame.mom, "verbs", {"probe": Verb("mom_test_verb:command", "Probe.")})

    return add


def late(plugin: str) -> PluginError:
    error = PluginError(f"{plugin} is late", plugin=plugin)
    error.__cause__ = DeadlineExceeded("mom_setup did not answer within 10 s")
    return error


def short(number: int) -> PluginError:
    """Return a plugin's error with a system's error as its cause."""
    error = PluginError("x cannot", plugin="x")
    error.__cause__ = HypervisorError("no")
    error.__cause__.__cause__ = OSError(number, os.strerror(number))
    return error


def raising(error: BaseException):
    def function() -> None:
        raise error

    return function


# --- commands ---------------------------------------------------------------------------------------------------------------------


def test_a_misspelt_verb_gets_the_one_that_was_meant(mom):
    code, out, err = mom("stauts")
    assert (code, out) == (2, "")
    assert "there is no command 'stauts' (did you mean 'status'?)" in err


@pytest.mark.parametrize("arguments", [["--zzz"], ["config", "zzz"], ["plugin"], ["plugin", "info"], [""]])
def test_misuse_is_exit_code_2_and_says_where_help_is(mom, arguments):
    code, _, err = mom(*arguments)
    assert code == 2
    assert "--help" in err


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (HypervisorError("no answer", hint="start libvirtd"), 1, "mom: no answer (start libvirtd)\n"),
        (PluginError.of([PluginError("one", plugin="x"), PluginError("two", plugin="y")]), 2, "mom: one\nmom: two\n"),
        (PluginError.of([late("x"), PluginError("wrong", plugin="y")]), 2, "mom: x is late\nmom: wrong\n"),
        (PluginError.of([late("x"), short(errno.ENOMEM)]), 1, "mom: x is late\nmom: x cannot\n"),  # so that its unit restarts it
        (short(errno.EACCES), 2, "mom: x cannot\n"),
        (UnitError("no unit"), 2, "mom: no unit\n"),
        (ConfigError([ConfigError.Problem("f.yaml", 3, 4, "wrong", "right")]), 2, "f.yaml:3:4: wrong (right)\n"),
        (ConfigError([ConfigError.Problem("f.yaml", 0, 0, "missing")]), 2, "mom: f.yaml: missing\n"),
        (SystemExit(7), 7, ""),
        (SystemExit(None), 0, ""),
        (SystemExit("text"), 1, "mom: text\n"),
        (KeyboardInterrupt(), 130, ""),
        (click.exceptions.Exit(3), 3, ""),
        (click.BadParameter("no"), 2, None),
        (PermissionError(13, "Permission denied", "/x"), 1, "mom: /x: Permission denied (MOM_DEBUG=1 shows more)\n"),
        (BrokenPipeError(32, "Broken pipe"), 1, ""),
    ],
    ids=str,
)
def test_an_error_is_told_without_a_traceback(mom, verb, error, code, told):
    verb(raising(error))
    got, out, err = mom("probe")
    assert (got, out) == (code, "")
    assert "Traceback" not in err
    assert told is None or err.strip() == told.strip()


def test_a_mistake_of_the_program_is_one_line_that_says_where_and_how_to_see_more(mom, verb):
    mistake = ValueError("odd\nvalue")
    mistake.add_note("while it was written")  # like the standard library from Python 3.14 on
    verb(raising(mistake))
    code, _, err = mom("probe")
    assert code == 70
    assert len(err.splitlines()) == 1
    assert "test_cli_frame.py" in err
    assert "ValueError: odd" in err
    assert "MOM_DEBUG=1" in err


def test_the_traceback_is_there_for_whoever_asks(mom, verb, monkeypatch):
    monkeypatch.setenv("MOM_DEBUG", "1")
    verb(raising(ValueError("odd")))
    assert "Traceback" in mom("probe")[2]
    verb(raising(HypervisorError("no")))
    assert "Traceback" in mom("probe")[2]


# --- a real process ------------------------------------------------------------------------------------------------------------


@pytest.mark.processes
def test_small_verbs_do_not_import_large_libraries():
    program = """
import sys
from mom_daemon.cli.frame import run
run(sys.argv[1:])
print(*sorted({name.partition(".")[0] for name in sys.modules} & {"pydantic", "rich", "yaml", "stevedore", "libvirt", "pluggy", "asyncio"}))
"""

    def imported(*arguments: str) -> set[str]:
        elsewhere = {**os.environ, "MOM_CONFIG": "/nowhere"}
        done = subprocess.run([sys.executable, "-c", program, *arguments], check=True, capture_output=True, text=True, env=elsewhere)
        return set(done.stdout.splitlines()[-1].split())

    assert imported("--version") == set()
    assert imported("plugin", "list") <= {"yaml"}


@pytest.mark.processes
def test_a_reader_that_goes_away_is_no_mistake():
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([MOM, "plugin", "list"], stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.processes
def test_a_full_disk_under_the_output_is_told():
    for verb in (["plugin", "list"], ["config", "schema"]):  # less and more than a buffer
        with Path("/dev/full").open("w") as full:
            done = subprocess.run([MOM, *verb], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
        assert done.returncode == 1
        assert "No space left on device" in done.stderr
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.processes
def test_closed_outputs_end_nothing():
    done = subprocess.run(["sh", "-c", f"exec '{MOM}' --version >&- 2>&-"], check=False)
    assert done.returncode == 0


@pytest.mark.processes
def test_a_terminal_that_knows_only_ascii_shows_what_it_can(tmp_path):
    file = tmp_path / "mom.yaml"
    file.write_text('mode: "…ä"\n')
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([MOM, "config", "check", "-c", file], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "mode: must be 'enforce' or 'observe'" in done.stderr
    assert "Traceback" not in done.stderr


def offered(words: str, word: int) -> list[str]:
    environment = {**os.environ, "_MOM_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(word)}
    done = subprocess.run([MOM], capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.stderr == ""
    return [line.partition(",")[2] for line in done.stdout.splitlines()]


@pytest.mark.processes
def test_verbs_their_verbs_and_options_are_offered() -> None:
    assert {"status", "doctor", "config"} <= set(offered("mom ", 1))
    assert offered("mom sta", 1) == ["status"]
    assert {"init", "check", "show"} <= set(offered("mom config ", 2))
    assert offered("mom doctor --j", 2) == ["--json"]


VERBS = (["config", "check"], ["config", "show"], ["status"], ["guests"], ["doctor"], ["fields"], ["restore"], ["run"])


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
@pytest.mark.parametrize("way", [[], ["-c"]], ids=["FILE", "-c FILE"])
def test_each_verb_that_takes_one_file_takes_it_as_argument_and_option(verb, way, tmp_path, capsys):
    file = tmp_path / "mine.yaml"
    file.write_text("interval: never\n")
    assert run([*verb, *way, str(file)]) == 2
    assert f"{file}:1:1" in capsys.readouterr().err
