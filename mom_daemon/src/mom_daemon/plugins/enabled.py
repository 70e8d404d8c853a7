"""Tasks that no enabled plugin of a configuration does, and those that several of them do that one is to do."""

from __future__ import annotations

from collections.abc import Iterator

from mom_core import Config, Finding, Severity
from mom_daemon.lacks import lacking
from mom_daemon.plugins.class_hooks import having


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
