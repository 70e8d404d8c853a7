"""Tasks that no enabled plugin does, or that several do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from mom_core import Config, Finding, Severity
from mom_daemon.plugins.class_hooks import having


class Lack(NamedTuple):
    """Hook that no enabled plugin has, and the effect."""

    subject: str
    message: str
    hook: str


_NEEDED = (
    Lack("hypervisor", "no enabled plugin provides a hypervisor: no guest is seen", "mom_hypervisor"),
    Lack("evaluators", "no enabled plugin evaluates policies: nothing is decided", "mom_evaluate"),
)


def lacking(config: Config) -> Iterator[Lack]:
    """Yield the hooks that no plugin of this configuration has."""
    return (lack for lack in _NEEDED if not config.having(lack.hook))


def about_enabled(config: Config) -> Iterator[Finding]:
    """Report several hypervisors or evaluators, and tasks that no enabled plugin does."""
    hypervisors, evaluators = list(config.having("mom_hypervisor")), config.having("mom_evaluate")
    if len(hypervisors) > 1:
        names, first = ", ".join(hypervisors), hypervisors[0]
        text = f"several plugins provide a hypervisor: {names}; only the first that is there is asked: guests of others are not seen"
        yield Finding(Severity.WARNING, "hypervisors", text, f"take out all but one; as it stands, {first} comes first")
    for subject, message, hook in lacking(config):
        yield Finding(Severity.WARNING, subject, message, f"enable one that does: {', '.join(having(hook)) or 'none is installed'}")
    if len(evaluators) > 1:
        order = ", then ".join(evaluators)
        text = f"several plugins decide: {order}; a control that two of them decide belongs to the one that comes first, even a silent one"
        cure = "take out what you do not need, or put the one that is to win first below `plugins`"
        yield Finding(Severity.WARNING, "evaluators", text, cure)
