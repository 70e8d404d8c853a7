"""Threads for repeated calls, and for calls that may never return."""

from __future__ import annotations

import logging
import math
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import Any, Final, TypeVar

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
                    if (heard := self._heard.get(file)) is not None:
                        heard(events)
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


T = TypeVar("T")

_LEAST_PATIENCE_SECONDS = 0.1
"""Shortest timeout. A healthy server answers within a few milliseconds."""

_IMPATIENT_SECONDS = 5.0
"""How long a timed-out call shortens later timeouts."""


class Callers:
    """Pool of daemon threads. A hung call does not block the process's exit.

    :param most: maximum number of threads; None for no limit
    """

    def __init__(self, name: str, most: int | None = None) -> None:
        self._name = name
        self._most = most
        self._wanted = threading.Condition()
        self._waiting: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._threads: set[threading.Thread] = set()
        self._idle = 0
        self._closed = False

    def start(self, function: Callable[[], T]) -> Future[T]:
        """Call a function in one of the threads. After `close`, the function is never called.

        :raises RuntimeError: there is no thread, and none can be started
        """
        future: Future[T] = Future()
        with self._wanted:
            if self._closed:
                return future
            self._waiting.append((future, function))
            if self._idle < len(self._waiting) and (self._most is None or len(self._threads) < self._most):
                thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # the system's limit of threads; existing threads make this call
                    if not self._threads:
                        self._waiting.pop()
                        raise
                else:
                    self._threads.add(thread)
            self._wanted.notify()
        return future

    def close(self, patience: float) -> None:
        """End each thread as soon as its present call returns. Wait for `patience` seconds at most."""
        with self._wanted:
            self._closed = True
            self._waiting.clear()
            self._wanted.notify_all()
            threads = list(self._threads)
        for thread in threads:
            thread.join(patience / len(threads))

    def _work(self) -> None:
        while True:
            with self._wanted:
                self._idle += 1
                while not self._waiting and not self._closed:
                    self._wanted.wait()
                self._idle -= 1
                if not self._waiting:
                    self._threads.discard(threading.current_thread())
                    return
                future, function = self._waiting.popleft()
            make(future, function)

    @staticmethod
    def came_back(future: Future[Any], seconds: float) -> bool:
        """Wait for a call for up to `seconds`, and return whether it has ended."""
        with suppress(TimeoutError, CancelledError):
            future.exception(seconds)
        return future.done()


def make(future: Future[T], function: Callable[[], T]) -> None:
    """Call a function, and store its result or error in a future."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(function())
    except BaseException as error:  # noqa: BLE001  # the caller gets any error
        future.set_exception(error)


class CallPatience:
    """Timeout for calls that concern a single guest. Thread-safe.

    Each call that timed out recently halves the next timeout. So all hung guests together delay a cycle by about two timeouts.

    :param lasts: seconds for which a timed-out call counts as recent
    :param least: shortest timeout in seconds
    """

    def __init__(
        self, monotonic: Callable[[], float] = time.monotonic, lasts: float = _IMPATIENT_SECONDS, least: float = _LEAST_PATIENCE_SECONDS
    ) -> None:
        self._monotonic, self._lasts, self._least = monotonic, lasts, least
        self._lock = threading.Lock()
        self._given_up: list[tuple[float, Callable[[], bool]]] = []
        """For each call that timed out recently: the time, and a function that returns whether the call has ended."""

    def given_up(self, came_back: Callable[[], bool] = lambda: False) -> None:
        """Count a timed-out call as recent for `lasts` seconds, or until `came_back()` returns True."""
        with self._lock:
            self._forget_old()
            self._given_up.append((self._monotonic(), came_back))

    def seconds(self, call_timeout: float) -> float:
        """Return the next call's timeout in seconds, capped at `call_timeout`."""
        with self._lock:
            self._forget_old()
            patience = math.ldexp(call_timeout, -len(self._given_up))
        return max(patience, min(self._least, call_timeout))

    def _forget_old(self) -> None:
        now = self._monotonic()
        self._given_up = [(at, came_back) for at, came_back in self._given_up if now - at < self._lasts and not came_back()]
