"""Does to guests what was decided, in threads of its own: saving and moving take minutes, and a cycle does not wait."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from mom_core import HypervisorError, MomError
from mom_plugins_eviction.steps import Step

AT_ONCE = 4
"""More at once would make each slower."""


@dataclass(frozen=True, slots=True)
class EvictionJob:
    """What is being done to a guest, as a person would say it; `error` once it has failed. `step` is None for one that goes on again."""

    what: str
    step: Step | None
    error: str = ""
    running: bool = True


class UnderWay:
    """What is under way, by guest id; each guest has one deed at a time, and the last one's error until the next."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._deeds: dict[str, EvictionJob] = {}
        self._closed = False

    def begin(self, identity: str, what: str, step: Step | None, work: Callable[[], None], ended: Callable[[str], None]) -> None:
        """Begin to do that. Raises `MomError` when something is being done to the guest already, or to too many.

        :param ended: called with the error, or with nothing, when it is over
        """
        with self._lock:
            deed = self._deeds.get(identity)
            if self._closed:
                raise MomError("mom is ending")
            if deed is not None and deed.running:
                raise MomError(f"the guest is {deed.what} already")
            if sum(one.running for one in self._deeds.values()) >= AT_ONCE:
                raise MomError(f"{AT_ONCE} guests are being stopped or moved already")
            self._deeds[identity] = EvictionJob(what, step)
        try:
            threading.Thread(target=self._do, args=(identity, what, step, work, ended), name="mom eviction", daemon=True).start()
        except RuntimeError as error:  # the system lets mom have no more threads
            with self._lock:
                del self._deeds[identity]
            raise MomError(f"it cannot be begun: {error}") from None

    def _do(self, identity: str, what: str, step: Step | None, work: Callable[[], None], ended: Callable[[str], None]) -> None:
        error = ""
        try:
            work()
        except HypervisorError as failure:
            error = str(failure)
        except Exception as failure:  # noqa: BLE001  # containment: no caller is above this in this thread
            error = f"{type(failure).__name__}: {failure}"
        try:
            ended(error)  # before it counts as over: a guest must not be seen otherwise than is remembered
        finally:
            with self._lock:
                self._deeds[identity] = EvictionJob(what, step, error, running=False)

    def of(self, identity: str) -> EvictionJob | None:
        """What is being done, or was done last, to a guest."""
        with self._lock:
            return self._deeds.get(identity)

    @property
    def count(self) -> int:
        """To how many guests something is being done."""
        with self._lock:
            return sum(deed.running for deed in self._deeds.values())

    def is_busy_with(self, identity: str) -> bool:
        """Whether something is being done to that guest."""
        deed = self.of(identity)
        return deed is not None and deed.running

    def forget(self, there: set[str]) -> None:
        """Keep only what is under way, or concerns guests that are there."""
        with self._lock:
            self._deeds = {identity: deed for identity, deed in self._deeds.items() if deed.running or identity in there}

    def close(self) -> None:
        """Begin nothing any more. What is under way ends as the hypervisor ends it."""
        with self._lock:
            self._closed = True
