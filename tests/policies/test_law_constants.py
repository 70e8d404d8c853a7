"""The document of the KSM law explains every parameter and constant, with its value."""

import re
from pathlib import Path

from mom_core.settings import descriptions
from mom_plugins_ksm import law
from mom_plugins_ksm.law import KsmParameters

DOCUMENT = (Path(__file__).parents[2] / "docs/ksm-law.md").read_text()
ROW = re.compile(r"^\| (`[^|]*) \| ([^|]*) \|", re.M)
NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?")


def test_the_ksm_law_explains_every_constant_with_its_value_and_every_parameter() -> None:
    assert [name for name, text in descriptions(KsmParameters).items() if len(text) <= 25] == []
    names = re.findall(r"^([A-Z][A-Z_]*): Final = ", Path(law.__file__).read_text(), re.M)
    table = DOCUMENT.partition("| constant | value |")[2].partition("\n\n")[0]
    rows = [(re.findall(r"`(\w+)`", first), list(map(float, NUMBER.findall(value)))) for first, value in ROW.findall(table)]
    assert sorted(name for row, _ in rows for name in row) == sorted(names)
    for row, numbers in rows:
        assert numbers == [float(getattr(law, name)) for name in row], row
