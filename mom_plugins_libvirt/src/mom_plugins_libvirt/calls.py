"""Calls that may never come back, each waited for only so long.

A call to libvirtd blocks for as long as libvirtd waits for a guest's QEMU process, which is for ever when that process hangs. Such a
call is left behind in its thread.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Call(Generic[T]):
    """One call: running, returned or failed."""

    def __init__(self, function: Callable[[], T]) -> None:
        self._function = function
        self._done = threading.Event()
        self._result: T | None = None
        self._error: BaseException | None = None

    @property
    def done(self) -> bool:
        """Whether it has come back."""
        return self._done.is_set()

    def wait(self, timeout: float) -> bool:
        """Whether it came back within `timeout` seconds."""
        return self._done.wait(timeout)

    def result(self) -> T:
        """What it returned; raises what it raised. Only once it is done."""
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]  # set before done is

    def run(self) -> None:
        """Make the call, in the thread that this is called from."""
        try:
            self._result = self._function()
        except BaseException as error:  # noqa: BLE001  # handed to whoever waits, whatever it is
            self._error = error
        finally:
            self._done.set()


class Callers:
    """Threads that make calls for others, started as they are needed, reused, and ended by `close`.

    They are daemon threads: one that is stuck in a call for ever does not keep the process from ending.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._wanted = threading.Condition()
        self._waiting: deque[Call[object]] = deque()
        self._threads: set[threading.Thread] = set()
        self._idle = 0
        self._closed = False

    def start(self, function: Callable[[], T]) -> Call[T]:
        """Begin a call without waiting for it. After `close` it is never made."""
        call = Call(function)
        with self._wanted:
            if self._closed:
                return call
            self._waiting.append(call)  # type: ignore[arg-type]  # Call is only read from here on
            if self._idle < len(self._waiting):
                thread = threading.Thread(target=self._work, name=f"{self._name}-call", daemon=True)
                self._threads.add(thread)
                thread.start()
            self._wanted.notify()
        return call

    def close(self, patience: float) -> None:
        """End the threads; those that are in a call end after it. Waits `patience` seconds at most."""
        with self._wanted:
            self._closed = True
            self._wanted.notify_all()
            threads = list(self._threads)
        for thread in threads:
            thread.join(patience / max(1, len(threads)))

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
                call = self._waiting.popleft()
            call.run()
