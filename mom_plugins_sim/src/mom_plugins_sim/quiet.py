"""Simulations run whole moms within a command, whose log is not worth seeing: what is worth knowing is in the command's own output."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet(level: int) -> Iterator[None]:
    """mom logs nothing below that level meanwhile; serves as a decorator, too."""
    log = logging.getLogger("mom")
    before = log.level
    log.setLevel(level)
    try:
        yield
    finally:
        log.setLevel(before)
