"""What editors know of the language is what the language has."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mom_plugins_policy.language.words.forms import SPECIAL_FORMS
from mom_plugins_policy.language.words.functions import BUILTINS, CALLABLES, OPERATORS, PREDEFINED
from mom_plugins_policy.language.words.methods import DISK_METHODS, ENTITY_METHODS

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
    """The words of the first group of alternatives in a pattern, or the one word that there is."""
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


@pytest.mark.parametrize(
    ("text", "number"),
    [("-7", "-7"), ("0x1F", "0x1F"), ("0o17", "0o17"), (".5", ".5"), ("25E-2", "25E-2"), ("007", None), ("a1", None), ("1e", None)],
)
def test_numbers_and_nothing_else_get_the_colour_of_numbers(text: str, number: str | None) -> None:
    found = pattern("number").search(f"({text} ")
    assert (found.group() if found else None) == number


def test_all_patterns_are_used_and_can_be_compiled() -> None:
    repository = GRAMMAR["repository"]
    used = {item["include"].removeprefix("#") for item in repository["form"]["patterns"]}
    assert used == set(repository) - {"form"}
    for rule in repository.values():
        for each in [rule, *rule.get("patterns", [])]:
            for key in ("match", "begin", "end"):
                re.compile(each.get(key, ""))


def test_the_extension_names_files_that_exist() -> None:
    package = json.loads((EDITORS / "package.json").read_text())["contributes"]
    for path in [package["languages"][0]["configuration"], package["grammars"][0]["path"]]:
        json.loads((EDITORS / path).read_text())
    assert package["grammars"][0]["scopeName"] == GRAMMAR["scopeName"]


@pytest.mark.skipif(shutil.which("vim") is None, reason="vim is not installed")
def test_vim_reads_its_files(tmp_path: Path) -> None:
    path = tmp_path / "p.policy"
    path.write_text('(def f (x) (guest.Control "k" 5)) # c\n')
    script = tmp_path / "ask.vim"
    columns = (2, 13, 19, 27, 31, 36)
    echoes = "".join(f'call add(g:found, synIDattr(synID(1, {column}, 1), "name"))\n' for column in columns)
    script.write_text(f"let g:found = []\n{echoes}call writefile(g:found, '{tmp_path}/found')\nqa!\n")
    settings = ["--cmd", f"set rtp^={EDITORS}/vim", "-c", "filetype plugin on", "-c", "syntax on", "-c", f"edit {path}", "-S", str(script)]
    subprocess.run(["vim", "-u", "NONE", "-N", "-es", *settings], check=True, timeout=120)
    found = (tmp_path / "found").read_text().splitlines()
    assert found == ["momPolicyForm", "", "momPolicyMethod", "momPolicyString", "momPolicyNumber", "momPolicyComment"]
