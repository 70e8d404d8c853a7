"""Tasks that a sound configuration leaves undone; every verb that looks at a configuration reports them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from mom_core import Config


class Lack(NamedTuple):
    """Hook that no enabled plugin has, and what follows from that."""

    subject: str
    message: str
    hook: str


_NEEDED = (
    Lack("hypervisor", "no enabled plugin provides a hypervisor: no guest is seen", "mom_hypervisor"),
    Lack("evaluators", "no enabled plugin evaluates policies: nothing is decided", "mom_evaluate"),
)


def lacking(config: Config) -> Iterator[Lack]:
    """Return the tasks that no plugin of this configuration does."""
    for lack in _NEEDED:
        if not config.having(lack.hook):
            yield lack
