"""The core knows no plugin: its string literals contain no names of plugins, or of their fields and controls."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
CORE = ROOT / "mom_core/src/mom_core"

ALLOWED = {
    "host": "the machine that mom manages: what a scope and its entity are called",
    "policy": "what an evaluator goes by: the word in messages, and in the names of services",
    "qemu": "the kind of hypervisor in the URI of a destination, which is libvirt's word",
    "priority": "the level of a line in systemd's journal",
}
"""Names that are also common words, with their meaning in the core."""


def declared() -> set[str]:
    """Return names of plugins (from entry points), fields and controls (from generated pages)."""
    about = [tomllib.loads(path.read_text()) for path in ROOT.glob("mom_*/pyproject.toml")]
    plugins = {name for one in about for name in one["project"].get("entry-points", {}).get("mom.plugins", {})}
    pages = [(ROOT / "docs" / page).read_text() for page in ("fields.md", "controls.md")]
    return plugins | {name for page in pages for name in re.findall(r"^\| `([a-z0-9_]+)` \|", page, re.M)}


def texts(source: str) -> Iterator[tuple[int, str]]:
    """Yield the string literals of a module with their lines, without docstrings."""
    tree = ast.parse(source)
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield node.lineno, node.value


def named(source: str, names: set[str]) -> list[str]:
    """Return the names, and distributions of plugins, that occur as words in a module's strings, with lines."""
    found = []
    for line, text in texts(source):
        words = set(re.findall(r"[a-z][a-z0-9_]*", text.lower()))
        found += [f"line {line}: {word}" for word in sorted(words & names)]
        found += [f"line {line}: {word}" for word in re.findall(r"mom[-_]plugins[-_]", text)]
    return found


NAMES = declared()


def test_the_core_names_no_plugin_field_or_control() -> None:
    files = {str(path.relative_to(CORE)): path.read_text() for path in sorted(CORE.rglob("*.py"))}
    assert [f"{file}: {found}" for file, source in files.items() for found in named(source, NAMES - ALLOWED.keys())] == []
    assert ALLOWED.keys() <= NAMES, "what is allowed is a name"
