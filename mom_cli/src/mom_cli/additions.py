"""`mom config add`: plugins that fit this host by now go into a configuration that the operator has written, and keeps."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mom_cli.draft import Addition
from mom_core import MomError
from mom_core.config.document import parse_document


def with_plugins(text: str, file: str, additions: Mapping[str, Addition]) -> str:
    """The text of a configuration with more plugins in it, each before those that come after it by their order; all else stays.

    :raises MomError: the plugins do not stand one below the other there, so that lines cannot be put between them
    """
    given = _read(text, file)
    expected = {**given, "plugins": {**given["plugins"], **{name: dict(one.settings) for name, one in additions.items()}}}
    for name, addition in additions.items():
        text = _with_plugin(text, file, name, addition)
    if _read(text, file) != expected:
        raise _by_hand(file, additions)
    return text


def _read(text: str, file: str) -> dict[str, Any]:
    """The content of the text; a plugin without settings is one with none."""
    document = parse_document(text, file)
    given = dict(document.value) if isinstance(document.value, Mapping) and not document.problems else {}
    section = given.get("plugins")
    given["plugins"] = {name: value or {} for name, value in section.items()} if isinstance(section, Mapping) else {}
    return given


def _with_plugin(text: str, file: str, name: str, addition: Addition) -> str:
    places = {str(path[1]): place for path, place in parse_document(text, file).keys.items() if len(path) == 2 and path[0] == "plugins"}
    indent = min((place.column - 1 for place in places.values()), default=0)
    lines, numbers = text.splitlines(), {key: place.line - 1 for key, place in places.items()}
    if not places or any(lines[number][:indent].strip() for number in numbers.values()):
        raise _by_hand(file, {name: addition})
    later = [numbers[key] for key in addition.later if key in numbers]
    if later:
        at = min(later)
        while at and re.match(rf"{' ' * indent}#", lines[at - 1]):
            at -= 1  # the comment above a plugin stays with it
    else:
        at = max(numbers.values()) + 1
        while at < len(lines) and re.match(rf"{' ' * indent}\s+\S", lines[at]):
            at += 1
    added = [" " * indent + line[2:] if line else line for line in addition.lines]
    if at == len(lines) or not lines[at].strip():
        added = added[:-1]  # one empty line is enough
    made = [*lines[:at], *added, *lines[at:]]
    return "\n".join(line for line in made if not re.match(rf"\s*# {re.escape(name)}: {{}}\s+# installed", line)) + "\n"


def _by_hand(file: str, additions: Mapping[str, Addition]) -> MomError:
    lines = "\n".join(line for one in additions.values() for line in one.lines if line and not line.lstrip().startswith("#"))
    return MomError(f"{file} is not written so that lines can be added below its `plugins`", hint=f"add by hand, below `plugins`:\n{lines}")
