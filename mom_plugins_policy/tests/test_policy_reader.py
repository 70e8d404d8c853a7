"""The reader accepts any text: it returns forms with positions, or raises one error, in linear time."""

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mom_plugins_policy import PolicyError
from mom_plugins_policy.language.reader import read
from mom_plugins_policy.language.syntax import Form, FormKind, abridged

PIECES = [
    "(", ")", "[", "]", "{", "}", '"', "'", "\\", "#", "\n", "\r\n", " ", "\t", "\ufeff", "a", "a.b", "nil", "-", "+", "<=", "1", "0x1F",
    "0o17", "0o18", "1e5", "1e", "5.", ".5", "007", "\u00e9", "@", "\u00a0", "\u2028", "\x00", "if", "let", "1" * 2000,
]  # fmt: skip

texts = st.one_of(st.text(max_size=60), st.lists(st.sampled_from(PIECES), max_size=40).map("".join))

numbers = st.one_of(
    st.integers(-(1 << 200), 1 << 200), st.floats(allow_nan=False), st.sampled_from([0, -1, 0.5, 1e300, 5e-324, -0.0])
)  # fmt: skip
names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.\-]{0,8}", fullmatch=True)
strings = st.text(st.characters(codec="utf-8"), max_size=12).map(lambda text: re.sub(r'[\\"\n]', "", text))
operators = st.sampled_from(["+", "-", "*", "/", "<", ">", "<=", ">=", "==", "!=", "<<", ">>"])


def as_text(tree: object) -> str:
    """Return a tree of tuples (brackets and parts) and atoms as a policy's text."""
    if isinstance(tree, tuple):
        opening, parts = tree
        assert isinstance(opening, str)
        return opening + " ".join(map(as_text, parts)) + {"(": ")", "[": "]", "{": "}"}[opening]
    return str(tree)


atoms = st.one_of(
    names, operators, strings.map('"{}"'.format), strings.map(lambda text: "'" + text.replace("'", "") + "'"),
    numbers.map(lambda number: repr(number) if abs(number) < float("inf") else "1e999"),
)  # fmt: skip
trees = st.recursive(atoms, lambda inner: st.tuples(st.sampled_from("([{"), st.lists(inner, max_size=4)), max_leaves=12)


def shape(forms: list[Form]) -> list[object]:
    """Return forms in a comparable form."""
    return [(form.kind, type(form.value), form.value, shape(form.items)) for form in forms]


@given(texts)
@settings(max_examples=3 * settings().max_examples)
def test_any_text_gives_forms_or_the_readers_own_error(text: str) -> None:
    try:
        forms = read("p", text)
    except PolicyError as error:
        assert error.kind in ("syntax", "bad-literal", "range", "limit")  # noqa: PT017  # either outcome is right
        assert error.line >= 1  # noqa: PT017  # as above
        assert error.column >= 1  # noqa: PT017  # as above
        return
    for form in everything(forms):
        source = form.source
        line = text.removeprefix("\ufeff").split("\n")[source.line - 1]
        assert line[source.column - 1] == text[form.start]
        assert form.start < form.end <= len(text)
        if form.kind is FormKind.NAME:
            assert text[form.start : form.end] == form.value


@given(st.lists(trees, max_size=5))
@settings(max_examples=2 * settings().max_examples)
def test_a_form_on_one_line_reads_as_the_same_form(forest: list[object]) -> None:
    forms = read("p", "# one\n".join(map(as_text, forest)))
    for form in forms:
        assert shape(read("p", abridged(form, 4096))) == shape([form])


def everything(forms: list[Form]) -> list[Form]:
    found: list[Form] = []
    todo = list(reversed(forms))
    while todo:
        form = todo.pop()
        found.append(form)
        todo.extend(reversed(form.items))
    return found


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("(a\n  (b", 2, 3),
        ("(a]", 1, 3),
        ("\ufeff\n @", 2, 2),
        ('"a\nb" @', 2, 4),
        ("'\\\n'", 1, 1),
        *((f"1 {text}", 1, 3) for text in ("@ )((", '"x', "007", "1e", "5.", "é", "?", ":a", ".")),
    ],
)
def test_errors_stand_where_they_are(text: str, line: int, column: int) -> None:
    with pytest.raises(PolicyError) as caught:
        read("p", text)
    assert (caught.value.kind, caught.value.line, caught.value.column) == ("syntax", line, column)


def test_line_ends_of_other_systems_are_white_space() -> None:
    assert [form.source[1:] for form in read("p", "1\r\n2\r\n  3 # x\r\n4")] == [(1, 1), (2, 1), (3, 3), (4, 1)]


LONG = {"pairs": "()" * 500_000, "digits": "1" * 1_000_000, "backslashes": '"' + "\\\\" * 500_000, "name": "a.b" * 300_000}


@pytest.mark.parametrize("name", LONG)
def test_long_texts_are_answered_at_once(name: str) -> None:
    text = LONG[name]
    began = time.thread_time()  # of this thread, because other processes may use the CPU
    try:
        read("p", text)
    except PolicyError as error:
        assert error.kind in ("limit", "range", "syntax", "recursion")  # noqa: PT017  # either outcome is right
    assert time.thread_time() - began < 20  # 0.1 s on a quiet machine; anything not linear takes minutes


@pytest.mark.parametrize(
    ("text", "kind"), [("1 " * 50_001, "limit"), ("a" * 201, "limit"), ("(" * 501, "recursion")], ids=["forms", "name", "nesting"]
)
def test_a_text_beyond_the_limits_is_refused(text: str, kind: str) -> None:
    with pytest.raises(PolicyError) as caught:
        read("p", text)
    assert caught.value.kind == kind
