"""Parses YAML into plain values and their positions. Limits protect against malicious files.

Scalars follow YAML 1.2: `0123` is 123; `yes`, `1:30` and `2024-01-01` are strings.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import yaml

from mom_core.errors import ConfigError
from mom_core.files import OWN_IT, read_file, untrusted
from mom_core.texts import printable

MAX_BYTES: Final = 1 << 20

MAX_DEPTH: Final = 50

MAX_KEYS: Final = 10_000
"""Maximum number of keys and list items after aliases are expanded."""

KeyPath: TypeAlias = "tuple[str | int, ...]"
"""Keys and list indices from the top to a value."""


class Place(NamedTuple):
    """Line and column, counted from 1; both are 0 without a file."""

    line: int
    column: int


NOWHERE: Final = Place(0, 0)


@dataclass(slots=True)
class Document:
    """Parsed YAML: its value, the positions of its keys and list items, and all mistakes."""

    file: str
    value: object = None
    keys: dict[KeyPath, Place] = field(default_factory=dict)
    problems: list[ConfigError.Problem] = field(default_factory=list)

    @classmethod
    def parse(cls, text: str, file: str) -> Document:
        """Parse YAML text. Problems show `file` as the file's name."""
        root = _compose(text, file)
        document = Document(file)
        if root is None:
            document.keys[()] = Place(1, 1)
        else:
            document.value = _Builder(document).build(root, ())
        return document

    def complain(self, path: KeyPath, message: str, hint: str = "") -> None:
        """Record a problem of a key or its value."""
        self.note(self.place(path), f"{dotted(path)}: {message}" if path else message, hint)

    def note(self, place: Place, message: str, hint: str = "") -> None:
        """Add a problem at a position."""
        self.problems.append(ConfigError.Problem(self.file, *place, message, hint))

    def place(self, path: KeyPath) -> Place:
        """Return the position of a key or list item; if unknown, the position of its nearest known parent."""
        while path and path not in self.keys:
            path = path[:-1]
        return self.keys.get(path, NOWHERE)


def dotted(path: Sequence[str | int]) -> str:
    """Format a path: `plugins.host.deadline`, `guests."db-*".class`, `list[2]`."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            shown = step if re.fullmatch(r"[\w-]{1,80}", step) else f'"{printable(step)}"'
            text += f".{shown}" if text else shown
    return text


def read_document(path: Path) -> Document:
    """Read a file. Raise `ConfigError` if it is unreadable or not YAML. The document's `problems` list other mistakes."""
    file = str(path)
    raw = _read(path)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise _refused(file, Place(line, 1), f"not UTF-8: byte 0x{raw[error.start]:02x}", "save the file as UTF-8") from None
    return Document.parse(text, file)


def _refused(file: str, place: Place, message: str, hint: str = "") -> ConfigError:
    return ConfigError([ConfigError.Problem(file, *place, message, hint)])


def mapping_document(mapping: Mapping[str, object], name: str = "configuration") -> Document:
    """Wrap values that a program passes. Problems show `name` instead of a file name."""
    return Document(name, _plain(mapping))


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return str(value) if isinstance(value, os.PathLike) else value


# --- the file ------------------------------------------------------------------------------------------------------------------


def _read(path: Path) -> bytes:
    refused = partial(_refused, printable(str(path), 500), NOWHERE)
    try:
        raw = read_file(path, MAX_BYTES)
    except OSError as error:
        hint = "`mom config init` writes a configuration for this host; `-c FILE` uses another file"
        raise refused((error.strerror or str(error)).lower(), hint if isinstance(error, FileNotFoundError) else "") from error
    reason = untrusted(path)
    if reason:
        raise refused(f"not used: {reason}", OWN_IT)
    if len(raw) > MAX_BYTES:
        raise refused(f"larger than {MAX_BYTES:,} bytes", "is this the right file?")
    return raw


# --- the syntax ----------------------------------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {}  # noqa: RUF012  # a class attribute of PyYAML, filled once below


