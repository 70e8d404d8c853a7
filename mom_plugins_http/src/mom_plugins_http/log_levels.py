"""How much a running mom logs: read and changed through the API and `mom log-level`, for mom as a whole or for one plugin."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Final

import click
from starlette.responses import Response

from mom_core import PluginContext, Value, print_prose, printable
from mom_plugins_http.access import Right
from mom_plugins_http.bodies import object_body
from mom_plugins_http.client import Client
from mom_plugins_http.json_text import encoded
from mom_plugins_http.problems import ProblemError
from mom_plugins_http.routes import ApiCall, Route
from mom_plugins_http.verbs import common_options

LEVELS: Final = ("debug", "info", "warning", "error")

PATH: Final = "/v1/log-level"

_LEVEL: Final[dict[str, Value]] = {"type": "string", "enum": list(LEVELS)}

_ANSWER: Final[Value] = {
    "type": "object",
    "required": ["level", "plugins"],
    "properties": {
        "level": {**_LEVEL, "description": "Of mom, and of all plugins that have none of their own."},
        "plugins": {"type": "object", "additionalProperties": _LEVEL, "description": "Plugins with a level of their own."},
    },
}

_BODY: Final[Value] = {
    "type": "object",
    "required": ["level"],
    "additionalProperties": False,
    "properties": {
        "level": {"type": ["string", "null"], "enum": [*LEVELS, None], "description": "null: the plugin's is that of mom again."},
        "plugin": {"type": "string", "minLength": 1, "description": "Only what this plugin logs."},
    },
}


class LogLevels:
    """The levels, which last until they are changed again, the configuration is reloaded, or mom ends."""

    def __init__(self, context: PluginContext) -> None:
        self._context = context

    def routes(self) -> list[Route]:
        """Its operations."""
        return [
            Route("GET", PATH, "logLevel", "How much mom logs.", self.get, _ANSWER),
            Route(
                "PUT",
                PATH,
                "setLogLevel",
                "Log more or less from now on, until mom ends or its configuration is reloaded.",
                self.put,
                _ANSWER,
                Right.CHANGE,
                body={"application/json": _BODY},
            ),
        ]

    async def get(self, call: ApiCall) -> Response:
        """As they are."""
        return self._answer()

    async def put(self, call: ApiCall) -> Response:
        """Change one."""
        given = await object_body(call, {"level", "plugin"})
        level, plugin = given.get("level"), given.get("plugin")
        if "level" not in given or (level not in LEVELS and not (level is None and plugin is not None)):
            more = ", or null for that of mom" if plugin is not None else ""
            raise ProblemError(400, f"{printable(str(level))} is no log level", f"`level` is one of {', '.join(LEVELS)}{more}")
        enabled = self._plugins()
        if plugin is not None and plugin not in enabled:
            raise ProblemError(404, f"there is no plugin {printable(str(plugin))}", f"there are: {', '.join(enabled)}")
        logger = logging.getLogger("mom" if plugin is None else f"mom.plugin.{plugin}")
        logger.setLevel(logging.NOTSET if level is None else str(level).upper())
        what = "mom" if plugin is None else f"the plugin {plugin}"
        self._context.log.warning("log level of %s set to %s by %s", what, level or "that of mom", call.peer.name)
        return self._answer()

    def _plugins(self) -> list[str]:
        found = self._context.configuration().get("plugins")
        return list(found) if isinstance(found, Mapping) else []

    def _answer(self) -> Response:
        own = {name: logging.getLogger(f"mom.plugin.{name}").level for name in self._plugins()}
        levels: dict[str, Value] = {name: _name(level) for name, level in own.items() if level != logging.NOTSET}
        content = {"level": _name(logging.getLogger("mom").getEffectiveLevel()), "plugins": levels}
        return Response(encoded(content), media_type="application/json", headers={"cache-control": "no-cache"})


def _name(level: int) -> str:
    """The level's name; the next lower one where it is none of these."""
    return next((name for name in reversed(LEVELS) if level >= logging.getLevelNamesMapping()[name.upper()]), LEVELS[0])


@click.command("log-level", short_help="Show or change how much a running mom logs.")
@click.argument("level", required=False, type=click.Choice([*LEVELS, "reset"]))
@click.option("--plugin", metavar="NAME", help="Only what this plugin logs.")
@common_options
def log_level_command(level: str | None, plugin: str | None, as_json: bool, config_path: str | None) -> None:
    """Show how much the running mom logs, or set it to LEVEL; with --plugin, `reset` makes a plugin's level that of mom again.

    It lasts until mom ends or its configuration is reloaded; `log_level` in the configuration is for good.
    """
    if level == "reset" and plugin is None:
        raise click.UsageError("reset is for a plugin: name it with --plugin")
    if level is None and plugin is not None:
        raise click.UsageError("say which level the plugin is to have, or reset")
    client = Client.configured(config_path)
    if level is None:
        found, _ = client.get(PATH)
    else:
        body: dict[str, object] = {"level": None if level == "reset" else level}
        found, _ = client.ask("PUT", PATH, body if plugin is None else {**body, "plugin": plugin})
    if as_json:
        click.echo(json.dumps(found))
        return
    print_prose(f"mom logs at level {found['level']}.", 2)
    for name, own in found["plugins"].items():
        print_prose(f"The plugin {printable(name)} logs at level {own}.", 2)
