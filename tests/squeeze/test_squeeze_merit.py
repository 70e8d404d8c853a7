"""Work, latency and bursts from guests' output; memory taken at enough work; tables of runs."""

import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from guest_hosts import GuestHost
from guests_told import Listener, lines, quantile, work
from merit import Moment, taken_at_work, taken_unfelt
from mixes import read_mixes
from one_run import Squeeze, warming

LINE = (
    "DEMAND {since:.1f} held=150 lost=0.0 filled={filled:.2f} kills={kills} ran={ran:.1f} met={met} bursts={bursts} swap=2048 oom={kills} "
    "took=2:{fast},200:{slow},\r\n"
)


def said(since: float, met: int, *, filled: float = 0, bursts: int = 0, kills: int = 0, fast: int = 0, slow: int = 0) -> bytes:
    text = LINE.format(since=since, filled=filled, kills=kills, ran=since, met=met, bursts=bursts, fast=fast, slow=slow)
    return text.encode()


def test_lines_are_found_among_other_output_of_the_console() -> None:
    (told,) = lines(b"GUEST up\r\n[    1.0] noise\r\n" + said(10, 99, fast=98, slow=1) + b"DEMAND 11.0 held=1", at=5.0)
    assert (told.at, told.ran, told.met, told.swap, told.took) == (5.0, 10.0, 99, 2048, {2.0: 98, 200.0: 1})


def heard(*told: tuple[float, bytes]) -> Listener:
    listener = Listener(Path("nowhere"))
    for at, text in told:
        listener.heard += lines(text, at)
    return listener


def test_work_is_the_ratio_of_slots_done_in_time() -> None:
    done = work([heard((0, said(100, 1000)), (60, said(160, 1540)))], 0, 60)
    assert done.share == pytest.approx(0.9)


def test_work_counts_kills_and_bursts_since_its_beginning() -> None:
    listener = heard(
        (0, said(0, 0, filled=1.4, bursts=1)),
        (1, said(1, 10, filled=1.4, bursts=1)),
        (2, said(2, 20, filled=2.0, bursts=2)),
        (3, said(3, 30, filled=2.0, bursts=2, kills=1)),
    )
    done = work([listener], 1, 3)
    assert (done.bursts, done.kills, done.swap) == ([2.0], 1, 2.0)


def test_quantile_is_interpolated_between_edges() -> None:
    assert quantile({2: 99, 200: 1}, 0.99) == 2
    assert quantile({2: 98, 200: 2}, 0.99) == pytest.approx(101)
    assert quantile({}, 0.99) is None


def moment(time: float, taken: float, work: float = 1.0, kills: int = 0) -> Moment:
    return Moment(time, taken, 1000, 0, 0, 0, work, kills, 0, {})


def test_most_memory_taken_at_enough_work_counts() -> None:
    assert taken_at_work([moment(1, 100), moment(2, 200, 0.96), moment(3, 300, 0.94)]) == 200


def test_memory_taken_after_a_kill_does_not_count() -> None:
    assert taken_at_work([moment(1, 100), moment(2, 200, kills=1), moment(3, 300)]) == 100


def felt(time: float, taken: float, p99_ms: float | None, burst: float | None, kills: int = 0) -> Moment:
    return replace(moment(time, taken, kills=kills), p99_ms=p99_ms, burst=burst)


@pytest.mark.parametrize("slower", [(9.0, 1.0), (7.0, 2.6), (None, 1.0)])
def test_memory_that_slows_guests_does_not_count_as_unfelt(slower: tuple[float | None, float]) -> None:
    trace = [felt(1, 100, 4.0, 1.0), felt(2, 200, 8.0, None), felt(3, 300, *slower), felt(4, 150, 4.0, 1.0)]
    assert taken_unfelt(trace, 4.0) == 200


def squeezed_since(met: int) -> Squeeze:
    """Return guests that missed this many slots a second for 20 s after they began to use cold memory, at 100 s."""
    told = [(float(at), said(at, 10 * at - (0 if at <= 100 else met * min(20, at - 100)))) for at in range(161)]
    squeeze = Squeeze(read_mixes()["warming"], cast("GuestHost", None), Path("nowhere"), listeners={"a": heard(*told)})
    squeeze.trace = [moment(at, 25.0 * at) for at in range(161)]
    squeeze.warms = 100.0
    return squeeze


def test_work_is_back_once_every_ten_seconds_have_enough_of_it() -> None:
    assert warming(squeezed_since(5), 160.0) == {"taken": 2500, "least_work": 0.5, "back": 28.0}
    assert warming(squeezed_since(0), 160.0) == {"taken": 2500, "least_work": 1.0, "back": 0.0}


def test_deficit_counts_guests_below_their_full_size() -> None:
    host = cast("GuestHost", SimpleNamespace(sizes=lambda: {"a": 512.0}))
    full = {"a": 1024.0, "silent": 1024.0}
    squeeze = Squeeze(read_mixes()["days"], host, Path("nowhere"), memory=full, sizes=dict(full))
    squeeze.watch_sizes(time.monotonic() + 0.3)
    assert squeeze.deficit.longest >= 0.25
    assert squeeze.deficit.kib_seconds == pytest.approx(squeeze.deficit.longest * 512 * 1024)
    assert squeeze.deficit.guest_seconds == pytest.approx(2 * squeeze.deficit.longest)
