"""Parameters of the KSM law, which are settings."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from mom_core import Duration, Size, StrictModel

BYTES: Final = 1024
"""Bytes of a KiB. Settings are in bytes."""

Share = Annotated[float, Field(ge=0, le=1)]
Percent = Annotated[float, Field(gt=0, lt=100)]


class KsmParameters(StrictModel):
    """Parameters: when KSM runs, the price of its CPU time, its speed, and its rests."""

    # --- when

    start_share: Share = 0.20
    """Ratio of the host's memory. Memory is short while less is available. ksmtuned keeps a fifth, too."""
    start_least: Size = 2 << 30
    """Smallest such threshold: room for one more guest. Or `start_least_share`, if that is less."""
    start_least_share: Share = 0.25
    """Ratio of the host's memory. 2 GiB would be all memory of a host of 2 GiB."""
    start_large: Size = 32 << 30
    """Largest such threshold, with `start_large_share`. No guest is short on a host of 4,096 GiB with 800 GiB available."""
    start_large_share: Share = 0.05
    """Ratio of the host's memory, added to `start_large`. The sum is 57.6 GiB of 512 GiB, and 237 of 4,096."""
    stop_factor: Annotated[float, Field(ge=1, le=10)] = 1.5
    """Factor of the threshold. Memory is no longer short with more available, even after another launch of the same size."""
    sold_share: Annotated[float, Field(ge=0, le=10)] = 0.80
    """Ratio of the host's memory. If less is sold to guests, memory cannot get short, and merging in advance gains nothing. A fifth is for
    QEMU, the host and its files."""

    # --- worth

    worth: Annotated[Size, Field(gt=0)] = 4 << 20
    """Memory that a scan must save for each CPU second of ksmd. A CPU costs as much as 8 GiB, and a page stays merged for half an hour:
    8 GiB / 1,800. ksmd scans some 1,500 MiB in a CPU second."""
    worth_short: Annotated[Size, Field(gt=0)] = 512 << 10
    """The same while memory is short. Memory is worth far more then, as guests or the host would swap."""
    rest_below: Share = 0.25
    """Ratio of the worth. A scan that was worth less is the last before a rest. Slower scans would find as little."""

    # --- how fast

    cpu_share: Annotated[float, Field(gt=0, le=1)] = 0.125
    """Ratio of all CPUs that ksmd may use while memory is short. It runs beside the guests, and locks their memory."""
    cpu_ceiling: Percent = 70.0
    """Percent of one CPU that ksmd never exceeds. The kernel's advisor has the same limit."""
    cpu_gentle: Percent = 5.0
    """Percent of one CPU while memory is not short. Nothing waits for the result."""
    sleep_ms: Annotated[int, Field(ge=1, le=1000)] = 20
    """ms between batches of a scan: the kernel's default."""
    pages_least: Annotated[int, Field(ge=1)] = 64
    """Smallest batch in pages: ksmtuned's value."""
    pages_most: Annotated[int, Field(ge=1)] = 30_000
    """Largest batch in pages: the advisor's value in the kernel."""

    # --- look and rest

    look_scans: Annotated[int, Field(ge=1, le=100)] = 3
    """Scans of a look. The current scan does not reach a new guest, the next records its pages, and the one after that merges them."""
    look_most: Annotated[int, Field(ge=1, le=1000)] = 9
    """Most scans of a look. Guests that come or grow lengthen a look; guests that always grow must not make it endless."""
    books_most: Size = 16 << 20
    """KSM is stopped, which frees its own data, when that exceeds the savings by so much: the data for 1 GiB without equal pages."""
    gain_least: Size = 16 << 20
    """A look has paid if it saved this. Less is noise."""
    grown_least: Size = 64 << 20
    """Growth of all guests that may end a rest."""
    grown_share: Share = 0.02
    """The same as a ratio of the memory that guests hold. The larger of both counts."""
    lost_share: Share = 0.10
    """Ratio of the savings. A larger loss of merged memory may end a rest."""
    rest_least: Annotated[Duration, Field(gt=0)] = 600.0
    """Rest after a look that has paid, and half of the first rest after a look that has not."""
    rest_most: Annotated[Duration, Field(gt=0)] = 7200.0
    """Longest rest. Each rest after a look that has not paid takes twice as long as the rest before."""
    rest_ratio: Annotated[float, Field(ge=0, le=1000)] = 9.0
    """Smallest ratio of a rest to the look before. Looking thus takes at most a tenth of the time."""
    rest_pause: Share = 0.25
    """Ratio of a rest after a look that has not paid. Before, growth and loss do not count, nor, after two such looks, new guests.
    Guests with bursts always grow, and some hosts start a guest each minute. Freeing KSM's data after a look takes 0.4 s for 12 GiB."""
