"""Parameters of the KSM law, which are settings."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from mom_core import Duration, Size, StrictModel

BYTES: Final = 1024
"""Bytes of a KiB, because settings are in bytes."""

Share = Annotated[float, Field(ge=0, le=1)]
Percent = Annotated[float, Field(gt=0, lt=100)]


class KsmParameters(StrictModel):
    """When KSM runs, the value of its CPU time, its speed, and its rests."""

    # --- when

    start_share: Share = 0.20
    """Memory is short if less than this share of the host's memory is available. ksmtuned uses a fifth, too."""
    start_least: Size = 2 << 30
    """Minimum of the threshold for a shortage: room for one more guest. Limited by `start_least_share`."""
    start_least_share: Share = 0.25
    """Limit of `start_least` as a share of the host's memory, for small hosts."""
    start_large: Size = 32 << 30
    """Upper limit of the threshold, together with `start_large_share`: 800 GiB available of 4,096 GiB are not short."""
    start_large_share: Share = 0.05
    """Share of the host's memory, added to `start_large`. The sum is 57.6 GiB on a host of 512 GiB, and 237 GiB on 4,096 GiB."""
    stop_factor: Annotated[float, Field(ge=1, le=10)] = 1.5
    """Memory is no longer short above the threshold times this factor, even after another launch of the same size."""
    sold_share: Annotated[float, Field(ge=0, le=10)] = 0.80
    """If guests may use less than this share of the host's memory, memory cannot get short, and KSM need not merge in advance. A fifth is
    for QEMU, the host and its files."""

    # --- worth

    worth: Annotated[Size, Field(gt=0)] = 4 << 20
    """Memory that a scan must save per CPU second of ksmd. A CPU costs as much as 8 GiB of memory, and a page stays merged for half an
    hour: 8 GiB / 1,800. ksmd scans 1,500 MiB per CPU second."""
    worth_short: Annotated[Size, Field(gt=0)] = 512 << 10
    """`worth` while memory is short. Memory is worth more then, because guests or the host would swap."""
    rest_below: Share = 0.25
    """A rest follows a scan that saved less than this share of `worth`. Slower scans would find as little."""

    # --- how fast

    cpu_share: Annotated[float, Field(gt=0, le=1)] = 0.125
    """Share of all CPUs for ksmd while memory is short. ksmd takes CPU time from the guests, and locks their memory."""
    cpu_ceiling: Percent = 70.0
    """Upper limit in percent of one CPU, as in the kernel's advisor."""
    cpu_gentle: Percent = 5.0
    """Percent of one CPU while memory is not short. Nothing waits for the result."""
    sleep_ms: Annotated[int, Field(ge=1, le=1000)] = 20
    """ms between batches of a scan: the kernel's default."""
    pages_least: Annotated[int, Field(ge=1)] = 64
    """Minimum batch in pages, as in ksmtuned."""
    pages_most: Annotated[int, Field(ge=1)] = 30_000
    """Maximum batch in pages, as in the kernel's advisor."""

    # --- look and rest

    look_scans: Annotated[int, Field(ge=1, le=100)] = 3
    """Scans of a look: the current scan misses a new guest, the next one records its pages, and the third merges them."""
    look_most: Annotated[int, Field(ge=1, le=1000)] = 9
    """Maximum scans of a look. New or growing guests extend it; guests that always grow must not make it endless."""
    books_most: Size = 16 << 20
    """mom stops KSM if KSM's own data exceeds the savings by this much: the data for 1 GiB without equal pages. Stopping frees the data."""
    gain_least: Size = 16 << 20
    """A look has paid if it saved this much. Less is noise."""
    grown_least: Size = 64 << 20
    """Growth of all guests that may end a rest."""
    grown_share: Share = 0.02
    """`grown_least` as a share of the memory that guests use. The larger of both counts."""
    lost_share: Share = 0.10
    """Share of the savings. A larger loss of merged memory may end a rest."""
    rest_least: Annotated[Duration, Field(gt=0)] = 600.0
    """Rest after a look that has paid, and half of the first rest after a look that has not."""
    rest_most: Annotated[Duration, Field(gt=0)] = 7200.0
    """Maximum rest. Each look that has not paid doubles the rest."""
    rest_ratio: Annotated[float, Field(ge=0, le=1000)] = 9.0
    """Minimum ratio of a rest to the look before: looks take at most a tenth of the time."""
    rest_pause: Share = 0.25
    """Share of a rest after a look that has not paid, in which growth and loss do not end the rest. After two such looks, new guests do not
    end the rest, either: guests with bursts always grow, and some hosts start a guest each minute. Freeing KSM's data after a look takes
    0.4 s for 12 GiB."""
