"""The plugin."""

from __future__ import annotations

from mom_core import PluginContext, PluginSettings


class QosPlugin:
    """CPU, disk and network limits of guests."""

    contract = "1.1"

    class Settings(PluginSettings):
        """Nothing yet."""

    def __init__(self, settings: Settings, context: PluginContext) -> None:
        self._settings = settings
        self._context = context
