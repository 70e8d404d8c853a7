"""Tasks that no enabled plugin does, or that several do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from mom_core import Config, Finding, Severity
from mom_daemon.plugins.class_hooks import having


class Lack(NamedTuple):
    """Necessary hook that no enabled plugin has, with the consequence."""

    subject: str
    message: str
    hook: str


_NEEDED = (
    Lack("hypervisor", "no enabled plugin provides a hypervisor: mom sees no guests", "mom_hypervisor"),
    Lack("evaluators", "no enabled plugin evaluates policies: mom decides nothing", "mom_evaluate"),
)


def lacking(config: Config) -> Iterator[Lack]:
    """Yield the necessary hooks that no enabled plugin has."""
    return (lack for lack in _NEEDED if not config.having(lack.hook))


def about_enabled(config: Config) -> Iterator[Finding]:
    """Report several hypervisors or evaluators, and tasks that no plugin does."""
    hypervisors, evaluators = list(config.having("mom_hypervisor")), config.having("mom_evaluate")
    if len(hypervisors) > 1:
        names, first = ", ".join(hypervisors), hypervisors[0]
        text = f"several plugins provide a hypervisor: {names}; mom uses the first available one, and sees no guests of the others"
        yield Finding(Severity.WARNING, "hypervisors", text, f"enable only one of them; at present {first} takes precedence")
    for subject, message, hook in lacking(config):
        yield Finding(Severity.WARNING, subject, message, f"installed plugins for this task: {', '.join(having(hook)) or 'none'}")
    if len(evaluators) > 1:
        order = ", then ".join(evaluators)
        text = f"several plugins decide: {order}; if two of them set the same control, mom ignores the later one"
        cure = "disable plugins that you do not need, or list the preferred plugin first in `plugins`"
        yield Finding(Severity.WARNING, "evaluators", text, cure)
