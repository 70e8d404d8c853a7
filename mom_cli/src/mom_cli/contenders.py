"""What is remarked upon when several evaluators, or several hypervisors, are enabled."""

from __future__ import annotations

from collections.abc import Iterable

from mom_core import Finding, Severity
from mom_core.plugins.discovery import LoadedPlugin


def contenders(plugins: Iterable[LoadedPlugin]) -> Finding | None:
    """What an operator should know of several evaluators in one configuration, before they contest a control.

    :param plugins: in the YAML order
    """
    names = [plugin.name for plugin in plugins if hasattr(plugin.plugin_class, "mom_evaluate")]
    if len(names) < 2:
        return None
    order = ", then ".join(names)
    text = (
        f"several plugins decide: {order}; a control that two of them decide belongs to the one that comes first, also while it is silent"
    )
    return Finding(
        Severity.WARNING, "evaluators", text, "take out what you do not need, or put the one that is to win first below `plugins`"
    )


def hypervisors(plugins: Iterable[LoadedPlugin]) -> Finding | None:
    """What an operator should know of several hypervisors in one configuration: guests of all but one are not seen.

    :param plugins: in the YAML order
    """
    names = [plugin.name for plugin in plugins if hasattr(plugin.plugin_class, "mom_hypervisor")]
    if len(names) < 2:
        return None
    text = f"several plugins provide a hypervisor: {', '.join(names)}; only the first that is there is asked: guests of others are not seen"
    return Finding(Severity.WARNING, "hypervisors", text, f"take out all but one; as it stands, {names[0]} comes first")
