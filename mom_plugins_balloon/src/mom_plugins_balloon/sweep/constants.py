"""Constants of sweeps."""

from typing import Final

SLICE_KIB: Final = 128 * 1024.0
FIRST_SLICE_KIB: Final = 64 * 1024.0
LEAST_SLICE_KIB: Final = 16 * 1024.0
"""Largest, first and smallest slice (inflation between two checks of the guest). 128 MiB take 0.15 s. Larger slices show growth later;
smaller ones need more commands. The first slice measures the speed."""

SLICE_SECONDS: Final = 0.25
"""Target time of a slice, from the speed of the previous slice."""

POLL_SECONDS: Final = 0.01
"""Interval of checks of the guest's CPU time while its balloon moves."""

FRESH_SECONDS: Final = 1.0
"""Maximum age of the statistics when a sweep begins: a program may have allocated memory since."""

NEXT_STATISTICS_SECONDS: Final = 2.5
ASK_SECONDS: Final = 0.1
"""Longest wait for new statistics, and interval of queries."""

QUIET_SECONDS: Final = 0.2
"""A guest must be idle this long before a sweep. A program that fills memory in slots of 100 ms pauses for 50 ms."""

PAUSE_SECONDS: Final = 0.02
"""A guest must be idle this long after each slice."""

AT_WORK: Final = 0.08
"""Ratio of one CPU. A guest that uses more over `QUIET_SECONDS` or `DOUBT_SECONDS` is busy. Idle guests use 0.02 to 0.04, a program that
fills memory at 320 MiB/s 0.15."""

STILL_MOVES: Final = 0.25
"""A guest that uses more of one CPU than this in `POLL_SECONDS` or `PAUSE_SECONDS` is busy, or its balloon moves."""

GROWN_KIB: Final = 4 * 1024.0
"""While the balloon rests, more RSS growth or page faults than this show growth. A moving balloon faults too: Linux zeroes pages."""

MORE_WORK: Final = 1.4
FAR_MORE_WORK: Final = 2.0
"""Ratios of a slice's CPU time to the cheapest slice. Above `MORE_WORK`, another program may be running; above `FAR_MORE_WORK`, it
certainly is."""

DOUBT_SECONDS: Final = 0.1
"""A guest must be idle this long after a slice above `MORE_WORK`. A program that fills memory pauses for less time."""

WORK_SECONDS: Final = 0.015
"""CPU seconds that timers and services may use in each slice."""

USUAL_SHARE: Final = 0.75
"""A slice that gains more than this ratio of its size shows the CPU cost of backed memory."""

HOLLOW_SHARE: Final = 0.25
HOLLOW_SLICES: Final = 2
"""A slice whose gain is below `HOLLOW_SHARE` of its size is hollow. A sweep ends after `HOLLOW_SLICES` beyond the known hollow memory."""

GOT_SHARE: Final = 0.97
"""A sweep is complete at this ratio of the planned gain. RSS varies by some MiB."""

SLICE_WAIT_SECONDS: Final = 1.0
"""Time limit of a slice: a slower balloon is stuck, or its guest gets no CPU."""

ARRIVED_KIB: Final = 1024.0
"""Distance to the target at which a balloon has arrived: hypervisors round to MiB."""

BACK_AGAIN_SECONDS: Final = (0.1, 0.3, 1.0, 2.0)
"""Pauses before each new attempt to deflate. After the last attempt, the next cycle deflates the balloon."""

RELEASE_SECONDS: Final = 0.1
"""Seconds from the deflate command until the guest has memory back. A balloon deflates at 2 GiB/s."""

TAKEN_OVER_SECONDS: Final = 5.0
"""Longest time that another resize waits for a sweep whose command hangs."""

STOP_SECONDS: Final = 0.3
"""Longest wait for the end of all sweeps at shutdown."""
