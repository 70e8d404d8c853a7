"""The host and the parameters in the law's units: the same for all guests in one cycle."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Final, NamedTuple, cast

from mom_plugins_balloon.memory import HostMemory
from mom_plugins_balloon.parameters import BALLOON_KIB_PER_SECOND, LawParameters

BYTES: Final = 1024
"""Bytes in a KiB: settings are in bytes."""


class LawContext(NamedTuple):
    """The host and the law's parameters; sizes in KiB."""

    host: HostMemory
    p: LawParameters
    """Parameters as they are written, for ratios and times."""
    step: float
    """Smallest change that is worth a command."""
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
    """The host has so little that guests give of their margins."""
    sweeps_can_end_late: bool
    """A sweep leaves the guest memory until it ends; below the low watermark, none."""
    no_reclaim: bool
    """No guest has to give anything, whatever guests want."""
    depth: float = math.inf
    """Largest sweep, with the hollow memory that it goes through."""

    def margin_above(self, need: float) -> float:
        """Return the margin that a guest with this need keeps above it."""
        return self.margin + self.margin_share * need

    def worth(self, size: float) -> float:
        """Return the least memory that is worth taking from a guest of this size."""
        return max(self.sweep_worth, min(self.p.sweep_step_share * size, 0.5 * self.moves))  # a large balloon moves a smaller share


def context_of(host: HostMemory, parameters: LawParameters, *, no_reclaim: bool = False, depth: float = math.inf) -> LawContext:
    """Return the context of one cycle."""
    # Plain attributes: reading those of a pydantic model takes ten times as long.
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
        sweeps_can_end_late=host.available >= host.low,
        no_reclaim=no_reclaim,
        depth=depth,
    )


def margins_below(host: HostMemory, p: LawParameters) -> float:
    """Return the available memory below which guests give of their margins.

    A reservation is made before anybody else wants the memory, so margins are taken for it at once.
    """
    return host.high if host.reserved > 0 else max(host.hard, p.tight_below * host.high)


def headroom_returns(host: HostMemory, parameters: LawParameters) -> bool:
    """Return whether the host has enough for guests to get their headroom back."""
    return host.available >= parameters.bursts_above * host.hard
