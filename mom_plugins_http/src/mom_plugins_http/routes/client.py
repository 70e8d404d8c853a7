"""Who the client is to mom."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict  # pydantic's, for Pythons before 3.12

from mom_plugins_http.routes.route import ApiCall, Route
from mom_plugins_http.server.access import Right


class ClientModel(TypedDict):
    """A client, and what it may do."""

    name: str
    right: Annotated[str, Field(json_schema_extra={"enum": [right.name.lower() for right in Right]})]
    local: bool


class ClientRoutes:
    """Who asks, so that no client is offered what is refused."""

    def routes(self) -> list[Route]:
        """Its operation."""
        return [Route("GET", "/v1/whoami", self.whoami, ClientModel)]

    async def whoami(self, call: ApiCall) -> ClientModel:
        """Who the client is to mom, and what it may do."""
        return {"name": call.peer.name, "right": call.peer.right.name.lower(), "local": call.peer.local}
