"""Constants of sweeps, each with its unit and its reason."""

from typing import Final

SLICE_KIB: Final = 128 * 1024.0
FIRST_SLICE_KIB: Final = 64 * 1024.0
LEAST_SLICE_KIB: Final = 16 * 1024.0
"""KiB. Largest, first and smallest inflation between two looks at the guest. A balloon inflates by 128 MiB in 0.15 s, at 0.86 GiB/s. With
larger slices growth is noticed later; smaller slices cost more commands. The first slice shows the balloon's speed."""

SLICE_SECONDS: Final = 0.25
"""s. Time that a slice may take, by the speed of the slice before. A host with busy CPUs would notice growth later otherwise."""

POLL_SECONDS: Final = 0.01
"""s. Time between two looks at the CPU time of a guest whose balloon moves: the most that a slice takes longer than its balloon."""

FRESH_SECONDS: Final = 1.0
"""s. Largest age of the statistics when a sweep begins. A program may have begun to use the memory since."""

NEXT_STATISTICS_SECONDS: Final = 2.5
ASK_SECONDS: Final = 0.1
"""s. Longest wait for a guest's next statistics, and time between two questions. Guests report every one or two seconds."""

QUIET_SECONDS: Final = 0.2
"""s. A guest must be idle for so long before its sweep. A program that fills memory in slots of 100 ms pauses for half of each."""

PAUSE_SECONDS: Final = 0.02
"""s. A guest must be idle for so long after each slice."""

AT_WORK: Final = 0.08
"""Ratio of one CPU. A guest that uses more for `QUIET_SECONDS` or `DOUBT_SECONDS` is at work. An idle guest uses 0.02 to 0.04; a program
that fills memory at 320 MiB/s uses 0.15, or a whole CPU if the host must reclaim that memory first. Slower growth fits into the headroom
that a sweep leaves."""

STILL_MOVES: Final = 0.25
"""Ratio of one CPU. A guest that uses more for `POLL_SECONDS` or `PAUSE_SECONDS` is at work, or its balloon still moves. A task of 3 ms in
an idle guest needs 0.15 of its 20 ms."""

GROWN_KIB: Final = 4 * 1024.0
"""KiB. Growth of the RSS, or page faults, of a guest whose balloon stands still: its programs use more memory. A moving balloon also causes
page faults, because Linux zeroes the pages that it allocates."""

MORE_WORK: Final = 1.4
FAR_MORE_WORK: Final = 2.0
"""Ratios. CPU time of a slice to that of the cheapest slice. Above the first, something besides the balloon may be at work. Above the
second, something is. The balloon's own time varies by half where the host's CPUs are busy."""

DOUBT_SECONDS: Final = 0.1
"""s. A guest must be idle for so long after such a slice. No program that fills memory pauses for so long."""

WORK_SECONDS: Final = 0.015
"""s of CPU time. Extra time that any slice may use, for a timer or a service that wakes up."""

USUAL_SHARE: Final = 0.75
"""Ratio of a slice. A slice that gave the host more is backed memory, and its CPU time counts as the cost of such memory."""

VAIN_SHARE: Final = 0.25
VAIN_SLICES: Final = 2
"""Ratio of a slice, and slices. A slice that gave the host less is hollow. So many hollow slices beyond the guest's hollow memory end the
sweep: the guest's kernel swaps in as much as the balloon frees, or QEMU uses more memory than estimated."""

GOT_SHARE: Final = 0.97
"""Ratio of the planned gain that is enough. The RSS of a process varies by some MiB."""

SLICE_WAIT_SECONDS: Final = 1.0
"""s. Longest time for one slice. Then the balloon is stuck, or the host has no CPU for the guest."""

ARRIVED_KIB: Final = 1024.0
"""KiB. A balloon so near to its target has arrived: hypervisors round to whole MiB."""

BACK_AGAIN_SECONDS: Final = (0.1, 0.3, 1.0, 2.0)
"""s. Pauses before each new attempt to deflate, where the hypervisor fails. After the last one the next cycle sees the guest as it is."""

RELEASE_SECONDS: Final = 0.1
"""s. Time from the deflate command until the guest has its first memory back. A balloon deflates at 2 GiB/s, and begins at once."""

TAKEN_OVER_SECONDS: Final = 5.0
"""s. Longest wait of another resize for a command of the sweep that hangs."""

END_SECONDS: Final = 0.3
"""s. Longest wait for the end of all sweeps when mom ends. `mom_teardown` has 0.4 s."""
