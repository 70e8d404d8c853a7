"""Queries to many daemons at once. Any of them may hang."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Set
from concurrent.futures import FIRST_COMPLETED, Future, wait
from functools import partial
from typing import Final, TypeVar

from mom_core import HypervisorError, printable
from mom_kvm import Callers

T = TypeVar("T")
R = TypeVar("R")

AT_ONCE: Final = 16
"""Maximum number of concurrent queries, not counting those older than `_SOON_SECONDS`. More would only compete for the CPUs."""

_SOON_SECONDS: Final = 0.1
"""After this time, an open query no longer keeps the next query from starting."""

_QUIET_SECONDS: Final = 0.5
"""Once all queries have started, the round ends after this time without an answer. A healthy daemon answers within some hundred
milliseconds."""


def ask_all(
    callers: Callers, daemons: Iterable[T], ask: Callable[[T], R], patience: float, unsure: Set[T] = frozenset()
) -> tuple[dict[T, R | HypervisorError], dict[T, Future[R]]]:
    """Query all daemons. Return the answers or errors, and the queries that are still open, both keyed by daemon.

    :param patience: timeout of the round in seconds
    :param unsure: daemons that hung before; the round does not wait for them at its end
    """
    answers: dict[T, R | HypervisorError] = {}
    pending: dict[T, tuple[Future[R], float]] = {}
    waiting = deque(sorted(daemons, key=lambda daemon: daemon not in unsure))  # unsure daemons first, so that they can answer meanwhile
    last = time.monotonic()
    end = last + patience
    while True:
        now = time.monotonic()
        for daemon in [daemon for daemon, (call, _) in pending.items() if call.done()]:
            answer = _answer_of(pending.pop(daemon)[0])
            answers[daemon], last = answer, now
        soon = sum(1 for _, began in pending.values() if now - began < _SOON_SECONDS)
        while waiting and soon < AT_ONCE:
            daemon = waiting.popleft()
            pending[daemon] = callers.start(partial(ask, daemon)), now
            soon += 1
            last = now
        if not waiting and all(daemon in unsure for daemon in pending):
            break
        quiet = _SOON_SECONDS if waiting else last + _QUIET_SECONDS - now
        seconds = min(quiet, end - now)
        if seconds <= 0:
            break
        wait([call for call, _ in pending.values()], seconds, FIRST_COMPLETED)
    return answers, {daemon: call for daemon, (call, _) in pending.items()}


def _answer_of(call: Future[R]) -> R | HypervisorError:
    try:
        return call.result()
    except HypervisorError as error:
        return error
    except Exception as error:  # noqa: BLE001  # one answer must not end the round
        return HypervisorError(f"its answer cannot be used: {type(error).__name__}: {printable(str(error), 300)}")
