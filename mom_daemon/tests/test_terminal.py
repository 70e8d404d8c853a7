"""Output: nothing steers a terminal, lines and tables fit, and pipes get everything."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mom_core import MomError
from mom_core.texts import printable_lines
from mom_daemon.cli import frame
from mom_daemon.cli.output import SafeStream, TableColumn, brief, cells, print_prose, print_table, safe_streams, wrapped

HOSTILE = "a\x1b]0;title\x07b\x1b[2Jc\rd\x9b31me\u202ef\x08g\x00"


class Screen(io.StringIO):
    """Terminal that stores its output."""

    def isatty(self) -> bool:
        return True


def steers(text: str) -> bool:
    return any(not c.isprintable() and c not in "\n\t" for c in text)


@given(st.text())
def test_a_text_that_is_shown_steers_nothing_and_keeps_its_lines(text: str) -> None:
    shown = printable_lines(text)
    assert not steers(shown)
    assert shown.count("\n") == text.count("\n")
    if not steers(text):
        assert shown == text


@given(st.lists(st.one_of(st.text(), st.sampled_from(["\x1b[31m", "\x1b[0m", "\x1b[", "2J", "\x1b]", "\x1b[38;5;1m"]))))
def test_nothing_but_colours_gets_through_to_a_terminal(parts: list[str]) -> None:
    screen = Screen()
    for part in parts:
        assert SafeStream(screen).write(part) == len(part)
    assert not steers(re.sub(r"\x1b\[[0-9;:]*m", "", screen.getvalue()))


def test_a_text_that_is_a_file_steers_no_terminal() -> None:
    screen = Screen()
    for text in TEXTS:
        SafeStream(screen).write_file(text)
    assert not steers(screen.getvalue())
    assert printable_lines(TEXTS[2]) in screen.getvalue()


def test_what_any_verb_prints_is_shown_as_text_on_a_terminal_and_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream in (Screen(), io.StringIO()):
        monkeypatch.setattr(sys, "stdout", stream)
        with safe_streams():
            sys.stdout.writelines([HOSTILE, "\n"])
            click.secho("red", fg="red")
        assert sys.stdout is stream
        assert "a\\x1b]0;title\\x07b" in stream.getvalue()
    assert "\x1b[31mred" not in stream.getvalue()


def test_an_error_shows_what_it_is_about_without_doing_what_that_says(capsys: pytest.CaptureFixture[str]) -> None:
    @click.command()
    def broken() -> None:
        raise MomError(f"no {HOSTILE}", hint="two\nlines")

    assert frame.run([], broken) == 1
    said = capsys.readouterr().err
    assert "no a\\x1b]0;title\\x07b" in said
    assert not steers(said)


SHOWS = """
import click, sys
from mom_daemon import print_text
from mom_daemon.cli.frame import run

@click.command()
@click.argument("files", nargs=-1)
def show(files):
    for file in files:
        print_text(open(file, encoding="utf-8", newline="").read())
    click.secho("done", fg="green", err=True)

sys.exit(run(command=show))
"""

TEXTS = ["(+ 1 2)", "(+ 1 2)\n", "# \x1b[31mred\x1b[0m \x1b]0;x\x07\n(+ 1 2)\r\n", "# ü ✓ \u202e\n", ""]


@pytest.fixture
def show(tmp_path: Path) -> list[str]:
    """Return a command that prints all these texts from files."""
    files = [tmp_path / f"{number}.policy" for number in range(len(TEXTS))]
    for file, text in zip(files, TEXTS, strict=True):
        file.write_bytes(text.encode())
    return [sys.executable, "-c", SHOWS, *map(str, files)]


@pytest.mark.processes
@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_a_text_that_is_a_file_reaches_a_pipe_to_the_byte(show: list[str], locale: str) -> None:
    environment = {**os.environ, "LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    assert subprocess.run(show, capture_output=True, env=environment, check=True, timeout=60).stdout == "".join(TEXTS).encode()


words = st.lists(st.text("abcäあ", min_size=1, max_size=12), max_size=30)


# --- lines -----------------------------------------------------------------------------------------------------------------------


@given(words, st.integers(20, 120), st.integers(0, 12))
def test_lines_fit_with_whole_words_and_nothing_is_lost(given_words: list[str], width: int, hang: int) -> None:
    parts = wrapped(" ".join(given_words), width, hang)
    assert [word for part in parts for word in part.split()] == given_words
    wide = hang + max(map(cells, given_words), default=0)
    assert all(cells(part) <= max(width, wide) for part in parts)
    assert all(part.startswith(" " * hang) for part in parts[1:])


# --- tables ----------------------------------------------------------------------------------------------------------------------

GUESTS = [
    TableColumn("guest"),
    TableColumn("class", 1),
    TableColumn("has"),
    TableColumn("statistics", 3),
    TableColumn("remarks", prose=True),
]
ROWS = [
    ["db-01", "gold", "1.20 GiB", "3 s old", ""],
    ["web-0123456789", "platinum", "812 MiB", "unknown", "the guest gives nothing: its balloon driver does not work"],
]


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr("mom_daemon.cli.output.terminal_columns", lambda *, err=False: 50)
    return monkeypatch


def test_on_a_terminal_no_line_is_too_long_and_omissions_are_said(wide: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    columns = [*GUESTS[:4], TableColumn("where", 2), GUESTS[4]]
    print_table(columns, [[*row[:4], "/etc/mom/mom.yaml", row[4]] for row in ROWS])
    print_prose("a long line that has to be broken somewhere, such as here or there", 4)
    said = capsys.readouterr().out
    assert all(len(line) <= 50 for line in said.splitlines())
    assert "the guest gives" in said
    assert "no room in 50 columns for: " in said


def test_a_long_name_is_cut_on_a_terminal_only(wide: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("guest", "has"), [["n" * 300, "1 GiB"]])
    cut = capsys.readouterr().out.splitlines()[-1]
    assert cut.endswith("n…  1 GiB")
    assert len(cut) == 50
    assert len(brief("x" * 300, 80)) == 80
    wide.undo()
    print_table(("guest", "has"), [["n" * 300, "1 GiB"]])
    assert "n" * 300 in capsys.readouterr().out
    assert brief("x" * 300, 80) == "x" * 300


def test_a_path_that_is_wider_than_its_column_goes_on_below(wide: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("setting", TableColumn("value", prose=True), "from"), [["state", "/var/lib/" + "folder/" * 8, "line 1"]])
    _, *lines = capsys.readouterr().out.splitlines()
    assert "".join(line.split()[-1 if line.startswith(" ") else 1] for line in lines) == "/var/lib/" + "folder/" * 8
    assert all(len(line) <= 50 for line in lines)
