"""What was found, for OpenStack's placement: the ratio at which a host's memory may be sold, and the operator's own commands that say so.

Placement lets guests in up to (total - reserved) x allocation_ratio MiB. By osc-placement's `resource provider inventory set`, and nova's
documents on allocation ratios: nova-compute writes total and reserved of its host itself, and leaves the ratio alone unless its own
configuration sets one.
"""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Sequence
from typing import NamedTuple

from mom_core import printable

MIB = 1024.0
"""KiB."""


class PlacementAdvice(NamedTuple):
    """What placement is to know of a host: its name, its memory, what of it is kept from guests, what they may be sold together (MiB), and
    the ratio of that to the rest, rounded down."""

    host: str
    total_mib: int
    reserved_mib: int
    sold_mib: int
    ratio: float


def placement_of(host: str, total_kib: float | None, promisable_kib: float | None, sold_kib: float) -> PlacementAdvice | str:
    """What follows from the sizes of a host, and of what is sold on it without harm; or why nothing does."""
    if not total_kib or promisable_kib is None:
        missing = "the host's memory (plugin host)" if not total_kib else "what it can promise (plugin balloon)"
        return f"no ratio: {missing} was not recorded"
    total, reserved = int(total_kib / MIB), math.ceil((total_kib - promisable_kib) / MIB)
    sold = int(sold_kib / MIB)
    if reserved >= total or sold <= 0:
        return "no ratio: nothing of the host's memory is for guests" if sold else "no ratio: there is no guest"
    return PlacementAdvice(host, total, reserved, sold, math.floor(100 * sold / (total - reserved)) / 100)


def script(advice: PlacementAdvice, told: Sequence[str]) -> str:
    """Return a script for the operator to look at and to run.

    :param told: what was found, a line each
    """
    lines = [
        f"For OpenStack's placement, by `mom advise` of {time.strftime('%Y-%m-%d', time.gmtime())}. mom runs nothing of this.",
        *(printable(line, 300) for line in told),
        f"So {advice.sold_mib} MiB can be sold of {advice.total_mib} - {advice.reserved_mib} MiB.",
        "Placement counts MiB and knows no classes: it lets guests in that are promised more, too. Keep those to other hosts.",
        "In nova.conf of the host, which nova-compute takes to placement itself; no ram_allocation_ratio, which would overwrite the ratio:",
        f"  reserved_host_memory_mb = {advice.reserved_mib}",
        "If the provider has another name: openstack resource provider list. To look first: add --dry-run.",
    ]
    name = shlex.quote(printable(advice.host, 253))
    commands = [
        "set -eu",
        f"provider=$(openstack resource provider list --name {name} -f value -c uuid)",
        f'openstack resource provider inventory set --amend --resource MEMORY_MB:allocation_ratio={advice.ratio:.2f} "$provider"',
    ]
    return "\n".join(["#!/bin/sh", *(f"# {line}" for line in lines), *commands]) + "\n"
