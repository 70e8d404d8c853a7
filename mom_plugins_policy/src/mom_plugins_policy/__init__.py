"""The MOM policy language for mom: an evaluator that operators write in."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_WHERE = {
    "Policy": "policy",
    "Result": "policy",
    "PolicyError": "errors",
    "Fault": "errors",
    "PolicyLimits": "limits",
    "PolicyPlugin": "plugin",
}

__all__ = ["Fault", "Policy", "PolicyError", "PolicyLimits", "PolicyPlugin", "Result", "__version__"]

if TYPE_CHECKING:
    from mom_plugins_policy.errors import Fault as Fault
    from mom_plugins_policy.errors import PolicyError as PolicyError
    from mom_plugins_policy.limits import PolicyLimits as PolicyLimits
    from mom_plugins_policy.plugin import PolicyPlugin as PolicyPlugin
    from mom_plugins_policy.policy import Policy as Policy
    from mom_plugins_policy.policy import Result as Result


def __getattr__(name: str) -> object:
    module = _WHERE.get(name)
    if module is None:
        raise AttributeError(f"module 'mom_plugins_policy' has no attribute {name!r}")
    value: object = getattr(import_module(f"mom_plugins_policy.{module}"), name)
    globals()[name] = value
    return value
