"""Thread that calls a function repeatedly."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from pydantic import AfterValidator

from mom_core import format_duration

_FAILED_SECONDS: Final = 1.0

_SHORTEST_PAUSE_SECONDS: Final = 0.01


class LookThread:
    """Thread that calls `look` repeatedly. `look` returns the seconds until the next call. Exceptions in `look` are logged.

    :param purpose: for the log, such as `reading the host's memory`
    :param share: largest share of one CPU for these calls; below 1, the thread pauses after each call
    """

    def __init__(self, name: str, purpose: str, look: Callable[[], float], log: logging.Logger, share: float = 1.0) -> None:
        self._name, self._purpose, self._look, self._log, self._share = name, purpose, look, log, share
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, seconds: float = 0.0) -> None:
        """Start the thread, unless it is running or was stopped. Raise `RuntimeError` if the system allows no further thread.

        :param seconds: seconds until the first look
        """
        if self._thread is not None or self._ended.is_set():
            return
        thread = threading.Thread(target=self._run, args=(seconds,), name=self._name, daemon=True)
        thread.start()
        self._thread = thread

    def stop(self, seconds: float) -> None:
        """End the thread, and wait for it at most `seconds`."""
        thread, self._thread = self._thread, None
        self._ended.set()
        if thread is not None:
            thread.join(seconds)

    @staticmethod
    def interval(shortest: float) -> AfterValidator:
        """Return the validator of a setting for the seconds between two looks: 0 (no looks), or at least `shortest`."""

        def check(seconds: float) -> float:
            if 0 < seconds < shortest:
                raise ValueError(f"must be at least {format_duration(shortest)}, or 0s for never")
            return seconds

        return AfterValidator(check)

    def _run(self, seconds: float) -> None:
        while not self._ended.wait(seconds):
            began = time.thread_time()
            try:
                seconds = self._look()
            except Exception as error:  # noqa: BLE001  # without memory, anything may fail, but looks matter most
                self._log.warning("%s failed: %r", self._purpose, error)
                seconds = _FAILED_SECONDS
            if self._share < 1:
                pause = max(_SHORTEST_PAUSE_SECONDS, (time.thread_time() - began) * (1 / self._share - 1))
                seconds = max(pause, seconds)
