"""Memory that guests need, and the largest amount that could be taken."""

import time
from dataclasses import replace
from pathlib import Path

import pytest
from guests_told import Listener, lines
from merit import Inside, Moment
from needs import Needs, backed_mib, calm, could_be_taken, inside_of, kernel, needs_in

SMAPS = """\
55943ac25000-55943b0a5000 rw-p 00000000 00:00 0                          [heap]
Size:              16080 kB
KernelPageSize:        4 kB
Rss:                4188 kB
Anonymous:          4188 kB
7f1c00000000-7f1c40000000 rw-p 00000000 00:00 0
Size:            1048576 kB
KernelPageSize:        4 kB
MMUPageSize:           4 kB
Rss:              739328 kB
Anonymous:        739328 kB
THPeligible:           1
VmFlags: rd wr mr mw me ac sd mg
7f1c40000000-7f1c7ffff000 rwxp 00000000 00:00 0
Size:            1048572 kB
KernelPageSize:        4 kB
Rss:               51200 kB
Anonymous:         51200 kB
"""

REST = Inside(program=150, swap=0, size=1024, available=974, unused=782, usable=700, backed=260, beside=107)
BURST = replace(REST, program=600, unused=332, backed=710)


def moment(at: float, inside: dict[str, Inside], *, programs: float = 4050, merged: float = 470) -> Moment:
    sizes = {f"worker-{index:02d}": 1024.0 for index in range(12)}
    return Moment(at, 15 * at, 1000, 6000, merged, 1000, 1.0, 0, 0, sizes, "", programs, inside)


def line(since: float, held: int, swap: int = 0) -> bytes:
    return f"DEMAND {since} held={held} lost=0 filled=1 kills=0 ran={since} met=1 bursts=1 swap={swap} oom=0 took=2:1,\n".encode()


def heard(*said: tuple[float, bytes]) -> Listener:
    listener = Listener(Path("nowhere"))
    now = time.monotonic()
    for ago, text in said:
        listener.heard += lines(text, now - ago)
    return listener


def test_guest_memory_is_distinguished_from_a_code_buffer_of_nearly_its_size() -> None:
    assert backed_mib(SMAPS, 1048576) == 722
    assert backed_mib(SMAPS, 196608) is None


def test_program_that_grows_or_has_just_begun_is_not_calm() -> None:
    assert calm(heard((8, line(1, 150)), (1, line(8, 150)))) is not None
    assert calm(heard((8, line(1, 150)), (1, line(8, 400)))) is None
    assert calm(heard((1, line(8, 150)))) is None
    assert calm(heard()) is None


def record(**other: int) -> dict[str, int]:
    kib = {"current": 1048576, "maximum": 1048576, "unused": 800768, "available": 997376, "usable": 716800, "last-update": int(time.time())}
    return {f"balloon.{name}": value for name, value in {**kib, **other}.items()}


def test_details_of_a_guest_need_all_figures() -> None:
    (program,) = lines(line(9, 150, swap=2048), 0)
    assert inside_of(record(), SMAPS, 829, program) == Inside(150, 2, 1024, 974, 782, 700, 722, 107)
    assert inside_of(record(), SMAPS, 829, None) is None
    assert inside_of(record(), "", 829, program) is None
    assert inside_of(record(**{"last-update": int(time.time()) - 60}), SMAPS, 829, program) is None
    incomplete = record()
    del incomplete["balloon.usable"]
    assert inside_of(incomplete, SMAPS, 829, program) is None


SWAPPED = replace(REST, swap=50, unused=820)
KEEPS_FREED = replace(REST, unused=REST.unused - 47)


@pytest.mark.parametrize(
    ("samples", "mib"),
    [
        ([REST], 92),
        ([REST, REST, replace(REST, size=600)], 92),  # the balloon moved between the samples
        ([replace(KEEPS_FREED, backed=700)] * 4 + [BURST], 92),  # freed pages on lists of CPUs
        ([replace(KEEPS_FREED, backed=240)], 90),  # memory that the host has not backed
        ([REST, SWAPPED], 92),
        ([SWAPPED], 104),  # counts if there is no other sample
        ([replace(SWAPPED, backed=190)], 90),
    ],
)
def test_kernels_need_is_what_it_keeps_itself(samples: list[Inside], mib: float) -> None:
    assert kernel(samples) == mib


def test_needs_are_the_peak_of_programs_kernels_and_processes_less_merged_memory() -> None:
    guests = {f"worker-{index:02d}": REST for index in range(12)}
    trace = [moment(1, guests, programs=3600, merged=0), moment(500, {}), moment(600, guests, programs=3600)]
    needs = needs_in(trace)
    assert needs == Needs(programs=4050, kernels=12 * 92, processes=12 * 107, merged=470, free=12 * 18)
    assert needs.total == 5968
    assert could_be_taken(15570, 500, needs) == 9102
