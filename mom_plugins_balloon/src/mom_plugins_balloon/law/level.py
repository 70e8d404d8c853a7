"""Shares by cost: how much each guest gives of a common amount."""

from collections.abc import Sequence


def level_of(parts: Sequence[tuple[float, float]], wanted: float) -> float:
    """Return the level at which these give so much together, each `part * min(1, level / cost)`: the cheap give all before the dear give.

    :param parts: cost and KiB of each
    """
    whole = 0.0
    shared = sum(part / cost for cost, part in parts)
    rounding = 1e-9 * shared
    for cost, part in sorted(parts):
        if whole + cost * shared >= wanted:
            break
        whole += part
        shared -= part / cost
    return (wanted - whole) / shared if shared > rounding else max((cost for cost, _ in parts), default=0.0)
