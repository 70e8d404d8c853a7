"""Hooks that import their module only when called."""

from __future__ import annotations

from pkgutil import resolve_name
from typing import Any, Literal

from mom_core import hookimpl


def late_hook(target: str, argument: Literal["", "report"] = "") -> Any:
    """Return a hook whose code is in another module, which may import `mom_daemon`.

    :param target: function or class to call, such as `mom_acme.explanation:AcmeExplainer`
    :param argument: the hook's argument; empty if it has none
    """

    def hook() -> object:
        return resolve_name(target)()

    def hook_of_report(report: object) -> object:  # pluggy needs the argument's name
        return resolve_name(target)(report)

    return staticmethod(hookimpl(hook_of_report if argument else hook))
