"""The plugin."""

from __future__ import annotations

from mom_core import PluginContext, PluginSettings


class GuestAgentPlugin:
    """Figures from inside the guests."""

    contract = "1.1"

    class Settings(PluginSettings):
        """Nothing yet."""

    def __init__(self, settings: Settings, context: PluginContext) -> None:
        self._settings = settings
        self._context = context
