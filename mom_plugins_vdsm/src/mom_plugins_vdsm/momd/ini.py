"""Parser of INI files that keeps options' lines for messages."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from mom_core import ConfigError, ConfigProblem, printable

_SECTION: Final = re.compile(r"\[(.+)\].*")
_OPTION: Final = re.compile(r"([^:=]+?)\s*[:=]\s*(.*)")


@dataclass(frozen=True, slots=True)
class IniOption:
    """Option's value and line (0 if not in a file)."""

    text: str
    line: int = 0


@dataclass(slots=True)
class Ini:
    """Sections with their options, keyed by lower-case name; lines of sections; and errors."""

    file: str
    sections: dict[str, dict[str, IniOption]] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    problems: list[ConfigProblem] = field(default_factory=list)

    def complain(self, line: int, message: str, hint: str = "") -> None:
        """Record an error."""
        self.problems.append(ConfigProblem(self.file, line, 1 if line else 0, message, hint))


def read_ini(text: str, file: str) -> Ini:
    """Parse an INI file. Raise `ConfigError` with the lines of its errors."""
    ini = Ini(file)
    section = name = ""
    options: dict[str, IniOption] = {}
    depth = 0  # indentation of the option; deeper lines continue it
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        content = line.strip()
        if not content or content[0] in "#;":
            continue
        before, depth = depth, len(line) - len(line.lstrip())
        if name and depth > before:
            options[name], depth = IniOption(f"{options[name].text}\n{content}".strip(), options[name].line), before
        elif match := _SECTION.fullmatch(content):
            section, name = match[1], ""
            if section in ini.sections:
                ini.complain(number, f"the section {printable(section)} occurs twice", "merge both sections")
            options = ini.sections.setdefault(section, {})
            ini.lines.setdefault(section, number)
        elif not section:
            ini.complain(number, "an option precedes the first section", "begin with a line such as [main]")
            break
        elif match := _OPTION.fullmatch(content):
            name = match[1].lower()
            if name in options:
                ini.complain(number, f"the option {printable(name)} of {printable(section)} occurs twice", "remove one of them")
            options[name] = IniOption(match[2], number)
        else:
            ini.complain(number, f"this is not an option: {printable(content, 60)}", "write `name: value` or `name = value`")
    if ini.problems:
        raise ConfigError(ini.problems)
    everywhere = ini.sections.pop("DEFAULT", {})  # valid in every section
    ini.sections = {section: {**everywhere, **options} for section, options in ini.sections.items()}
    return ini
