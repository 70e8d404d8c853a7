"""What verbs print on terminals of several widths, in pipes, and where the operator wants no colours."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

MOM = Path(sys.executable).parent / "mom"

YAML = """state_directory: {here}/state
run_directory: {here}/run
plugins:
  sim: {{guests: 40, sold: 2}}
  balloon: {{}}
  ksm: {{}}
  qos: {{}}
  sla: {{default: gold}}
  policy: {{}}
"""

VERBS = (
    ["guests"],
    ["doctor"],
    ["status"],
    ["fields"],
    ["config", "show"],
    ["config", "check"],
    ["plugin", "list"],
    ["restore", "--dry-run"],
    ["policy", "eval", "--live"],
    ["policy", "explain", "--live"],
    ["policy", "check"],
    ["simulate"],
    ["history", "host"],
    ["nonsense"],
)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("terminals")
    path = here / "a-configuration-with-a-long-name.yaml"
    path.write_text(YAML.format(here=here))
    return path


def on_terminal(config: Path, verb: list[str], columns: int, **environment: str) -> str:
    """What the verb shows on a terminal of so many columns, standard error included."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    inherited = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "NO_COLOR"}}
    with subprocess.Popen(
        [MOM, *verb],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env={**inherited, "TERM": "xterm-256color", "MOM_CONFIG": str(config), **environment},
    ) as process:
        os.close(theirs)
        said = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            said += part
        assert process.wait(120) in {0, 1, 2}
    os.close(ours)
    return said.decode().replace("\r\n", "\n")


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
@pytest.mark.parametrize("columns", [80, 200])
def test_no_line_is_wider_than_the_terminal(config: Path, verb: list[str], columns: int) -> None:
    lines = plain(on_terminal(config, verb, columns)).splitlines()
    assert lines
    long = [line for line in lines if len(line) > columns and len(max(line.split(), key=len)) < columns - 10]
    assert not long


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_a_pipe_gets_no_colours_and_nothing_is_cut(config: Path, verb: list[str]) -> None:
    inherited = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "NO_COLOR"}}
    environment = {**inherited, "MOM_CONFIG": str(config)}
    done = subprocess.run([MOM, *verb], capture_output=True, text=True, timeout=120, env=environment, check=False)
    assert "\x1b" not in done.stdout + done.stderr
    assert "…" not in done.stdout + done.stderr


@pytest.mark.parametrize("verb", [["doctor"], ["guests"], ["status"], ["config", "show"], ["policy", "explain", "--live"]], ids=" ".join)
def test_no_color_is_honoured(config: Path, verb: list[str]) -> None:
    assert "\x1b[" in on_terminal(config, ["doctor"], 80)
    assert "\x1b" not in on_terminal(config, verb, 80, NO_COLOR="1")


def test_a_guest_takes_one_line_at_80_columns(config: Path) -> None:
    said = plain(on_terminal(config, ["guests"], 80))
    assert len(said.splitlines()) < 40 + 8


def test_a_wide_terminal_shows_what_a_narrow_one_has_no_room_for(config: Path) -> None:
    narrow, wide = (plain(on_terminal(config, ["guests"], columns)) for columns in (24, 240))
    assert "24 columns have no room for: " in " ".join(narrow.split())
    assert "no room" not in wide
    assert any(line.split()[:2] == ["guest", "class"] for line in wide.splitlines())


@pytest.mark.parametrize("group", [[], ["config"], ["plugin"], ["policy"], ["fleet"], ["record"], ["reserve"]], ids=" ".join)
def test_what_a_verb_does_is_said_whole_in_the_list_of_verbs(config: Path, group: list[str]) -> None:
    assert "..." not in on_terminal(config, [*group, "--help"], 80).partition("\nCommands")[2]
