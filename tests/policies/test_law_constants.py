"""Parameters of the laws have a reason, and the constants of the KSM law stand in its document."""

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from mom_core.settings import descriptions
from mom_plugins_balloon.parameters import LawParameters
from mom_plugins_ksm import law as ksm_law
from mom_plugins_ksm.parameters import KsmParameters

ROOT = Path(__file__).parents[2]
KSM = (ROOT / "docs/ksm-law.md").read_text()

NUMBER = re.compile(r"(?<![\w.])(?P<number>\d+(?:\.\d+)?)(?P<gib> GiB)?(?![\w.]*\w)")
GIB = 1 << 20
PLAIN = frozenset({0.0, 1.0})
"""Numbers that forms and sentences are full of, whatever a value is."""


class Row(NamedTuple):
    """A line of a table: the names of the constants that it explains, and its other cells."""

    names: tuple[str, ...]
    cells: tuple[str, ...]


def rows(text: str) -> list[Row]:
    """All lines of tables in a text that begin with names."""
    found = []
    for line in text.splitlines():
        first, *others = (cell.strip() for cell in line.strip("|").split("|"))
        names = tuple(re.findall(r"`(\w+)`", first))
        if line.startswith("| `") and names:
            found.append(Row(names, tuple(others)))
    return found


def numbers(text: str) -> list[float]:
    """The numbers in a text, sizes in KiB, without those in code."""
    found = NUMBER.finditer(re.sub(r"`[^`]*`", "", text))
    return [float(match["number"]) * (GIB if match["gib"] else 1) for match in found]


def constants(module: ModuleType) -> Mapping[str, list[float]]:
    """The constants of a module, each as all its numbers in order. Units have none: they are no choice."""
    names = re.findall(r"^([A-Z][A-Z_]*)(?:: Final)? = ", Path(str(module.__file__)).read_text(), re.M)
    return {name: list(flat(getattr(module, name))) for name in names if name not in {"GIB", "BYTES"}}


def flat(value: object) -> Iterator[float]:
    if isinstance(value, int | float):
        if math.isfinite(value):
            yield float(value)
    else:
        assert isinstance(value, tuple | dict)
        for one in value.values() if isinstance(value, dict) else value:
            yield from flat(one)


def test_every_parameter_of_the_balloon_law_has_a_unit_or_a_reference_and_a_reason() -> None:
    for name, text in descriptions(LawParameters).items():
        assert len(text) > 40, name
        field = LawParameters.model_fields[name]
        is_amount = field.annotation not in {float, int} or name.endswith(("percent", "share"))
        assert is_amount or re.match(r"Times the|Ratio of|Age|Growth|Least|Longest|Memory|Smallest|Time", text), name


def test_the_ksm_law_explains_every_constant_with_its_value_and_every_parameter() -> None:
    assert [name for name, text in descriptions(KsmParameters).items() if len(text) <= 25] == []
    found = constants(ksm_law)
    table = rows(KSM.partition("| constant | value |")[2].partition("\n\n")[0])
    assert sorted(name for row in table for name in row.names) == sorted(found)
    for row in table:
        assert numbers(row.cells[0]) == [number for name in row.names for number in found[name]], row.names
        assert all(row.cells)
