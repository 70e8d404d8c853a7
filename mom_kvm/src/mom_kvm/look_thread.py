"""Thread that calls a function repeatedly."""

from __future__ import annotations

import logging
import os
import select
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
        self._heard: dict[int, Callable[[int], object]] = {}
        self._thread: threading.Thread | None = None
        self._poll: select.epoll
        self._bell: int

    def start(self, seconds: float = 0.0) -> None:
        """Start the thread, unless it is running or was stopped. Raise `RuntimeError` if the system allows no further thread.

        :param seconds: seconds until the first look
        """
        if self._thread is not None or self._ended.is_set():
            return
        self._poll, self._bell = select.epoll(), os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll.register(self._bell, select.EPOLLIN)
        thread = threading.Thread(target=self._run, args=(seconds,), name=self._name, daemon=True)
        try:
            thread.start()
        except RuntimeError:
            self._close()
            raise
        self._thread = thread

    def stop(self, seconds: float) -> None:
        """End the thread, and wait for it at most `seconds`. If the thread hangs in `look`, its files stay open."""
        thread, self._thread = self._thread, None
        self._ended.set()
        if thread is not None:
            os.eventfd_write(self._bell, 1)
            thread.join(seconds)
            if not thread.is_alive():
                self._close()

    @staticmethod
    def interval(shortest: float) -> AfterValidator:
        """Return the validator of a setting for the seconds between two looks: 0 (no looks), or at least `shortest`."""

        def check(seconds: float) -> float:
            if 0 < seconds < shortest:
                raise ValueError(f"must be at least {format_duration(shortest)}, or 0s for never")
            return seconds

        return AfterValidator(check)

    def listen(self, file: int, events: int, heard: Callable[[int], object]) -> None:
        """Call `heard` with the events that `epoll` reports for the file, then look immediately."""
        self._heard[file] = heard
        self._poll.register(file, events)

    def ignore(self, file: int) -> None:
        """Stop listening to this file."""
        if self._heard.pop(file, None) is not None:
            self._poll.unregister(file)

    def _close(self) -> None:
        self._poll.close()
        os.close(self._bell)

    def _run(self, seconds: float) -> None:
        while not self._ended.is_set():
            began = time.thread_time()
            try:
                for file, events in self._poll.poll(seconds):
                    self._heard.get(file, _nothing)(events)
                if self._ended.is_set():
                    return
                seconds = self._look()
            except Exception as error:  # noqa: BLE001  # without memory, anything may fail, but looks matter most
                self._log.warning("%s failed: %r", self._purpose, error)
                seconds = _FAILED_SECONDS
            if self._share < 1:
                pause = max(_SHORTEST_PAUSE_SECONDS, (time.thread_time() - began) * (1 / self._share - 1))
                self._ended.wait(pause)
                seconds = max(0.0, seconds - pause)


def _nothing(_: int) -> None:
    pass
