"""Output of commands on terminals of several widths, in pipes, and without colours."""

import io
import re
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from mom_daemon.cli import frame

YAML = """state_directory: {here}/state
run_directory: {here}/run
mode: enforce
plugins:
  sim: {{guests: 40, sold: 2}}
  balloon: {{}}
  ksm: {{}}
  qos: {{}}
  sla: {{default: gold}}
  eviction: {{}}
  policy: {{}}
"""

TYPED = """guests, doctor, status, fields, config show, config check, plugin list, policy eval --live, policy explain --live, simulate,
eviction, nonsense"""
VERBS = [verb.split() for verb in TYPED.split(",")]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("terminals")
    path = here / "a-configuration-with-a-long-name.yaml"
    path.write_text(YAML.format(here=here))
    return path


class Terminal(io.StringIO):
    """Output that looks like a terminal to a command."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def on_terminal(config: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Return a function that runs a command on a terminal of this width, and returns its output and standard error."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("MOM_CONFIG", str(config))

    def run(verb: list[str], columns: int) -> str:
        monkeypatch.setenv("COLUMNS", str(columns))
        shown = Terminal()
        with redirect_stdout(shown), redirect_stderr(shown):
            assert frame.run(verb) in {0, 1, 2}
        return shown.getvalue()

    return run


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_no_line_is_wider_than_the_terminal(on_terminal: Callable[..., str], verb: list[str]) -> None:
    lines = plain(on_terminal(verb, 80)).splitlines()
    assert lines
    assert not [line for line in lines if len(line) > 80 and len(max(line.split(), key=len)) < 70]


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_a_pipe_gets_no_colours_and_nothing_is_cut(
    config: Path, verb: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MOM_CONFIG", str(config))
    assert frame.run(verb) in {0, 1, 2}
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err
    assert "…" not in out + err


def test_no_color_is_honoured(on_terminal: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b[" in on_terminal(["doctor"], 80)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in on_terminal(["doctor"], 80)
