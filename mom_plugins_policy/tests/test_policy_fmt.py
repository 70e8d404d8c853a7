"""How policies are laid out, and that laying them out changes nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mom_plugins_policy.language.errors import PolicyError
from mom_plugins_policy.language.reader import read
from mom_plugins_policy.language.syntax import Form
from mom_plugins_policy.language.tokens import comments, tokens
from mom_plugins_policy.tools.formatter import WIDTH, formatted

ROOT = Path(__file__).parents[2]
POLICIES = sorted([*ROOT.glob("examples/policies/*.policy"), *ROOT.glob("mom_plugins_*/src/*/*.policy")])


def laid_out(text: str) -> str:
    return formatted("50_test", text)


def tree(text: str) -> list[object]:
    def plain(form: Form) -> object:
        return [form.kind.name, *map(plain, form.items)] if form.items or form.value is None else (form.kind.name, repr(form.value))

    return [plain(form) for form in read("50_test", text)]


def test_what_fits_a_line_and_was_on_one_stays_on_one() -> None:
    assert laid_out("( if ( valid a )\tb   c )") == "(if (valid a) b c)\n"
    assert laid_out("{(defvar z 9)z}") == "{ (defvar z 9) z }\n"
    assert laid_out("(let [[p 4]]p)") == "(let [[p 4]] p)\n"
    assert laid_out("()[] {}") == "()\n[]\n{}\n"


def test_a_line_break_that_the_author_made_stays() -> None:
    assert laid_out("(if (valid a)\n b c)") == "(if (valid a)\n    b\n    c)\n"
    assert laid_out("(def f (x)\n(* x 2))") == "(def f (x)\n    (* x 2))\n"
    assert laid_out("{\n1 }") == "{\n    1\n}\n"


def test_parts_of_a_call_are_aligned() -> None:
    assert laid_out("(max a\n(min b\nc) d)") == "(max a\n     (min b\n          c)\n     d)\n"
    assert laid_out("(let ((a 1)\n(b 2)) (+ a b))") == "(let ((a 1)\n      (b 2))\n    (+ a b))\n"


def test_a_block_that_is_the_body_begins_behind_the_head() -> None:
    assert laid_out("(with Guests g {\n1 2})") == "(with Guests g {\n    1\n    2\n})\n"
    assert laid_out("(if a\n{1 2}\n{3\n4})") == "(if a\n    { 1 2 }\n    {\n        3\n        4\n    })\n"


def test_a_long_value_goes_below_its_variable_where_that_saves_breaking_it() -> None:
    value = f"(+ {'a' * 40} {'b' * 40})"
    assert laid_out(f"(defvar a_long_name {value})") == f"(defvar a_long_name\n    {value})\n"
    assert laid_out(f"(set x {value})") == f"(set x {value})\n"


def test_comments_stay_before_or_behind_what_they_are_about() -> None:
    text = "# top\n\n(f a # first\nbc # second\n# third\n# fourth\n d) # last"
    assert laid_out(text) == "# top\n\n(f a   # first\n   bc  # second\n   # third\n   # fourth\n   d)  # last\n"
    assert laid_out("(if # why\na b c)") == "(if  # why\n    a\n    b\n    c)\n"
    assert laid_out("{ # lacks\na}") == "{  # lacks\n    a\n}\n"
    assert laid_out("(# c\n(a 1))") == "(  # c\n (a 1))\n"
    assert laid_out("(f a\n# end\n)") == "(f a\n   # end\n)\n"


def test_a_comment_before_closing_brackets_stays_there() -> None:
    assert laid_out("(f (g a # c\n)\n)") == "(f (g a  # c\n   ))\n"
    assert laid_out("{(g a # c\n)}") == "{\n    (g a  # c\n    )\n}\n"


def test_comments_of_adjacent_lines_are_aligned() -> None:
    assert laid_out("(set a 1) # one\n(set bcd 2) # two\n\n(set e 3) # three\n") == (
        "(set a 1)    # one\n(set bcd 2)  # two\n\n(set e 3)  # three\n"
    )
    long = f"(set {'x' * 70} 1) # {'y' * 10}"
    assert laid_out(f"(set a 1) # {'z' * 50}\n{long}") == f"(set a 1)  # {'z' * 50}\n{long.replace(' #', '  #')}\n"


def test_one_blank_line_stays_and_no_more() -> None:
    assert laid_out("\n\n1\n\n\n\n2\n(f\n\n\na\n\nb\n\n)\n\n\n") == "1\n\n2\n(f a\n\n   b)\n"


def test_line_ends_and_byte_order_marks_of_other_systems_go_but_not_those_inside_strings() -> None:
    assert laid_out('\ufeff# c\r\n(f "a\r\nb"\r\n c)\r\n') == '# c\n(f "a\r\nb"\n   c)\n'


def test_nothing_but_white_space_becomes_an_empty_file() -> None:
    assert laid_out("") == laid_out(" \n\t\r\n") == ""
    assert laid_out("  # alone") == "# alone\n"


def test_what_is_no_policy_is_refused_with_its_place() -> None:
    with pytest.raises(PolicyError) as refusal:
        laid_out("1\n (f ]")
    assert (refusal.value.line, refusal.value.column) == (2, 5)


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.name)
def test_policies_that_are_shipped_keep_their_meaning(path: Path) -> None:
    text = path.read_text()
    result = laid_out(text)
    assert tree(result) == tree(text)
    assert comments(result) == comments(text)
    assert laid_out(result) == result
    without_sentences = [re.sub(r'"[^"]*"', '""', line) for line in result.split("\n")]  # a string is not broken
    assert [line for line in without_sentences if len(line) > WIDTH and "#" not in line] == []


@pytest.mark.long
@pytest.mark.parametrize(
    "text",
    [
        "(" * 150 + ")" * 150,
        "(f\n" * 150 + ")" * 150,
        "{ " * 150 + "x" + " }" * 150,
        "(if a b " * 149 + "c" + ")" * 149,
        "(g x x x x x x x x x x\n" * 150 + ")" * 150,
        "# c\n" * 10_000,
        "x " * 10_000,
    ],
    ids=["parentheses", "calls", "blocks", "ifs", "wide", "comments", "atoms"],
)
def test_deep_and_long_texts_are_laid_out_in_reasonable_size(text: str) -> None:
    result = laid_out(text)
    assert laid_out(result) == result
    assert len(result) < 40 * len(text) + 100_000


def test_what_is_nested_deeper_than_a_person_writes_is_refused() -> None:
    with pytest.raises(PolicyError, match="more than 150 brackets"):
        laid_out("(" * 151 + ")" * 151)


space = st.sampled_from(
    [" ", "  ", "\n", "\n\n", "\n\n\n", "\t", "\r\n", " # c\n", "\n# own\n", "# a\n # b\n", "\n\n# x  \n\n", "", "\x0c", "\u00a0"]
)
names = st.sampled_from(
    ["if", "let", "def", "defvar", "set", "with", "eval", "f", "g.Control", "x", "Host.mem_free", "nil", "a-very-long-name" * 4]
)
atoms = st.one_of(
    names,
    st.integers().map(str),
    st.floats(0, 1e9, allow_nan=False).map(lambda number: f"{number:.3f}"),
    st.sampled_from(["+", "<=", "-", '"text"', '"two\nlines"', "'it\\'s'", '"# no comment"', '"(" ', "0x1F", "0o17", "1e999"]),
)


def bracketed(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    parts = st.lists(st.tuples(inner, space.map(lambda between: between or " ")), max_size=5)
    return st.tuples(st.sampled_from(["()", "[]", "{}", "()", "()"]), space, parts).map(
        lambda made: made[0][0] + made[1] + "".join(part + between for part, between in made[2]) + made[0][1]
    )


forms = st.recursive(atoms, bracketed, max_leaves=40)
texts = st.lists(st.tuples(space, forms, space.map(lambda between: between or " ")), max_size=4).map(
    lambda made: "".join(before + form + after for before, form, after in made)
)


@pytest.mark.long
@settings(deadline=None, max_examples=300)
@given(texts, st.sampled_from([20, 40, 100]))
@example("(f (g a # c\n) # d\n)", 100)
@example("#a\n#b", 100)
def test_any_text_keeps_its_meaning_and_comments_and_is_laid_out_once_and_for_all(text: str, width: int) -> None:
    result = formatted("50_test", text, width=width)
    assert tree(result) == tree(text)
    assert comments(result) == comments(text)
    assert formatted("50_test", result, width=width) == result


@given(st.one_of(texts, st.text(), st.text(alphabet="()[]{}#\"'\\ \n\r01.e-+xa")))
def test_tokens_add_up_to_the_text(text: str) -> None:
    found = list(tokens(text))
    assert "".join(token.text for token in found) == text
    assert all(text.startswith(token.text, token.start) and token.text for token in found)


@settings(deadline=None, max_examples=300)
@given(st.text(alphabet="()[]{}#\"'\\ \n\r01.e-+xa\u2028\ufeff"))
def test_texts_that_are_no_policies_are_refused_and_nothing_else_happens(text: str) -> None:
    try:
        result = laid_out(text)
    except PolicyError:
        return
    assert tree(result) == tree(text)
    assert laid_out(result) == result
