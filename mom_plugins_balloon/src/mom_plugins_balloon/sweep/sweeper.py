"""Running sweeps, each in its own thread, and their notes on disk."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping

from mom_core import NoChangeNeeded, Refused, StateError
from mom_plugins_balloon.balloon_state import BalloonFile, UnfinishedSweep
from mom_plugins_balloon.sweep.limits import END_SECONDS, SLICE_KIB
from mom_plugins_balloon.sweep.records import SweepOutcome
from mom_plugins_balloon.sweep.sweep import Sweep


class Sweeper:
    """Running sweeps. Thread-safe.

    :param file: keeps a note of each sweep until its deflate command
    :param wake: called in a sweep's thread after the last one, if the host gained memory
    """

    def __init__(self, log: logging.Logger, file: BalloonFile, wake: Callable[[str], None]) -> None:
        self._log, self._file, self._wake = log, file, wake
        self._lock = threading.RLock()
        self._under_way: dict[str, Sweep] = {}
        self._threads: list[threading.Thread] = []
        self._outcomes: list[SweepOutcome] = []
        self._most = max(1, (os.cpu_count() or 1) // 2)
        """Maximum number of balloons that inflate at the same time: each keeps a CPU busy. One reclaims 0.5 GiB/s, more than a burst needs.
        """
        self._turns = threading.Semaphore(self._most)

    def begin(self, sweep: Sweep) -> None:
        """Start a sweep in its own thread. Raises `NoChangeNeeded` if the sweep has to wait, and `Refused` if it cannot start."""
        identity = sweep.guest.id
        with self._lock:
            if identity in self._under_way:
                raise NoChangeNeeded("its sweep is still running")
            if len(self._under_way) >= 2 * self._most:
                raise NoChangeNeeded(f"the maximum number of sweeps is running ({self._most}): this guest has to wait")
            before, thread = self._file.state.sweeps, threading.Thread(target=self._perform, args=(sweep,), name="mom-sweep", daemon=True)
            self._under_way[identity] = sweep
            try:
                self._file.write(sweeps={**before, identity: sweep.unfinished})
                thread.start()
            except (StateError, RuntimeError) as error:  # RuntimeError: the systemd unit's thread limit is reached
                del self._under_way[identity]
                self._note(before)
                raise Refused(f"cannot start the sweep, or record it for recovery after a crash: {error}") from error
            self._threads = [*(earlier for earlier in self._threads if earlier.is_alive()), thread]

    def take_over(self, identity: str) -> bool:
        """End a guest's sweep, because the guest gets another size. Return whether it was being swept."""
        with self._lock:
            sweep = self._under_way.get(identity)
        if sweep is not None:
            sweep.take_over()
        return sweep is not None

    def settle(self, identity: str) -> None:
        """Drop the note of a guest whose sweep no longer sets its size."""
        with self._lock:
            sweep = self._under_way.get(identity)
            sweeps = self._file.state.sweeps
            if (sweep is None or sweep.taken_over) and identity in sweeps:
                self._note({other: note for other, note in sweeps.items() if other != identity})

    def stop(self, identity: str) -> None:
        """End a guest's sweep, if any, and deflate its balloon."""
        with self._lock:
            if (sweep := self._under_way.get(identity)) is not None:
                sweep.stop()

    def stop_all(self, seconds: float = END_SECONDS) -> None:
        """End all sweeps, and wait within the time limit for guests' headroom."""
        until = time.monotonic() + seconds
        with self._lock:
            for sweep in self._under_way.values():
                sweep.stop()
            threads = self._threads
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))

    def inflating(self) -> frozenset[str]:
        """Return the ids of guests whose sweeps have their turn."""
        with self._lock:
            return frozenset(identity for identity, sweep in self._under_way.items() if sweep.inflates)

    def outcomes(self) -> list[SweepOutcome]:
        """Return the outcomes since the last call."""
        with self._lock:
            outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def unfinished(self) -> Mapping[str, UnfinishedSweep]:
        """Return notes of sweeps that were cut off. Their guests may lack headroom."""
        with self._lock:
            return {identity: note for identity, note in self._file.state.sweeps.items() if identity not in self._under_way}

    def _note(self, sweeps: Mapping[str, UnfinishedSweep]) -> None:
        try:
            self._file.write(sweeps=sweeps)
        except StateError as error:
            self._log.warning("cannot record the running sweeps: %s", error.message)

    def _perform(self, sweep: Sweep) -> None:
        outcome = sweep.perform(self._turns)
        with self._lock:
            del self._under_way[sweep.guest.id]
            self._outcomes.append(outcome)
            if outcome.is_back:
                self.settle(sweep.guest.id)
            last = not self._under_way
        self._log.debug("sweep of %s: %s", sweep.guest, outcome)
        if sweep.on_end is not None:
            sweep.on_end(outcome)
        if last and outcome.gave > SLICE_KIB:
            self._wake("guests were swept")