_INT: Final = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_TAG: Final = "tag:yaml.org,2002:"
for _kind, _pattern, _first in (
    ("null", re.compile(r"~|null|Null|NULL|"), ["~", "n", "N", ""]),
    ("bool", re.compile(r"true|True|TRUE|false|False|FALSE"), list("tTfF")),
    ("int", _INT, list("-+0123456789")),
    ("float", _FLOAT, list("-+.0123456789")),
):
    _Loader.add_implicit_resolver(f"{_TAG}{_kind}", re.compile(rf"(?:{_pattern.pattern})\Z"), _first)

_COLON_HINT: Final = "put a string with a colon in quotes; otherwise check the indentation, and the line above for a missing colon"


_INI_SECTION: Final = re.compile(r"^\[[A-Za-z][\w: -]*\][ \t]*$", re.MULTILINE)


def _compose(text: str, file: str) -> yaml.Node | None:
    try:
        return yaml.compose(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(mark.line + 1, mark.column + 1) if mark else NOWHERE
        message = printable(error.problem or error.context or "not YAML", 200)
        # The mistake is often where the enclosing structure begins.
        opened = error.context_mark
        if opened is not None and mark is not None and opened.line != mark.line and error.context:
            message += f" ({error.context}, from line {opened.line + 1})"
        hint = _COLON_HINT if "mapping values are not allowed" in message else ""
        if _INI_SECTION.search(text):
            hint = f"it looks like oVirt MOM's INI file: `mom config import {file}` converts it"
        raise _refused(file, place, f"not valid YAML: {message}", hint) from None
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError, IndexError) as error:  # the last for numbers out of range
        raise _refused(file, NOWHERE, f"not valid YAML: {printable(' '.join(str(error).split()), 200)}") from None


# --- the values ----------------------------------------------------------------------------------------------------------------


_SCALARS: Final[Mapping[str, Callable[[str], object]]] = {
    f"{_TAG}str": str,
    f"{_TAG}null": lambda _: None,
    f"{_TAG}bool": lambda text: {"true": True, "false": False}[text.lower()],
    f"{_TAG}int": lambda text: int(text, 0 if re.match("[-+]?0[ox]", text) else 10),
    f"{_TAG}float": lambda text: float(re.sub(r"\.(?=inf|nan)", "", text.lower())),
}


@dataclass(frozen=True, slots=True)
class _Builder:
    document: Document

    def build(self, node: yaml.Node, path: KeyPath) -> object:
        self.document.keys.setdefault(path, _place(node))
        if len(path) > MAX_DEPTH:
            raise _refused(self.document.file, _place(node), f"nested deeper than {MAX_DEPTH} levels, with aliases expanded")
        if len(self.document.keys) > MAX_KEYS:
            raise _refused(self.document.file, _place(node), f"more than {MAX_KEYS:,} keys and list items, with aliases expanded")
        if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
            return [self.build(inner, (*path, number)) for number, inner in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and node.tag in _SCALARS:
            return self._scalar(node)
        raise self._no_value(node)

    def _scalar(self, node: yaml.ScalarNode) -> object:
        try:
            return _SCALARS[node.tag](node.value)
        except (ValueError, KeyError):
            raise self._no_value(node) from None

    def _no_value(self, node: yaml.Node) -> ConfigError:
        value = f" '{printable(node.value, 40)}'" if isinstance(node, yaml.ScalarNode) else ""
        message = f"the tag {printable(node.tag.replace(_TAG, '!!'))} is not possible here{value and ':'}{value}"
        return _refused(self.document.file, _place(node), message, "mom reads strings, numbers, booleans, lists, mappings")

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, object]:
        built: dict[str, object] = {}
        for key_node, value_node in node.value:
            key = self._key(key_node, path)
            if key is None:
                continue
            inner = (*path, key)
            if key in built:
                first = self.document.keys[inner]
                message = f"{dotted(inner)}: duplicate key, first used in line {first.line}"
                self.document.note(_place(key_node), message, "remove one of them")
                continue
            self.document.keys[inner] = _place(key_node)
            built[key] = self.build(value_node, inner)
        return built

    def _key(self, node: yaml.Node, path: KeyPath) -> str | None:
        if isinstance(node, yaml.ScalarNode):
            return str(node.value)
        self.document.note(_place(node), f"{dotted(path)}: a key must be a string" if path else "a key must be a string")
        return None


def _place(node: yaml.Node) -> Place:
    return Place(node.start_mark.line + 1, node.start_mark.column + 1)
