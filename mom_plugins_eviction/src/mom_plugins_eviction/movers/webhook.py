"""A mover that is a server of the operator's: it is told what to move by signed requests, and says how that goes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final

from pydantic import StringConstraints

from mom_core import Finding, HypervisorError, MomError, PluginContext, PluginSettings, Severity, hookimpl, printable
from mom_plugins_eviction.movers.reports import DONE, RUNNING, UNKNOWN, failed
from mom_plugins_eviction.movers.web_requests import (
    WebAnswer,
    WebhookSettings,
    WebRequestError,
    signed_headers,
    trusted_certificates,
    web_request,
    webhook_secret,
)
from mom_toolkit import ANYWHERE, Destination, MoveJob, Mover, MoverAbilities, MoveReport

ANSWER_SECONDS: Final = 20.0
LARGEST_ANSWER: Final = 4096
AGAIN: Final = frozenset({408, 425, 429})
"""Refusals that say nothing of what becomes of the request."""


class WebhookMover:
    """`Mover` that sends `{"do": "begin" | "look" | "cancel", ...}`.

    :param chooses: whether the server chooses the host
    """

    def __init__(self, name: str, server: WebhookSettings, abilities: MoverAbilities) -> None:
        self.name, self.abilities = name, abilities
        self._server = server

    def why_not(self, destination: Destination) -> str:
        """The server knows; only who chooses is agreed on."""
        if (destination == ANYWHERE) == self.abilities.chooses:
            return ""
        return (
            f"{self.name} chooses the host: the destination is `anywhere`"
            if self.abilities.chooses
            else f"{self.name} must be told where to"
        )

    def begin(self, job: MoveJob) -> str:
        """A refusal is one of 4xx: nothing was begun then. Without a clear answer it may have been."""
        try:
            answer = self._ask("begin", job)
        except WebRequestError as error:
            if not error.sent:
                raise HypervisorError(f"{self.name}: {error.message}") from None
            return ""
        if answer.is_good:
            return _text(answer.json().get("reference"))
        if 400 <= answer.status < 500 and answer.status not in AGAIN:
            raise HypervisorError(f"{self.name} refuses: {_text(answer.json().get('error')) or f'it answers {answer.status}'}")
        return ""

    def look(self, job: MoveJob) -> MoveReport:
        """As the server says; what it does not say clearly is unknown."""
        try:
            answer = self._ask("look", job)
        except WebRequestError:
            return UNKNOWN
        said = answer.json() if answer.is_good else {}
        return {
            "running": RUNNING,
            "done": DONE,
            "failed": failed(_text(said.get("error")) or f"{self.name} says that it has failed"),
        }.get(_text(said.get("state")), UNKNOWN)

    def cancel(self, job: MoveJob) -> None:
        """Raises `HypervisorError` when the server does not take it."""
        try:
            answer = self._ask("cancel", job)
        except WebRequestError as error:
            raise HypervisorError(f"{self.name}: {error.message}") from None
        if not answer.is_good:
            raise HypervisorError(f"{self.name} does not give it up: it answers {answer.status}")

    def _ask(self, do: str, job: MoveJob) -> WebAnswer:
        body = json.dumps(
            {
                "do": do,
                "move": job.id,
                "guest": job.guest.name,
                "guest_id": job.guest.id,
                "destination": str(job.destination),
                "host": job.destination.host,
                "seconds": job.seconds,
                "reference": job.reference,
            }
        ).encode()
        try:  # as they are now: the operator may have replaced them
            headers, verify = signed_headers(webhook_secret(self._server.secret), body), trusted_certificates(self._server.ca)
        except MomError as error:
            raise WebRequestError(error.message, sent=False) from None
        return web_request(
            "POST",
            self._server.url.get_secret_value(),
            verify=verify,
            headers=headers,
            content=body,
            seconds=ANSWER_SECONDS,
            largest=LARGEST_ANSWER,
        )


def _check(server: WebhookSettings | None) -> WebhookSettings:
    if server is None:
        raise MomError("no server is named that moves guests", hint="give it `server`: {url: https://HOST/PATH, secret: FILE}")
    webhook_secret(server.secret)
    trusted_certificates(server.ca)
    return server


def _text(value: object) -> str:
    return printable(value, 400) if isinstance(value, str) else ""


class WebhookMoverPlugin:
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
        self._settings = settings
        abilities = MoverAbilities(settings.live, settings.chooses, settings.within)
        self._mover = None if settings.server is None else WebhookMover(context.name, settings.server, abilities)

    @hookimpl
    def mom_setup(self) -> None:
        """See that requests can be signed. Raises `MomError`."""
        _check(self._settings.server)

    @hookimpl
    def mom_services(self) -> Mapping[type, Any]:
        """The mover."""
        return {} if self._mover is None else {Mover: self._mover}

    @hookimpl
    def mom_doctor(self) -> Iterable[Finding]:
        """Whether requests can be signed, and the server be known."""
        try:
            server = _check(self._settings.server)
            yield Finding(Severity.OK, "webhook mover", f"guests are moved by {server.url}")
        except MomError as error:
            yield Finding(Severity.ERROR, "webhook mover", error.message, error.hint)
