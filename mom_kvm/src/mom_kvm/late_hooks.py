"""Hooks of a plugin's class whose modules are imported when they are called, and not with the plugin."""

from __future__ import annotations

from inspect import Parameter, Signature
from pkgutil import resolve_name
from typing import Any

from mom_core import hookimpl


def late_hook(target: str, *arguments: str) -> Any:
    """A hook that is called on the plugin's class, such as `mom_explainer`, and gives what a function or class of another module gives.

    That module may need `mom_daemon`, without which a plugin has to load.

    :param target: such as `mom_acme.explanation:AcmeExplainer`
    :param arguments: the names of the hook's arguments, which are handed on: `report` for `mom_status`
    """

    def hook(*given: object) -> object:
        return resolve_name(target)(*given)

    hook.__signature__ = Signature([Parameter(name, Parameter.POSITIONAL_OR_KEYWORD) for name in arguments])  # type: ignore[attr-defined]  # what tells a hook's arguments
    return staticmethod(hookimpl(hook))
