"""Grammars of editors have all words of the language."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from mom_plugins_policy.language.functions import BUILTINS, CALLABLES, OPERATORS, PREDEFINED, SPECIAL_FORMS
from mom_plugins_policy.language.words import DISK_METHODS, ENTITY_METHODS

ROOT = Path(__file__).parents[2]
EDITORS = ROOT / "packaging/editors"
GRAMMAR: dict[str, Any] = json.loads((EDITORS / "mom-policy.tmLanguage.json").read_text())
VIM = (EDITORS / "vim/syntax/mom-policy.vim").read_text()

WORDS = {
    "special-form": set(SPECIAL_FORMS),
    "builtin": set(BUILTINS),
    "predefined-function": set(CALLABLES),
    "method": {*ENTITY_METHODS, *DISK_METHODS},
    "entity": set(PREDEFINED) - set(CALLABLES),
    "constant": {"nil"},
}


def pattern(rule: str) -> re.Pattern[str]:
    return re.compile(GRAMMAR["repository"][rule]["match"])


def alternatives(text: str) -> set[str]:
    """Return the words in the first group of a pattern, or its only word."""
    groups = re.findall(r"\((?:\?:)?([A-Za-z|]+)\)", text) or re.findall(r"\b(nil)\b", text)
    return set(max(groups, key=len).split("|"))


@pytest.mark.parametrize("rule", WORDS)
def test_the_grammar_has_the_words_of_the_language(rule: str) -> None:
    assert alternatives(GRAMMAR["repository"][rule]["match"]) == WORDS[rule]


def test_vim_has_the_words_of_the_language() -> None:
    lines = dict(re.findall(r"^syntax match (mom\w+) \"(\S.*)\"$", VIM, re.M)[::-1])
    builtins = [text for name, text in re.findall(r"^syntax match (mom\w+) \"(\S.*)\"$", VIM, re.M) if name == "momPolicyBuiltin"]
    assert alternatives(lines["momPolicyForm"]) == WORDS["special-form"]
    assert alternatives(lines["momPolicyMethod"]) == WORDS["method"]
    assert set().union(*map(alternatives, builtins)) == WORDS["builtin"] | WORDS["predefined-function"]
    kept = re.search(r"lispwords=(\S+)", (EDITORS / "vim/ftplugin/mom-policy.vim").read_text())
    assert kept
    assert set(kept[1].split(",")) == set(SPECIAL_FORMS)


def test_operators_and_definitions_are_in_the_grammar() -> None:
    assert all(pattern("operator").fullmatch(operator) for operator in OPERATORS)
    found = pattern("definition").search("(def half-of (x)")
    assert found
    assert found.groups() == ("def", "half-of")


def test_the_extension_names_files_that_exist() -> None:
    package = json.loads((EDITORS / "package.json").read_text())["contributes"]
    for path in [package["languages"][0]["configuration"], package["grammars"][0]["path"]]:
        json.loads((EDITORS / path).read_text())
    assert package["grammars"][0]["scopeName"] == GRAMMAR["scopeName"]
