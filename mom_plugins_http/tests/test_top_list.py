"""The list of `mom top` without a terminal: size, requested columns, and keys."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from mom_daemon.report_models import GuestColumnModel
from mom_plugins_http.top.picture import Looking, Row, chosen, ordered
from mom_plugins_http.top.table import age, fitting, in_lines, percent, short
from mom_plugins_http.top.terminal import cell


def column(name: str, unit: str, rank: int = 0) -> GuestColumnModel:
    return {"name": name, "key": name, "unit": unit, "about": f"its {name}", "rank": rank, "mark_from": None}


@given(st.floats(0, 1e15))
def test_no_figure_is_wider_than_its_column(value: float) -> None:
    assert len(short(value)) <= 5
    assert len(age(value)) <= 4
    assert len(percent(min(value, 100))) <= 4


@given(st.text(max_size=30), st.integers(2, 40))
def test_a_cell_has_its_width_whatever_stands_in_it(text: str, width: int) -> None:
    text = "".join(letter for letter in text if letter.isprintable())
    assert cell_len(cell(text, width)) == width
    assert cell_len(cell(text, width, right=True)) == width


@pytest.mark.parametrize("screen_width", [40, 60, 80, 132, 200, 400])
def test_the_columns_that_fit_are_those_of_the_lowest_ranks(screen_width: int) -> None:
    given_columns = [column(name, "KiB", rank) for name, rank in (("class", 3), ("size", 0), ("max", 1), ("guarantee", 1), ("age", 2))]
    name, shown, note = fitting(given_columns, screen_width, 40)
    left_out = [one["rank"] for one in given_columns if one not in [kept for kept, _ in shown]]
    assert min(left_out, default=9) >= max(one["rank"] for one, _ in shown)
    assert name + sum(width + 1 for _, width in shown) + 1 + note <= screen_width
    assert (not left_out) == (screen_width >= 80)


def test_what_is_unknown_comes_last_either_way() -> None:
    rows = [Row("2", "a"), Row("1", "b", {"size": 1.0}), Row("3", "c", {"size": 2.0})]
    for falling, names in ((True, "cba"), (False, "bca")):
        assert "".join(row.name for row in ordered(rows, "size", falling=falling)) == names


def test_rows_are_found_by_a_part_of_their_name_or_a_pattern() -> None:
    rows = [Row(name, name) for name in ("web-1", "WEB-2", "db-1")]
    for pattern, names in (("web", {"web-1", "WEB-2"}), ("*-1", {"web-1", "db-1"}), ("w?b-1", {"web-1"}), ("", {"web-1", "WEB-2", "db-1"})):
        assert {row.name for row in chosen(rows, pattern)} == names


def test_a_row_that_has_gone_is_no_longer_marked() -> None:
    look = Looking()
    look.marked = "9"
    assert look.place([Row("1", "a")], 18) == 0
    assert look.marked == "1"
    assert look.place([], 18) == 0


def test_the_filter_is_typed_kept_and_taken_back() -> None:
    look = Looking()
    for key in ("/", "w", "e", "x", "backspace", "b", "enter"):
        look.press(key, [], 18)
    assert (look.pattern, look.typing) == ("web", False)
    for key in ("/", "1", "q", "escape"):
        look.press(key, [], 18)
    assert (look.pattern, look.typing, look.ended) == ("web", False, False)
    look.press("escape", [], 18)
    assert look.pattern == ""


def test_a_long_path_is_broken_instead_of_cut() -> None:
    path = "/sys/fs/cgroup/machine.slice/" + "x" * 100 + "/memory.high"
    lines = in_lines(f"cannot write {path}: no permission", 60, 2)
    assert all(cell_len(line) <= 60 for line in lines)
    assert path in "".join(line.strip() for line in lines)
    assert in_lines("", 60) == [""]
