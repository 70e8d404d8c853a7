"""Threads for calls that may never return. Callers wait only as long as they choose."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")

_LEAST_PATIENCE_SECONDS = 0.1
"""A healthy server answers in a few milliseconds, even with guests that work hard."""

_IMPATIENT_SECONDS = 5.0
"""How long a call that did not return halves the patience with later calls."""


class Callers:
    """Threads that make calls for others: started on demand, reused, and ended by `close`.

    A hanging call keeps its thread. These are daemon threads, unlike those of `concurrent.futures`: a stuck one does not block the end of
    the process.

    :param name: of the threads
    :param most: number of threads; further calls wait for a free one. None: no limit
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
        """Begin a call, and return at once. A call that has not begun can be cancelled; after `close`, none begins.

        :raises RuntimeError: no thread is free or can be started; the call is not made
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
                except RuntimeError:  # the system gives no more threads: those that there are make this call, too
                    if not self._threads:
                        self._waiting.pop()
                        raise
                else:
                    self._threads.add(thread)
            self._wanted.notify()
        return future

    def close(self, patience: float) -> None:
        """End the threads; a thread in a call ends after it. Waits for `patience` seconds at most."""
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
        """Tell whether a call ends within so many seconds, with a result or an error."""
        with suppress(TimeoutError, CancelledError):
            future.exception(seconds)
        return future.done()


def make(future: Future[T], function: Callable[[], T]) -> None:
    """Make a call in this thread, and store its result or error in the future."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(function())
    except BaseException as error:  # noqa: BLE001  # handed to the caller, whatever it is
        future.set_exception(error)


class CallPatience:
    """Patience with calls about single guests: each call that was given up halves it. For several threads and connections.

    However many guests hang, all of them together cost a cycle about two call timeouts.

    :param lasts: seconds for which a call that was given up counts
    :param least: least seconds for a call
    """

    def __init__(
        self, monotonic: Callable[[], float] = time.monotonic, lasts: float = _IMPATIENT_SECONDS, least: float = _LEAST_PATIENCE_SECONDS
    ) -> None:
        self._monotonic, self._lasts, self._least = monotonic, lasts, least
        self._lock = threading.Lock()
        self._given_up: list[tuple[float, Callable[[], bool]]] = []
        """Times of recent calls that were given up, and functions that tell whether they have returned."""

    def given_up(self, came_back: Callable[[], bool] = lambda: False) -> None:
        """Count a call that did not come back in time: for `lasts` seconds, or until `came_back` is true."""
        with self._lock:
            self._forget_old()
            self._given_up.append((self._monotonic(), came_back))

    def seconds(self, call_timeout: float) -> float:
        """Return the seconds to wait for the next call."""
        with self._lock:
            self._forget_old()
            patience = math.ldexp(call_timeout, -len(self._given_up))
        return max(patience, min(self._least, call_timeout))

    def _forget_old(self) -> None:
        now = self._monotonic()
        self._given_up = [(at, came_back) for at, came_back in self._given_up if now - at < self._lasts and not came_back()]
