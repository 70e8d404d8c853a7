"""Asks many at once that may each take for ever, and goes on when no more answers come."""

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
"""So many questions are under way at once that may still be answered soon. More of them would only wait for the same cores."""

_SOON_SECONDS: Final = 0.1
"""What has not been answered by then does not keep the next from being asked."""

_QUIET_SECONDS: Final = 0.5
"""Where all have been asked and nothing was heard for so long, the others are not waited for. A healthy daemon answers in milliseconds, and
in some hundred where the host is short of CPU."""


def ask_all(
    callers: Callers, whom: Iterable[T], ask: Callable[[T], R], patience: float, unsure: Set[T] = frozenset()
) -> tuple[dict[T, R | HypervisorError], dict[T, Future[R]]]:
    """What each answered, or the error that it raised, and the questions that are still open. An error that is no `HypervisorError` is told
    as one.

    :param patience: seconds in all
    :param unsure: those that have hung before: they are asked, and not waited for once all others have answered
    """
    answers: dict[T, R | HypervisorError] = {}
    open_: dict[T, tuple[Future[R], float]] = {}
    waiting = deque(sorted(whom, key=lambda one: one not in unsure))  # these first, so that they have the time that the others take
    last = time.monotonic()
    end = last + patience
    while True:
        now = time.monotonic()
        for one in [one for one, (call, _) in open_.items() if call.done()]:
            answer = _answer_of(open_.pop(one)[0])
            answers[one], last = answer, now
        soon = sum(1 for _, began in open_.values() if now - began < _SOON_SECONDS)
        while waiting and soon < AT_ONCE:
            one = waiting.popleft()
            open_[one] = callers.start(partial(ask, one)), now
            soon += 1
            last = now
        if not waiting and all(one in unsure for one in open_):
            break
        quiet = _SOON_SECONDS if waiting else last + _QUIET_SECONDS - now
        seconds = min(quiet, end - now)
        if seconds <= 0:
            break
        wait([call for call, _ in open_.values()], seconds, FIRST_COMPLETED)
    return answers, {one: call for one, (call, _) in open_.items()}


def _answer_of(call: Future[R]) -> R | HypervisorError:
    try:
        return call.result()
    except HypervisorError as error:
        return error
    except Exception as error:  # noqa: BLE001  # containment: whatever one answers, the others are heard
        return HypervisorError(f"its answer cannot be used: {type(error).__name__}: {printable(str(error), 300)}")
