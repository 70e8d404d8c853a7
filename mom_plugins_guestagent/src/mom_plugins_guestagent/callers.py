"""A few threads in which calls are made that block, for a loop that must not."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


class Callers:
    """Threads that begin with the first call, and end with `close`; one that is stuck in a call does not keep the process from ending."""

    def __init__(self, name: str, most: int) -> None:
        self._name = name
        self._most = most
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._waiting = 0

    def call(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """Begin a call, from the loop's thread. The result belongs to the running loop."""
        future: Future[T] = Future()

        def make() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(function())
            except BaseException as error:  # noqa: BLE001  # handed to whoever waits, whatever it is
                future.set_exception(error)

        if len(self._threads) < self._most:
            self._threads.append(threading.Thread(target=self._run, name=self._name, daemon=True))
            self._threads[-1].start()
        self._work.put(make)
        return asyncio.wrap_future(future)

    def close(self, patience: float) -> None:
        """End the threads; those that are in a call end after it. Waits `patience` seconds at most."""
        for _ in self._threads:
            self._work.put(None)
        for thread in self._threads:
            thread.join(patience / len(self._threads))

    def _run(self) -> None:
        while (make := self._work.get()) is not None:
            make()
