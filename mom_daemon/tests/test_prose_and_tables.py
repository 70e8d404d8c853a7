"""Output for people: whole words and tables that fit; for programs: everything."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mom_daemon.cli.output import TableColumn, brief, cells, print_prose, print_table, wrapped

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
