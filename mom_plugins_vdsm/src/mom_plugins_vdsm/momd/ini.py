"""INI files as the old daemon read them, with the line of each option, so that every complaint has a place."""

from __future__ import annotations

import configparser
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from mom_core import ConfigError, ConfigProblem, printable

_SECTION: Final = re.compile(r"\[(?P<name>.+)\]")
_OPTION: Final = re.compile(r"(?P<name>[^\s:=#;][^:=]*?)\s*[:=]")


@dataclass(frozen=True, slots=True)
class IniOption:
    """The text of an option, and the line in which it stands (0: nowhere)."""

    text: str
    line: int = 0


@dataclass(slots=True)
class Ini:
    """Sections by name, each with its options by lower-case name, and what is wrong with them."""

    file: str
    sections: dict[str, dict[str, IniOption]] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    problems: list[ConfigProblem] = field(default_factory=list)

    def get(self, section: str, option: str) -> IniOption | None:
        """An option that is given and not empty."""
        found = self.sections.get(section, {}).get(option)
        return found if found is not None and found.text else None

    def complain(self, option: IniOption, message: str, hint: str = "") -> None:
        """Note that an option is wrong."""
        self.problems.append(ConfigProblem(self.file, option.line, 1 if option.line else 0, message, hint))


def read_ini(text: str, file: str) -> Ini:
    """Read an INI file. Raises `ConfigError` for what is not one, with its line."""
    parser = configparser.RawConfigParser(strict=True, interpolation=None)
    try:
        parser.read_string(text.removeprefix("\ufeff"), file)
    except configparser.MissingSectionHeaderError as error:
        raise _error(file, error.lineno, "an option stands before the first section", "begin with a line such as [main]") from None
    except configparser.DuplicateSectionError as error:
        raise _error(file, error.lineno, f"the section {printable(str(error.section))} is there twice", "join the two") from None
    except configparser.DuplicateOptionError as error:
        what = f"the option {printable(error.option)} of {printable(error.section)} is there twice"
        raise _error(file, error.lineno, what, "remove one of them") from None
    except configparser.ParsingError as error:
        lines = text.split("\n")  # the error's own words for a line differ from one Python to another
        wrong = [(line, f"this is no option: {printable(lines[line - 1].strip(), 60)}") for line, _ in error.errors]
        hint = "write `name: value` or `name = value`"
        raise ConfigError([ConfigProblem(file, line, 1, message, hint) for line, message in wrong]) from None
    except (configparser.Error, AttributeError) as error:  # an indented line before any option trips the parser itself
        raise _error(file, 0, f"not an INI file: {printable(str(error), 200)}", "") from None
    ini = Ini(file)
    options, ini.lines = _places(text)
    defaults: Mapping[str, str] = parser.defaults()
    for section in parser.sections():
        # What stands under [DEFAULT] counts in every section.
        found = {name: parser.get(section, name) for name in parser.options(section)}
        ini.sections[section] = {
            name: IniOption(value.strip(), options.get((section, name)) or (options.get(("DEFAULT", name), 0) if name in defaults else 0))
            for name, value in found.items()
        }
    return ini


def _error(file: str, line: int | None, message: str, hint: str) -> ConfigError:
    return ConfigError([ConfigProblem(file, line or 0, 1 if line else 0, message, hint)])


def _places(text: str) -> tuple[dict[tuple[str, str], int], dict[str, int]]:
    """The lines of options and of sections, counted from 1."""
    options: dict[tuple[str, str], int] = {}
    sections: dict[str, int] = {}
    section = ""
    for number, line in enumerate(text.splitlines(), 1):
        if (match := _SECTION.match(line)) is not None:
            section = match["name"]
            sections.setdefault(section, number)
        elif (match := _OPTION.match(line)) is not None:
            options.setdefault((section, match["name"].rstrip().lower()), number)
    return options, sections
