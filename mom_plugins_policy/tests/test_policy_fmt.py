"""How policies are laid out, and that laying them out changes nothing else."""

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mom_plugins_policy import PolicyError
from mom_plugins_policy.language.formatter import formatted, tokens
from mom_plugins_policy.language.reader import read
from mom_plugins_policy.language.syntax import Form

ROOT = Path(__file__).parents[2]
POLICIES = sorted([*ROOT.glob("examples/policies/*.policy"), *ROOT.glob("mom_plugins_*/src/*/*.policy")])


def laid_out(text: str) -> str:
    return formatted("50_test", text)


def tree(text: str) -> list[object]:
    def plain(form: Form) -> object:
        return [form.kind.name, *map(plain, form.items)] if form.items or form.value is None else (form.kind.name, repr(form.value))

    return [plain(form) for form in read("50_test", text)]


LAID_OUT = [row.replace("⏎", "\n").split("  =>  ") for row in (Path(__file__).parent / "laid_out.txt").read_text().splitlines()]


@pytest.mark.parametrize(
    ("text", "result"),
    [*LAID_OUT, ('\ufeff# c\r\n(f "a\r\nb"\r\n c)\r\n', '# c\n(f "a\r\nb"\n    c)\n'), (" \n\t\r\n", ""), ("  # alone", "# alone\n")],
)
def test_lines_are_indented_by_the_brackets_around_them(text: str, result: str) -> None:
    assert laid_out(text) == result


def test_what_is_no_policy_is_refused_with_its_place() -> None:
    with pytest.raises(PolicyError) as refusal:
        laid_out("1\n (f ]")
    assert (refusal.value.line, refusal.value.column) == (2, 5)


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.name)
def test_policies_that_are_shipped_are_laid_out(path: Path) -> None:
    assert laid_out(path.read_text()) == path.read_text()


@pytest.mark.parametrize("text", ["(f\n" * 450 + ")" * 450, "# c\n" * 10_000, "x " * 10_000], ids=["calls", "comments", "atoms"])
def test_deep_and_long_texts_are_laid_out_in_reasonable_size(text: str) -> None:
    assert len(laid_out(text)) < 20 * len(text)


space = st.sampled_from(
    [" ", "  ", "\n", "\n\n", "\n\n\n", "\t", "\r\n", " # c\n", "\n# own\n", "# a\n # b\n", "\n\n# x  \n\n", "", "\x0c", "\u00a0"]
)
atoms = st.one_of(
    st.sampled_from(["if", "let", "f", "g.Control", "x", "Host.mem_free", "nil", "+", "<=", "-", "0x1F", "0o17", "1e999"]),
    st.sampled_from(['"text"', '"two\nlines"', "'it\\'s'", '"# no comment"', '"(" ']),
    st.integers().map(str),
)


def bracketed(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    parts = st.lists(st.tuples(inner, space.map(lambda between: between or " ")), max_size=5)
    return st.tuples(st.sampled_from(["()", "[]", "{}"]), space, parts).map(
        lambda made: made[0][0] + made[1] + "".join(part + between for part, between in made[2]) + made[0][1]
    )


forms = st.recursive(atoms, bracketed, max_leaves=40)
texts = st.lists(st.tuples(space, forms, space.map(lambda between: between or " ")), max_size=4).map(
    lambda made: "".join(before + form + after for before, form, after in made)
)
any_text = st.text(alphabet="()[]{}#\"'\\ \n\r01.e-+xa\u2028\ufeff")


@pytest.mark.long
@settings(deadline=None, max_examples=100)
@given(st.one_of(texts, any_text))
@example("(f (g a # c\n) # d\n)")
@example("#a\n#b")
def test_any_text_keeps_its_meaning_and_comments_and_is_laid_out_once_and_for_all(text: str) -> None:
    try:
        result = laid_out(text)
    except PolicyError:
        return
    assert tree(result) == tree(text)
    assert [token for _, token in tokens(result)] == [token for _, token in tokens(text)]
    assert laid_out(result) == result
