"""Host and parameters in the law's units (KiB), the same for all guests of one cycle."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Final, NamedTuple, cast

from mom_plugins_balloon.memory import HostMemory
from mom_plugins_balloon.parameters import BALLOON_KIB_PER_SECOND, LawParameters

BYTES: Final = 1024
"""Settings are in bytes."""


class LawContext(NamedTuple):
    """Host and parameters of the law; sizes in KiB."""

    host: HostMemory
    p: LawParameters
    """As configured; for ratios and times."""
    step: float
    margin: float
    margin_share: float
    moves: float
    """Memory that a balloon moves in one cycle."""
    oldest_statistics: float
    sweep_worth: float
    sweep_keeps: float
    growth_rate: float
    below_hard: bool
    takes_margins: bool
    """Whether the host is so short of memory that mom takes part of the margins."""
    below_low: bool
    no_reclaim: bool
    """Whether no guest has to give memory, even if all guests grow."""
    depth: float = math.inf
    """Largest inflation for a sweep, hollow memory included."""

    def margin_above(self, need: float) -> float:
        """Return a guest's margin above this need."""
        return self.margin + self.margin_share * need

    def worth(self, size: float) -> float:
        """Return the smallest amount worth taking at this size."""
        return max(self.sweep_worth, min(self.p.sweep_step_share * size, 0.5 * self.moves))  # large balloons move a smaller share


def context_of(host: HostMemory, parameters: LawParameters, *, no_reclaim: bool = False, depth: float = math.inf) -> LawContext:
    """Return the context of one cycle."""
    # A copy with plain attributes: reading attributes of a pydantic model takes ten times as long.
    p = cast(LawParameters, SimpleNamespace(**vars(parameters)))
    return LawContext(
        host,
        p,
        step=p.step / BYTES,
        margin=p.margin / BYTES,
        margin_share=p.margin_percent / 100,
        moves=BALLOON_KIB_PER_SECOND * host.interval,
        oldest_statistics=p.statistics_age or max(2.0, 1.6 * host.interval),
        sweep_worth=p.sweep_step / BYTES,
        sweep_keeps=p.sweep_keeps / BYTES,
        growth_rate=p.growth_rate / BYTES,
        below_hard=host.available < host.hard,
        takes_margins=host.available < margins_below(host, p),
        below_low=host.available < host.low,
        no_reclaim=no_reclaim,
        depth=depth,
    )


def margins_below(host: HostMemory, p: LawParameters) -> float:
    """Return the available memory below which mom takes part of the margins.

    With a reservation, this is the high watermark: the memory must be there before the launch.
    """
    return host.high if host.reserved > 0 else max(host.hard, p.tight_below * host.high)


def headroom_returns(host: HostMemory, parameters: LawParameters) -> bool:
    """Return whether the host can return headroom for bursts."""
    return host.available >= parameters.bursts_above * host.hard
