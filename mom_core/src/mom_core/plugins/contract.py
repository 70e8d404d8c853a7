"""What a plugin states about the contract, and whether this mom-core keeps it.

Two forms: the version that it was built for, `contract = "1.0"`, or the range that it was tried with, `contract = ">=1.0,<3"`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, TypeAlias

Version: TypeAlias = "tuple[int, int]"
"""Major and minor: the first changes when a plugin would have to, the second when something is added."""

_VERSION: Final = re.compile(r"([0-9]{1,6})\.([0-9]{1,6})")
_BOUND: Final = re.compile(r"(>=|<)\s*([0-9]{1,6})(?:\.([0-9]{1,6}))?")


@dataclass(frozen=True, slots=True)
class ContractRange:
    """The contract versions with which a plugin works: from `least` on, below `below`."""

    least: Version
    below: Version

    def __contains__(self, version: Version) -> bool:
        return self.least <= version < self.below

    def __str__(self) -> str:
        return f">={self.least[0]}.{self.least[1]},<{self.below[0]}.{self.below[1]}"


def parse_version(text: str) -> Version:
    """A version like `1.1`. Raises `ValueError`."""
    match = _VERSION.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r:.40} is no version like 1.1")
    return int(match[1]), int(match[2])


def parse_contract(stated: str) -> ContractRange:
    """What a plugin's `contract` means. Raises `ValueError` with what is wrong with it.

    A version alone means that one and all later ones with the same first number. A range needs its lower end; without an upper one it
    ends where the first number changes.
    """
    text = stated.strip()
    if _VERSION.fullmatch(text):
        least = parse_version(text)
        return ContractRange(least, (least[0] + 1, 0))
    lower: Version | None = None
    upper: Version | None = None
    for part in text.split(","):
        match = _BOUND.fullmatch(part.strip())
        if match is None:
            raise ValueError("it is neither a version nor a range")
        version = (int(match[2]), int(match[3] or 0))
        if match[1] == ">=":
            if lower is not None:
                raise ValueError("it has two lower ends")
            lower = version
        else:
            if upper is not None:
                raise ValueError("it has two upper ends")
            upper = version
    if lower is None:
        raise ValueError("it lacks a lower end, such as >=1.0")
    if upper is None:
        upper = (lower[0] + 1, 0)
    if upper <= lower:
        raise ValueError("no version is in it")
    return ContractRange(lower, upper)
