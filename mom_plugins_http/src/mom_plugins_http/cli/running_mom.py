"""What mom's own verbs ask a running mom, from the API's answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import quote

from mom_core import MomError
from mom_plugins_http.cli.client import READ_SECONDS, ApiRefusedError, Client
from mom_plugins_http.vocabulary import MOST_ITEMS
from mom_toolkit import NoSuchGuest, PolicyText

if TYPE_CHECKING:
    from mom_toolkit import ReportDocument

Answer = TypeVar("Answer")

_ATTEMPTS: Final = 5
"""How often answers are asked for again because a cycle has ended in between."""


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

    def report(self) -> ReportDocument:
        """All of the newest cycle. Raises `MomError`."""
        found: ReportDocument = self._get("/v1/report")
        return found

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
