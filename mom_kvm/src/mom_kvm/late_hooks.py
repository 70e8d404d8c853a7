"""Hooks that import their module when they are called, not with the plugin."""

from __future__ import annotations

from pkgutil import resolve_name
from typing import Any, Literal

from mom_core import hookimpl


def late_hook(target: str, argument: Literal["", "report"] = "") -> Any:
    """Return a hook of the plugin's class, such as `mom_explainer`, that calls a function or class of another module. That module may need
    `mom_daemon`, while the plugin must load without it.

    :param target: such as `mom_acme.explanation:AcmeExplainer`
    :param argument: argument of the hook: `report` for `mom_status`
    """

    def hook() -> object:
        return resolve_name(target)()

    def hook_of_report(report: object) -> object:  # pluggy reads the argument's name from the code
        return resolve_name(target)(report)

    return staticmethod(hookimpl(hook_of_report if argument else hook))
