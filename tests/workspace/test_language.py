"""Pages, docstrings and names are plain: short sentences, few turns of phrase, meaningful names.

The limits are for the whole project, not for a single sentence.
"""

import ast
import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

VAGUE = {
    "one", "found", "known", "said", "told", "those", "there", "what", "wanted", "given", "taken", "done", "asked", "met", "seen", "others",
    "rest", "another", "both", "few", "such",
}  # fmt: skip
"""Words without meaning as names of variables."""

TURN = re.compile(
    r"\b(?:(?:of|for|by|at|in|that) which|what (?:it|is|was|an?|the|they|mom|stood|holds?|would|can|has|had)|so that it"
    r"|(?:is|are) to (?:be|have)|is to get|be had|as far as|no more than|such as (?:is|are)|what there is|there is no such)\b",
    re.I,
)
"""Turns of phrase that make readers read a sentence twice."""

LONG = 25
"""Number of words above which a sentence is too long."""


def files(ending: str, *left_out: str) -> list[Path]:
    listed = subprocess.run(["git", "-C", ROOT, "ls-files", f"*{ending}"], capture_output=True, text=True, timeout=60, check=True).stdout
    return [ROOT / name for name in listed.splitlines() if not set(left_out) & set(Path(name).parts) and (ROOT / name).is_file()]


def sentences(text: str) -> Iterator[str]:
    """Yield the sentences of Markdown or a docstring, without code, tables, headings and parameters."""
    text = re.sub(r"```.*?```|<!--.*?-->", " ", text, flags=re.S)
    for block in re.split(r"\n\s*\n", text):
        lines = [line for line in block.splitlines() if not line.lstrip().startswith(("|", "#", ":", ">>>"))]
        prose = re.sub(r"`[^`]*`", "x", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", " ".join(lines))).strip()
        yield from (part for part in re.split(r"(?<=[.!?])\s+(?=[A-Z`*\"(])", prose) if words(part) >= 4)


def words(text: str) -> int:
    return len(re.findall(r"[\w'-]*[A-Za-z][\w'-]*", text))


def per_1000(count: int, total: int) -> float:
    return 1000 * count / max(total, 1)


def turns(texts: Iterable[str]) -> float:
    listed = list(texts)
    return per_1000(sum(len(TURN.findall(text)) for text in listed), sum(map(words, listed)))


@pytest.fixture(scope="module")
def pages() -> list[str]:
    paths = [path for path in files(".md", "tests") if not path.name.startswith(("LICENSE", "CHANGELOG"))]
    return [sentence for path in paths for sentence in sentences(path.read_text())]


@pytest.fixture(scope="module")
def modules() -> list[tuple[str, ast.Module]]:
    texts = [path.read_text() for path in files(".py", "tests", "benchmarks")]
    return [(text, ast.parse(text)) for text in texts]


def test_pages_have_short_sentences(pages: list[str]) -> None:
    lengths = [words(sentence) for sentence in pages]
    assert sum(lengths) / len(lengths) <= 16
    assert sum(length > LONG for length in lengths) / len(lengths) <= 0.1


def test_pages_have_few_turns_of_phrase(pages: list[str]) -> None:
    assert turns(pages) <= 1.5


def test_docstrings_have_few_words_and_turns_of_phrase(modules: list[tuple[str, ast.Module]]) -> None:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = [ast.get_docstring(node) or "" for _, module in modules for node in ast.walk(module) if isinstance(node, documented)]
    comments = [match[1] for text, _ in modules for match in re.finditer(r"^\s*# (.*)$", text, re.M)]
    prose = [sentence for text in docstrings for sentence in sentences(text)]
    assert sum(map(words, prose)) <= 60_000
    assert turns(prose) <= 1.5
    assert turns(comments) <= 1.5


def test_variables_have_names_that_say_something(modules: list[tuple[str, ast.Module]]) -> None:
    nodes = (node for _, module in modules for node in ast.walk(module))
    names = [node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    assert per_1000(sum(name in VAGUE for name in names), len(names)) <= 5
