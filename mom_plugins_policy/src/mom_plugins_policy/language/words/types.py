"""Types of values as bit masks, for the checks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import or_

NIL, INT, FLOAT, STRING, LIST, ENTITY, FUNCTION, OTHER, UNBOUND = (1 << bit for bit in range(9))
"""INT includes booleans. OTHER: disks, records and `Guests`. UNBOUND: an unbound variable."""

NUMBER = INT | FLOAT
DATA = NIL | NUMBER | STRING | LIST | OTHER
"""Types of fields and properties."""
ANY = DATA | ENTITY | FUNCTION

# Each function returns the types that a word's result may have, computed from the arguments' types; 0 if the word always fails.


def truth(args: Sequence[int]) -> int:
    """Return the type of a boolean."""
    return INT


def joined(args: Sequence[int]) -> int:
    """Return the types of all arguments together."""
    return reduce(or_, args, 0)


def number(args: Sequence[int]) -> int:
    """Return the types of a sum, difference or absolute value."""
    if not all(arg & NUMBER for arg in args):
        return 0
    if any(arg & NUMBER == FLOAT for arg in args):
        return FLOAT
    return NUMBER if any(arg & FLOAT for arg in args) else INT


def fraction(args: Sequence[int]) -> int:
    """Return the type of a quotient or root."""
    return FLOAT if number(args) else 0


def total(args: Sequence[int]) -> int:
    """Return the types of `+`."""
    return number(args) | args[0] & args[1] & (STRING | LIST)


def product(args: Sequence[int]) -> int:
    """Return the types of a product. Multiplying a string or list by an integer repeats it."""
    left, right = args
    repeated = (left if right & INT else 0) | (right if left & INT else 0)
    return number(args) | repeated & (STRING | LIST)


def integer(args: Sequence[int]) -> int:
    """Return the type of a shifted integer."""
    return INT if all(arg & INT for arg in args) else 0


def order(args: Sequence[int]) -> int:
    """Return the type of a comparison of numbers, strings or lists."""
    return INT if _kinds_in_order(args) else 0


def extreme(args: Sequence[int]) -> int:
    """Return the types of the smallest or largest argument."""
    return args[0] if len(args) == 1 else _kinds_in_order(args) & joined(args)


def _kinds_in_order(args: Sequence[int]) -> int:
    return reduce(or_, (kind for kind in (NUMBER, STRING, LIST) if all(arg & kind for arg in args)), 0)
