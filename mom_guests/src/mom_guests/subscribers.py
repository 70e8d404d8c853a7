"""Who is told of what happens to guests."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress


class Subscribers:
    """Those that are told. Safe to be used from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[str], None]] = []

    def subscribe(self, callback: Callable[[str], None]) -> Callable[[], None]:
        """Call `callback(what happened)` from now on; the result ends that."""
        with self._lock:
            self._callbacks.append(callback)

        def unsubscribe() -> None:
            with self._lock, suppress(ValueError):
                self._callbacks.remove(callback)

        return unsubscribe

    def tell(self, what: str) -> None:
        """Tell all of them, in this thread."""
        with self._lock:
            callbacks = tuple(self._callbacks)
        for callback in callbacks:
            callback(what)
