"""Shares by cost: how much each guest gives of a common amount."""

from collections.abc import Sequence


def level_of(parts: Sequence[tuple[float, float]], amount: float) -> float:
    """Return the level that makes all parts give `amount` together.

    Each part gives `part * min(1, level / cost)`, so cheap parts are used up before dear ones.

    :param parts: cost and KiB of each part
    """
    whole = 0.0
    shared = sum(part / cost for cost, part in parts)
    rounding = 1e-9 * shared
    for cost, part in sorted(parts):
        if whole + cost * shared >= amount:
            break
        whole += part
        shared -= part / cost
    return (amount - whole) / shared if shared > rounding else max((cost for cost, _ in parts), default=0.0)
