"""Access to the fleet's NATS servers: addresses, certificates and credentials."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from nats.aio.client import RawCredentials

from mom_core import MomError, read_secret
from mom_plugins_fleet.records import a_server

_MAKE: Final = "`mom fleet key` and `mom fleet enroll` make one"


@dataclass(frozen=True, slots=True)
class Access:
    """Servers, how to verify their certificate, and the client's credentials: a file, or text in NATS' format."""

    servers: Sequence[str]
    ca: Path | None = None
    credentials: Path | str | None = None

    def __post_init__(self) -> None:
        try:
            for server in self.servers:
                a_server(server)
        except ValueError as error:
            raise MomError(str(error)) from None

    def options(self) -> dict[str, Any]:
        """Return options for the NATS library. Raise `MomError` for unusable files."""
        options: dict[str, Any] = {}
        if any(urlsplit(server).scheme == "tls" for server in self.servers):
            try:
                options["tls"] = ssl.create_default_context(cafile=None if self.ca is None else str(self.ca))
            except OSError as error:
                raise MomError(f"the certificates {self.ca} cannot be read: {error.strerror}", hint="use a PEM file") from None
        if isinstance(self.credentials, Path):
            if b"BEGIN USER NKEY SEED" not in read_secret(self.credentials, "the key", _MAKE):
                raise MomError(f"{self.credentials} contains no NATS credentials", hint=_MAKE)
            options["user_credentials"] = str(self.credentials)  # read again for each connection, because keys are replaced
        elif self.credentials is not None:
            options["user_credentials"] = RawCredentials(self.credentials)
        return options
