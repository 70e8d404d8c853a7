"""What an importer makes: settings with the reason for each, as the mapping that mom reads and as YAML that a person reads."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from mom_core.config.schema import yaml_value

_WIDTH: Final = 110

Setting: TypeAlias = "str | int | float | bool | list[str] | None"


@dataclass(slots=True)
class Section:
    """A plugin, or a pattern of guests: settings by name, and where each comes from; `why` is about the whole of it."""

    settings: dict[str, Setting] = field(default_factory=dict)
    why: list[str] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)

    def set(self, name: str, value: Setting, reason: str = "") -> None:
        """Set a setting, and say where it comes from."""
        self.settings[name] = value
        if reason:
            self.reasons[name] = reason


@dataclass(slots=True)
class Imported:
    """A configuration that was imported. `notes` say what has no place in it, and why; `policies` are texts by name that belong to it."""

    heading: str
    top: Section = field(default_factory=Section)
    plugins: dict[str, Section] = field(default_factory=dict)
    guests: dict[str, Section] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    policies: dict[str, str] = field(default_factory=dict)

    def plugin(self, name: str, why: str = "") -> Section:
        """The section of a plugin, which is enabled by that."""
        section = self.plugins.setdefault(name, Section())
        if why and why not in section.why:
            section.why.append(why)
        return section

    def settings(self) -> dict[str, object]:
        """What the YAML says, as a mapping."""
        plugins = {name: dict(section.settings) for name, section in self.plugins.items()}
        guests = {pattern: dict(section.settings) for pattern, section in self.guests.items()}
        return {**self.top.settings, "plugins": plugins, **({"guests": guests} if guests else {})}

    def yaml(self) -> str:
        """The configuration file."""
        lines = [*_comment(self.heading), ""]
        lines += [*_settings(self.top, ""), *([""] if self.top.settings else []), "plugins:"]
        for name, section in self.plugins.items():
            lines += _section(name, section, "  ")
        if self.guests:
            lines += ["", "guests:"]
            for pattern, section in self.guests.items():
                lines += _section(pattern, section, "  ")
        if self.notes:
            lines += ["", "# Not taken over:"]
            for note in self.notes:
                lines += _comment(note, "# - ", "#   ")
        return "\n".join(lines) + "\n"


def _section(name: str, section: Section, indent: str) -> Iterator[str]:
    for why in section.why:
        yield from _comment(why, f"{indent}# ", f"{indent}# ")
    yield f"{indent}{yaml_value(name)}:" if section.settings else f"{indent}{yaml_value(name)}: {{}}"
    yield from _settings(section, indent + "  ")


def _settings(section: Section, indent: str) -> Iterator[str]:
    for name, value in section.settings.items():
        line = f"{indent}{name}: {yaml_value(value)}"
        reason = section.reasons.get(name, "")
        if reason and len(line) + len(reason) + 4 <= _WIDTH:
            yield f"{line}  # {reason}"
        else:
            if reason:
                yield from _comment(reason, f"{indent}# ", f"{indent}# ")
            yield line


def _comment(text: str, first: str = "# ", others: str = "# ") -> Iterable[str]:
    """Lines of a comment. What stands in a file of somebody else's cannot end it: white space is one space, all else is printable."""
    clean = "".join(character if character.isprintable() else " " for character in text)
    return textwrap.wrap(clean, _WIDTH, initial_indent=first, subsequent_indent=others, break_on_hyphens=False)
