"""How much a running mom logs: read and changed, for mom as a whole or for one plugin."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Literal

from typing_extensions import TypedDict  # pydantic's, for Pythons before 3.12

from mom_core import PluginContext, printable
from mom_daemon import described
from mom_plugins_http.routes.bodies import JSON, BodyModel, read_body
from mom_plugins_http.routes.route import ApiCall, Route
from mom_plugins_http.server.access import Right
from mom_plugins_http.server.problems import ProblemError
from mom_plugins_http.vocabulary import LOG_LEVEL_PATH, LOG_LEVELS

Level = Literal["debug", "info", "warning", "error"]


@described
class LogLevelsModel(TypedDict):
    """How much mom logs."""

    level: Level
    """Of mom, and of all plugins that have none of their own."""
    plugins: Mapping[str, Level]
    """Plugins with a level of their own."""


class LogLevelModel(BodyModel):
    """How much it is to log from now on."""

    level: Level | None
    """null: the plugin's is that of mom again."""
    plugin: str | None = None
    """Only what this plugin logs."""


class LogLevels:
    """The levels, which last until they are changed again, the configuration is reloaded, or mom ends."""

    def __init__(self, context: PluginContext) -> None:
        self._context = context

    def routes(self) -> list[Route]:
        """Its operations."""
        return [
            Route("GET", LOG_LEVEL_PATH, self.log_level, LogLevelsModel),
            Route("PUT", LOG_LEVEL_PATH, self.set_log_level, LogLevelsModel, Right.CHANGE, body={JSON: LogLevelModel}),
        ]

    async def set_log_level(self, call: ApiCall) -> LogLevelsModel:
        """Log more or less from now on, until mom ends or its configuration is reloaded."""
        given = await read_body(call, LogLevelModel)
        level, plugin = given.level, given.plugin
        if level is None and plugin is None:
            raise ProblemError(400, "null is no log level of mom", f"`level` is one of {', '.join(LOG_LEVELS)}")
        enabled = self._plugins()
        if plugin is not None and plugin not in enabled:
            raise ProblemError(404, f"there is no plugin {printable(plugin)}", f"there are: {', '.join(enabled)}")
        logger = logging.getLogger("mom" if plugin is None else f"mom.plugin.{plugin}")
        logger.setLevel(logging.NOTSET if level is None else level.upper())
        what = "mom" if plugin is None else f"the plugin {plugin}"
        self._context.log.warning("log level of %s set to %s by %s", what, level or "that of mom", call.peer.name)
        return await self.log_level(call)

    async def log_level(self, call: ApiCall) -> LogLevelsModel:
        """How much mom logs."""
        own = {name: logging.getLogger(f"mom.plugin.{name}").level for name in self._plugins()}
        plugins: dict[str, Level] = {name: _name(level) for name, level in own.items() if level != logging.NOTSET}
        return {"level": _name(logging.getLogger("mom").getEffectiveLevel()), "plugins": plugins}

    def _plugins(self) -> list[str]:
        found = self._context.configuration()["plugins"]
        return list(found) if isinstance(found, Mapping) else []


def _name(level: int) -> Level:
    """The level's name; the next lower one where it is none of these."""
    return next((name for name in reversed(LOG_LEVELS) if level >= logging.getLevelNamesMapping()[name.upper()]), LOG_LEVELS[0])
