"""Sizes as Kubernetes writes them, such as `100Mi`: k8s.io/apimachinery, pkg/api/resource."""

from __future__ import annotations

import re
from typing import Final

_QUANTITY: Final = re.compile(r"\+?([0-9]{1,20}(?:\.[0-9]{0,20})?|\.[0-9]{1,20})([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,2})?")
_SUFFIXES: Final = {
    **{f"{letter}i": float(1 << 10 * place) for place, letter in enumerate("KMGTPE", 1)},
    "n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
}  # fmt: skip
_MOST_BYTES: Final = float(1 << 60)
"""An exbibyte. What says more is no size of memory."""


def quantity_kib(text: object) -> float | None:
    """The size in KiB; None for what is none, or is negative."""
    if isinstance(text, int) and not isinstance(text, bool):
        text = str(text)
    match = _QUANTITY.fullmatch(text.strip()) if isinstance(text, str) and len(text) <= 60 else None
    if match is None:
        return None
    number, suffix = float(match[1]), match[2] or ""
    size = number * (_SUFFIXES[suffix] if suffix in _SUFFIXES else 10.0 ** int(suffix[1:]))
    return size / 1024 if size <= _MOST_BYTES else None
