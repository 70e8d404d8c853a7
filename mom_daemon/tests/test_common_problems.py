"""A problem of many guests is reported once, with their number and the first names."""

import pytest

from mom_core import Entity, Problem, Scope, Severity, Source
from mom_daemon.report_words import common_problems

NO_STATISTICS = "it tells no statistics"


def of(name: str | None, message: str = NO_STATISTICS, hint: str = "", since: float = 100.0, cycles: int = 5) -> Problem:
    entity = None if name is None else Entity(Scope.GUEST, f"id-{name}", name)
    return Problem(Source("libvirt"), message, entity, Severity.WARNING, hint, since=since, cycles=cycles)


@pytest.mark.parametrize(
    ("names", "who"),
    [
        (["a"], "a"),
        (["a", "b"], "2 guests (a, b)"),
        (["a", "b", "c", "d"], "4 guests (a, b, c and 1 more)"),
        (["a", "b", "c", "d", "e"], "5 guests (a, b, c and 2 more)"),
    ],
)
def test_those_who_have_it_are_counted_and_the_first_are_named(names: list[str], who: str) -> None:
    (one,) = common_problems([of(name) for name in names])
    assert one.who == who
    assert [entity.name for entity in one.about] == names
    assert one.text == f"libvirt: {who}: {NO_STATISTICS}"


def test_it_stands_since_the_first_had_it_and_was_seen_as_often_as_with_whom_it_was_most() -> None:
    (one,) = common_problems([of("a", since=160.0, cycles=2), of("b", since=100.0, cycles=1), of("c", since=130.0, cycles=7)])
    assert (one.since, one.cycles) == (100.0, 7)
    assert one.lasted(190.0) == "for 1 min 30 s, in 7 cycles"
    assert common_problems([of("a", cycles=1)])[0].lasted(0.0) == "for less than 1 s, in 1 cycle", "also when the clock has jumped"


def test_names_from_outside_cannot_write_on_a_terminal() -> None:
    (one,) = common_problems([of("a\x1b[2J\n", "said\x07", "do\x1b]0;x\x07"), of("b\x9b", "said\x07", "or\n")])
    assert one.text.isprintable(), one.text
    assert len(common_problems([of("n" * 10_000, "m" * 10_000, "h" * 10_000)])[0].text) < 2000
