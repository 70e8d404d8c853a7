"""Connection of mom's subcommands to the running mom."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from mom_kvm import PolicyText
from mom_plugins_http.cli.client import Client, coded

if TYPE_CHECKING:
    from mom_daemon.report_models import ReportDocument


class SocketMom:
    """Running mom, reached through a unix socket."""

    def __init__(self, path: Path) -> None:
        self._client = Client(path)

    @property
    def where(self) -> str:
        """Socket's path."""
        return str(self._client.path)

    def explanation(self, guest: str) -> Mapping[str, Any]:
        """Return the explanation of a guest's size."""
        return cast("Mapping[str, Any]", self._client.get(f"/v1/guests/{coded(guest)}/explanation"))

    def configuration(self) -> Mapping[str, Any]:
        """Return the settings in force."""
        return cast("Mapping[str, Any]", self._client.get("/v1/configuration"))

    def policies(self) -> Mapping[str, PolicyText]:
        """Return the policies in force, keyed by name."""
        return {policy["name"]: PolicyText(policy["text"], policy["origin"]) for policy in self._client.get("/v1/policies")["items"]}

    def report(self) -> ReportDocument:
        """Return the newest cycle."""
        return cast("ReportDocument", self._client.get("/v1/report"))
