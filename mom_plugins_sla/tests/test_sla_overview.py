"""How `mom status` counts classes."""

from mom_core import Report
from mom_core.testing import snapshot
from mom_plugins_sla.overview import class_parts


def said(*classes: str | None) -> str:
    taken = snapshot(guests={f"g{number}": {"sla_class": name} for number, name in enumerate(classes)})
    return ", ".join(part.text for part in class_parts(Report(1, taken.time, "enforce", taken, (), (), (), (), (), 0.01)))


def test_classes_are_counted_the_most_frequent_first() -> None:
    assert said("gold", "silver", "silver", None) == "2 silver, 1 gold, 1 of none"


def test_nothing_is_said_where_no_guest_has_a_class() -> None:
    assert said(None, None) == ""
