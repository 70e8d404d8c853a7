"""Latencies of real programs: parsed from guests' output, compared with a bound, and shown in a table."""

from pathlib import Path

import programs
from guests_told import Listener
from merit import Moment

UNSQUEEZED = {"pgbench": [10.0, 50.0], "redis": [2.0, 20.0]}


def moment(taken: float, latencies: programs.Latencies, kills: int = 0) -> Moment:
    return Moment(0.0, taken, 0.0, 0.0, 0.0, 0.0, 1.0, kills, 0.0, {}, latencies=latencies)


def test_latencies_are_those_that_guests_print_in_that_time(tmp_path: Path) -> None:
    listener = Listener(tmp_path / "guest.log")
    listener.path.write_text("PROGRAM redis 9.0\r\n")
    listener.listen(1.0)
    with listener.path.open("a") as file:
        file.write("PROGRAM redis 1.0,2.0,3.0\r\nPROGRAM sort 4000.5\r\nPROGRAM redis 5")
    listener.listen(2.0)
    assert programs.latencies([listener], 1.0, 2.0) == {"redis": [2.0, 3.0], "sort": [4000.5, 4000.5]}


def test_nothing_counts_as_taken_while_a_program_is_slow_or_after_a_kill() -> None:
    trace = [
        moment(100.0, {"pgbench": [12.0, 100.0], "redis": [2.4, 40.0]}),
        moment(200.0, {"pgbench": [12.1, 100.0], "redis": [2.4, 40.0]}),
        moment(300.0, {"pgbench": [12.0, 100.0], "redis": [2.4, 40.1]}),
        moment(400.0, {"redis": [2.0, 20.0]}),
        moment(500.0, UNSQUEEZED, kills=1),
        moment(600.0, UNSQUEEZED),
    ]
    assert programs.taken_within_bound(trace, UNSQUEEZED) == 100
    assert programs.result(trace, {}, {}) == {}
