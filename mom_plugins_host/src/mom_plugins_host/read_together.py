"""Reads of several controls at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from mom_core import Entity, HypervisorError, Target, Value


def read_together(
    targets: Sequence[Target], readers: Iterable[tuple[Collection[str], Callable[[Sequence[Entity]], Mapping[str, Mapping[str, Value]]]]]
) -> dict[Target, Value | HypervisorError]:
    """Read several controls for `mom_read`.

    :param readers: names of controls, each with a function that returns their values, keyed by entity id and control
    """
    results: dict[Target, Value | HypervisorError] = {}
    for controls, read in readers:
        due = [target for target in targets if target.control in controls]
        try:
            values = read(list({target.entity.id: target.entity for target in due}.values())) if due else {}
            results |= {target: values.get(target.entity.id, {}).get(target.control) for target in due}
        except HypervisorError as error:
            results |= dict.fromkeys(due, error)
    return results
