"""How long a verb that only looks waits, and the sign of life that it gives meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from mom_daemon import print_prose
from mom_daemon.cli.prose import terminal_columns

LOOK_SECONDS: Final = 10.0
"""As long as a person waits for an answer. A hypervisor whose guests boot needs seconds, which a cycle would not give it."""

_SILENCE_SECONDS: Final = 1.5
"""After this a person wonders."""


@contextmanager
def sign_of_life(waiting_for: str) -> Iterator[None]:
    """Say on the terminal what is waited for, if it takes long; nothing where standard error goes elsewhere."""
    if terminal_columns(err=True) is None:
        yield
        return
    text = f"mom: still waiting for {waiting_for}, for up to {LOOK_SECONDS:g} s …"
    timer = threading.Timer(_SILENCE_SECONDS, print_prose, (text, 2), {"err": True})
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
