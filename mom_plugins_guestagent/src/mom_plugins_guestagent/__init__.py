"""Statistics from inside the guests for mom: qemu-guest-agent, and mom-guestd.

Imports nothing by itself: `mom_plugins_guestagent.guestd` runs in guests that have only Python.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = ["GuestAgentPlugin", "__version__"]

if TYPE_CHECKING:
    from mom_plugins_guestagent.plugin import GuestAgentPlugin


def __getattr__(name: str) -> object:
    if name == "GuestAgentPlugin":
        from mom_plugins_guestagent.plugin import GuestAgentPlugin

        return GuestAgentPlugin
    raise AttributeError(f"module 'mom_plugins_guestagent' has no attribute {name!r}")
