"""Imported configuration, and its YAML."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

from mom_core import ConfigError, read_file

_WIDTH: Final = 110
_LARGEST: Final = 1 << 20  # bytes

Setting: TypeAlias = "str | int | float | bool | list[str] | Mapping[str, str | int | float] | None"


@dataclass(slots=True)
class ImportedSection:
    """Settings of a plugin, or of mom itself. `reasons` say where values come from, keyed by setting."""

    settings: dict[str, Setting] = field(default_factory=dict)
    why: list[str] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)

    def set(self, name: str, value: Setting, reason: str = "") -> None:
        """Set a setting."""
        self.settings[name] = value
        if reason:
            self.reasons[name] = reason


@dataclass(frozen=True, slots=True)
class LogTarget:
    """Log of the old daemon. `file` is empty for standard error. `backups` is the number of older log files to keep."""

    file: str = ""
    max_bytes: int = 2 << 20
    backups: int = 5


@dataclass(slots=True)
class Imported:
    """Imported configuration, and the log of the old daemon. `notes` list settings without an equivalent in mom."""

    heading: str
    log: LogTarget = LogTarget()
    top: ImportedSection = field(default_factory=ImportedSection)
    plugins: dict[str, ImportedSection] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def plugin(self, name: str, why: str = "") -> ImportedSection:
        """Enable a plugin and return its section."""
        section = self.plugins.setdefault(name, ImportedSection())
        if why and why not in section.why:
            section.why.append(why)
        return section

    def settings(self) -> dict[str, object]:
        """Return the configuration as a mapping."""
        return {**self.top.settings, "plugins": {name: dict(section.settings) for name, section in self.plugins.items()}}

    def yaml(self) -> str:
        """Return the text of the configuration file."""
        lines = [*_comment(self.heading), ""]
        lines += [*_settings(self.top, ""), *([""] if self.top.settings else []), "plugins:"]
        for name, section in self.plugins.items():
            lines += _section(name, section)
        if self.notes:
            lines += ["", "# Notes:"]
            for note in self.notes:
                lines += _comment(note, "# - ", "#   ")
        return "\n".join(lines) + "\n"


def read_text(path: Path) -> str:
    """Read a text file, or raise `ConfigError`."""

    def refused(line: int, message: str, hint: str = "") -> ConfigError:
        return ConfigError([ConfigError.Problem(str(path), line, min(line, 1), message, hint)])

    try:
        raw = read_file(path, _LARGEST)
    except OSError as error:
        raise refused(0, (error.strerror or str(error)).lower()) from error
    if len(raw) > _LARGEST:
        raise refused(0, f"too large: mom reads at most {_LARGEST:,} bytes", "is this the right file?")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise refused(raw.count(b"\n", 0, error.start) + 1, "not UTF-8 text", "save the file as UTF-8") from None


def _section(name: str, section: ImportedSection) -> Iterator[str]:
    for why in section.why:
        yield from _comment(why, "  # ", "  # ")
    yield f"  {name}:" if section.settings else f"  {name}: {{}}"
    yield from _settings(section, "    ")


def _settings(section: ImportedSection, indent: str) -> Iterator[str]:
    for name, value in section.settings.items():
        reason = section.reasons.get(name, "")
        yield f"{indent}{name}: {json.dumps(value, ensure_ascii=False)}" + (f"  # {_clean(reason)}" if reason else "")


def _comment(text: str, first: str = "# ", others: str = "# ") -> Iterable[str]:
    return textwrap.wrap(_clean(text), _WIDTH, initial_indent=first, subsequent_indent=others, break_on_hyphens=False)


def _clean(text: str) -> str:
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())
