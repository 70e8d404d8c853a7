"""The configuration: one YAML file, read whole, with all that is wrong in it said at once.

Names are imported when they are first used: reading which plugins a file enables needs none of what checking it does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mom_core.config.configuration import Config as Config
    from mom_core.config.configuration import ConfiguredPlugin as ConfiguredPlugin
    from mom_core.config.configuration import GuestRule as GuestRule
    from mom_core.config.loading import load_config as load_config
    from mom_core.config.loading import read_settings as read_settings

_MODULE_OF = {
    "Config": "configuration",
    "ConfiguredPlugin": "configuration",
    "GuestRule": "configuration",
    "load_config": "loading",
    "read_settings": "loading",
}

__all__ = ["Config", "ConfiguredPlugin", "GuestRule", "load_config", "read_settings"]


def __getattr__(name: str) -> object:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'mom_core.config' has no attribute {name!r}")
    value: object = getattr(import_module(f"mom_core.config.{module}"), name)
    globals()[name] = value
    return value
