"""A mover that is a server of the operator's: it is told what to move by signed requests, and says how that goes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import StringConstraints

from mom_core import MomError, PluginContext, PluginSettings, printable
from mom_plugins_eviction.movers.mover_plugin import MoverPlugin
from mom_plugins_eviction.movers.reports import DONE, RUNNING, UNKNOWN, failed
from mom_plugins_eviction.movers.server_api import ServerApi, ServerMover
from mom_plugins_eviction.movers.web_requests import WebhookSettings, signed_headers, webhook_secret
from mom_toolkit import ANYWHERE, Destination, MoveJob, MoverAbilities, MoveReport

_NO_ANSWER: Final = frozenset({*range(300, 400), 408, 425, 429, *range(500, 600)})
"""All but 2xx and plain refusals: they say nothing of what becomes of the request."""


class WebhookMover(ServerMover):
    """`Mover` that sends `{"do": "begin" | "look" | "cancel", ...}`. Whether the server chooses the host is agreed on."""

    def __init__(self, name: str, api: ServerApi, abilities: MoverAbilities) -> None:
        self.name, self.abilities, self._api = name, abilities, api

    def why_not(self, destination: Destination) -> str:
        """The server knows; only who chooses is agreed on."""
        if (destination == ANYWHERE) == self.abilities.chooses:
            return ""
        return f"{self.name} " + ("chooses the host: the destination is `anywhere`" if self.abilities.chooses else "must be told where to")

    def ask_to_begin(self, job: MoveJob) -> str:
        """A refusal is one of 4xx."""
        return _text(self._ask("begin", job).get("reference"))

    def ask_how(self, job: MoveJob) -> MoveReport:
        """As the server says."""
        said = self._ask("look", job)
        error = failed(_text(said.get("error")) or f"{self.name} says that it has failed")
        return {"running": RUNNING, "done": DONE, "failed": error}.get(_text(said.get("state")), UNKNOWN)

    def ask_to_cancel(self, job: MoveJob) -> None:
        """As the server can."""
        self._ask("cancel", job)

    def check(self) -> str:
        """Nothing is asked: a webhook has no question but those for moves."""
        return f"guests are moved by {printable(self._api.url.partition('?')[0], 100)}"

    def _ask(self, do: str, job: MoveJob) -> Mapping[str, Any]:
        asked = {
            "do": do,
            "move": job.id,
            "guest": job.guest.name,
            "guest_id": job.guest.id,
            "destination": str(job.destination),
            "host": job.destination.host,
            "seconds": job.seconds,
            "reference": job.reference,
        }
        return self._api.ask("POST", "", json.dumps(asked).encode())


def _text(value: object) -> str:
    return printable(value, 400) if isinstance(value, str) else ""


class WebhookMoverPlugin(MoverPlugin):
    """Has guests moved by a server."""

    class Settings(PluginSettings):
        """Where the server is, and what it can do."""

        server: WebhookSettings | None = None
        """Whom to tell. Each request is a POST with a JSON body, signed with the secret."""
        chooses: bool = False
        """Whether it chooses the host by itself: the destination is `anywhere` then."""
        live: bool | None = None
        """Whether the guest works on while it is moved. Unset: unknown, and only guests that may also be saved are moved."""
        within: Annotated[str, StringConstraints(max_length=64)] = ""
        """Between which hosts of a fleet it moves guests: those whose movers have the same word here. Empty: all."""

    def __init__(self, settings: Settings, context: PluginContext) -> None:
        server = settings.server

        def signed(content: bytes) -> Mapping[str, str]:
            if server is None:
                raise MomError("no server is named that moves guests", hint="give it `server`: {url: https://HOST/PATH, secret: FILE}")
            return signed_headers(webhook_secret(server.secret), content)

        url, ca = ("", None) if server is None else (server.url.get_secret_value(), server.ca)
        api = ServerApi(context.name, url, signed, ca, _NO_ANSWER)
        mover = WebhookMover(context.name, api, MoverAbilities(settings.live, settings.chooses, settings.within))
        super().__init__(mover, "webhook mover", api.check)
