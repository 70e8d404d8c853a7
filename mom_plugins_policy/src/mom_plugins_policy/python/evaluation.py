"""One policy asked about one snapshot: what it decides, and what went wrong in it. What one guest does to it costs only that guest."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import islice
from traceback import walk_tb

from pydantic import ValidationError

from mom_core import Decision, Problem, Severity, Source, printable
from mom_plugins_policy.python.entities import CAN_BE_KEPT, Guest, Guests, Host, Known, PolicyMistake, PythonEvaluation
from mom_plugins_policy.python.files import PythonPolicy, line_of


def evaluate(policy: PythonPolicy, known: Known, until: float) -> list[Decision | Problem]:
    """Return the decisions of a policy, and what went wrong in it; what it decided and noted is known to the policies after it.

    Where it fails in a loop at a guest, it is asked anew without that guest, as if it were not there. If it fails otherwise, or is not
    done with leaving guests out in time, it decides nothing in this cycle: half of what it wants may be worse than nothing.

    :param until: when, by the monotonic clock, no more guests are left out
    """
    left_out: dict[str, Problem] = {}
    while True:
        evaluation = PythonEvaluation(policy, known)
        guests = Guests(Guest(guest, evaluation) for identity, guest in known.snapshot.guests.items() if identity not in left_out)
        try:
            made = policy.decide(Host(known.snapshot.host, evaluation), guests)
            several = made if isinstance(made, Iterable) else [] if made is None else [made]
            given = list(islice(several, evaluation.most + 1))
            if len(given) > evaluation.most:
                raise evaluation.too_many()
            for wrong in (item for item in given if not isinstance(item, Decision)):
                raise PolicyMistake(f"decide gives a {type(wrong).__name__} where `guest.set(…)` belongs")
        except (Exception, SystemExit) as error:  # noqa: BLE001  # containment: it is the operator's code, and may raise anything
            source = Source(policy.path.name, line_of(error, policy.path), 1)
            guest = None if isinstance(error, PolicyMistake) else _blamed(error, evaluation)
            if guest is None or time.monotonic() > until:
                said = str(error) if isinstance(error, PolicyMistake) else f"{type(error).__name__}: {error}"
                return [Problem(source, printable(f"it decides nothing in this cycle: {said}", 400))]
            left_out[guest.entity.id] = _left_out(source, guest, error)
            continue
        problems = [*left_out.values(), *_problems(given, evaluation)]
        faulty = {id(decision) for decision, fault in evaluation.made if fault}
        decisions = [decision for decision in given if id(decision) not in faulty]
        known.wanted.update({(decision.entity.id, decision.control): decision.value for decision in decisions})
        known.notes.update(evaluation.notes)
        return [*decisions, *problems]


def _blamed(error: BaseException, evaluation: PythonEvaluation) -> Guest | None:
    """Return the guest at which the innermost loop was that this exception has ended; None if it came from elsewhere."""
    lines = {id(frame): line for frame, line in walk_tb(error.__traceback__)}
    ended = [loop for loop in reversed(evaluation.loops) if loop.place is None or loop.place in lines.items()]
    maybe = [loop for loop in reversed(evaluation.loops) if loop.place and loop.place[0] in lines]  # a `finally` has led to another line
    return next((loop.guest for loop in [*ended, *maybe]), None)


def _left_out(source: Source, guest: Guest, error: BaseException) -> Problem:
    if guest.unknown and isinstance(error, TypeError):  # nothing is wrong with policy or host
        message = f"left out by {source.name}, as {', '.join(guest.unknown)} {'is' if len(guest.unknown) == 1 else 'are'} unknown"
        return Problem(source, message, guest.entity, Severity.WARNING, "test what may be None with `is None` before it is used")
    return Problem(source, printable(f"left out by {source.name}: {type(error).__name__}: {error}", 400), guest.entity)


def _problems(given: list[Decision], evaluation: PythonEvaluation) -> Iterator[Problem]:
    """Yield each decision that cannot be, each place that makes one and does not give it, and notes that cannot be kept, which are
    forgotten.
    """
    seen = set(map(id, given))
    for one, fault in evaluation.made:
        if fault and id(one) in seen:
            yield Problem(one.source, f"not decided: {fault}", one.entity)
    for source, control in dict.fromkeys((one.source, one.control) for one, _ in evaluation.made if id(one) not in seen):
        yield Problem(source, f"sets {control} and does not give it, so nothing comes of it", hint="write `yield` before it")
    for identity, notes in list(evaluation.notes.items()):
        try:
            CAN_BE_KEPT.validate_python(notes, strict=True)
        except ValidationError as error:
            del evaluation.notes[identity]
            guest, first = evaluation.known.snapshot.guests.get(identity), error.errors()[0]
            which = f"{first['loc'][0]!r:.60} is not of what can be: numbers, texts and lists of these" if first["loc"] else first["msg"]
            message = f"what it notes here is not kept, and what was noted before stays: {which}"
            yield Problem(Source(evaluation.policy.path.name), printable(message, 400), guest.entity if guest else None)
