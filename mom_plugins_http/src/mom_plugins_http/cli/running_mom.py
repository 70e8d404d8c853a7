"""What mom's own verbs ask a running mom, from the API's answers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mom_kvm import PolicyText
from mom_plugins_http.cli.client import READ_SECONDS, Client, coded

if TYPE_CHECKING:
    from mom_daemon import ReportDocument


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
        found: Mapping[str, Any] = self._client.get(f"/v1/guests/{coded(guest)}/explanation")
        return found

    def configuration(self) -> Mapping[str, Any]:
        """The settings in force. Raises `MomError`."""
        found: Mapping[str, Any] = self._client.get("/v1/configuration")
        return found

    def policies(self) -> Mapping[str, PolicyText]:
        """The policies in force, by name. Raises `MomError`."""
        return {one["name"]: PolicyText(one["text"], one["origin"]) for one in self._client.get("/v1/policies")["items"]}

    def report(self) -> ReportDocument:
        """All of the newest cycle. Raises `MomError`."""
        found: ReportDocument = self._client.get("/v1/report")
        return found
