"""What mom's own verbs ask a running mom, put together from the API's answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote

from mom_core import MomError
from mom_plugins_http.client import READ_SECONDS, ApiRefusedError, Client
from mom_plugins_http.routes import MOST_ITEMS
from mom_toolkit import NoSuchGuest, PolicyText

Answer = TypeVar("Answer")

_ATTEMPTS: Final = 5
"""How often answers are asked for again because a cycle has ended in between."""

_STATUS_FORMAT: Final = 1
"""Of the status file, whose form `status` has."""


class SocketMom:
    """The mom that serves a unix socket."""

    def __init__(self, path: Path) -> None:
        self._client = Client(path, READ_SECONDS)

    @property
    def where(self) -> str:
        """The socket's path."""
        return str(self._client.path)

    def explanation(self, guest: str) -> Mapping[str, Any]:
        """Why a guest is as it is. Raises `MomError`, `NoSuchGuest` where there is none."""
        try:
            found: Mapping[str, Any] = self._get(f"/v1/guests/{quote(guest, safe='')}/explanation")
        except ApiRefusedError as error:
            if error.status != 404:
                raise
            raise NoSuchGuest(error.message, hint=error.hint.partition("; GET ")[0]) from error
        return found

    def declared(self) -> tuple[Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]]]:
        """Fields and controls. Raises `MomError`."""
        return self._of_one_cycle(lambda number: (self._all("/v1/fields", number), self._all("/v1/controls", number)))

    def configuration(self) -> Mapping[str, Any]:
        """The settings in force. Raises `MomError`."""
        found: Mapping[str, Any] = self._get("/v1/configuration")
        return found

    def policies(self) -> Mapping[str, PolicyText]:
        """The policies in force, by name. Raises `MomError`."""
        return {one["name"]: PolicyText(one["text"], one["origin"]) for one in self._get("/v1/policies")["items"]}

    def status(self) -> Mapping[str, Any]:
        """Everything of the newest cycle, in the form of the status file. Raises `MomError`."""
        return self._of_one_cycle(self._status)

    def _status(self, number: int) -> Mapping[str, Any]:
        status = self._get("/v1/status")
        cycle = status["cycle"]
        if cycle["number"] != number:
            raise _OtherCycleError
        plugins, host = self._get("/v1/plugins"), self._get("/v1/host")
        if plugins["cycle"] != number or host["cycle"]["number"] != number:
            raise _OtherCycleError
        fields, controls = self._all("/v1/fields", number), self._all("/v1/controls", number)
        columns = [field["name"] for field in fields if field["scope"] == "guest"]
        trial = status["trial"]
        return {
            "format": _STATUS_FORMAT,
            "version": status["version"],
            "pid": status["pid"],
            "config": status["configuration_file"],
            "mode": status["mode"],
            "interval": status["interval_seconds"],
            "started_at": status["started_at"],
            "hypervisor": status["hypervisor"],
            "monotonic": status["monotonic_seconds"],
            "cycle": {
                "number": number,
                "time": cycle["time"],
                "duration": cycle["duration_seconds"],
                "lag": cycle["lag_seconds"],
                "skipped": cycle["skipped"],
                "woken_by": cycle["woken_by"],
            },
            "verdict": status["verdict"],
            "to_put_back": status["to_put_back"],
            "plugins": [
                {**plugin, "retry_in": plugin["retry_in_seconds"], "durations": plugin["durations_seconds"]} for plugin in plugins["items"]
            ],
            "problems": [
                {**one, "source": _place(one["source"]), "entity": one["entity"] and one["entity"]["name"]}
                for one in self._all("/v1/problems", number)
            ],
            "fields": {f"{field['scope']}.{field['name']}": field["unit"] for field in fields},
            "controls": {control["name"]: control["unit"] for control in controls},
            "host": {"name": host["name"], "fields": host["fields"]},
            "guests": {
                "columns": ["id", "name", "blocked", "guaranteed_kib", *columns],
                "rows": [
                    [guest["id"], guest["name"], guest["blocked"], guest["guaranteed_kib"], *map(guest["fields"].get, columns)]
                    for guest in self._all("/v1/guests", number)
                ],
            },
            "decisions": status["decisions"],
            "trial": None
            if trial is None
            else {
                "decisions": trial["decisions"],
                "differing": trial["differences"],
                "differences": [
                    {**one, "entity": one["entity"]["id"], "name": one["entity"]["name"]} for one in self._all("/v1/trial", number)
                ],
            },
            "revisions": [
                {**one, "entity": one["entity"]["id"], "source": _place(one["source"])} for one in self._all("/v1/revisions", number)
            ],
            "outcome_counts": status["outcomes"],
            "outcomes": [
                {**one, "entity": one["entity"]["id"], "source": _place(one["source"])} for one in self._all("/v1/outcomes", number)
            ],
        }

    def _of_one_cycle(self, read: Callable[[int], Answer]) -> Answer:
        """What belongs together: all of it again if a cycle ends in between."""
        for _ in range(_ATTEMPTS):
            try:
                return read(int(self._get("/v1/status")["cycle"]["number"]))
            except _OtherCycleError:
                continue
            except ApiRefusedError as error:
                if error.status != 410:
                    raise
        raise MomError(f"cycles end faster than {self.where} can be read", hint="ask again, or raise `interval`")

    def _all(self, path: str, number: int) -> list[Mapping[str, Any]]:
        """All pages of a list, of that cycle."""
        return list(self._pages(path, number))

    def _pages(self, path: str, number: int) -> Iterator[Mapping[str, Any]]:
        after = ""
        while True:
            page = self._get(f"{path}?limit={MOST_ITEMS}" + (f"&after={quote(after)}" if after else ""))
            if page["cycle"] != number:
                raise _OtherCycleError
            yield from page["items"]
            after = page["next"]
            if not after:
                return

    def _get(self, path: str) -> Any:
        return self._client.get(path)[0]


class _OtherCycleError(Exception):
    """A cycle has ended between two answers."""


def _place(source: Mapping[str, Any]) -> str:
    return f"{source['name']}:{source['line']}:{source['column']}" if source["line"] else str(source["name"])
