"""Access to the fleet's NATS servers: addresses, certificates and key files. Functions raise `MomError` for unusable files."""

from __future__ import annotations

import base64
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import nkeys  # type: ignore[import-untyped]  # untyped library

from mom_core import MomError, read_secret
from mom_plugins_fleet.records import a_server

_JWT: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class NatsCredentials:
    """NKEY seed and user JWT."""

    seed: str
    jwt: str


@dataclass(frozen=True, slots=True)
class Access:
    """Servers, how to verify their certificate, and the client's key."""

    servers: Sequence[str]
    ca: Path | None = None
    key: Path | NatsCredentials | None = None
    certificate: bytes = b""

    def __post_init__(self) -> None:
        try:
            for server in self.servers:
                a_server(server)
        except ValueError as error:
            raise MomError(str(error)) from None

    def tls(self) -> ssl.SSLContext | None:
        """Return the TLS context; None without a `tls://` address."""
        if not any(urlsplit(server).scheme == "tls" for server in self.servers):
            return None
        try:
            context = ssl.create_default_context(cafile=None if self.ca is None else str(self.ca))
        except OSError as error:
            raise MomError(f"the certificates {self.ca} cannot be read: {error.strerror}", hint="use a PEM file") from None
        if self.certificate:  # `FleetClient` compares the certificate
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context

    def options(self) -> dict[str, Any]:
        """Return options for the NATS library."""
        first = credentials_of(self.key)
        if first is None:
            return {}

        def sign(nonce: str) -> bytes:
            credentials = credentials_of(self.key) or first
            return base64.b64encode(nkeys.from_seed(bytearray(credentials.seed.encode())).sign(nonce.encode()))

        return {"user_jwt_cb": lambda: bytearray((credentials_of(self.key) or first).jwt.encode()), "signature_cb": sign}


def credentials_of(key: Path | NatsCredentials | None) -> NatsCredentials | None:
    """Return the credentials in a key file; None if the file has no JWT."""
    if key is None or isinstance(key, NatsCredentials):
        return key
    seeds, jwt = _read_key(key)
    return NatsCredentials(seeds[-1], jwt) if jwt else None


def signing_seed(key: Path) -> str | None:
    """Return the seed that signs records; None for a host's key."""
    seeds, jwt = _read_key(key)
    return None if jwt and len(seeds) == 1 else seeds[0]


def _read_key(key: Path) -> tuple[list[str], str]:
    # The first seed signs records; the second is for the connection.
    make = "`mom fleet key` and `mom fleet enroll` make one"
    seeds = read_secret(key, "the key", make).decode("ascii", "replace").split()
    jwt = seeds.pop() if seeds and _JWT.fullmatch(seeds[-1]) else ""
    if not 0 < len(seeds) <= (2 if jwt else 1) or not all(map(_is_seed, seeds)):
        raise MomError(f"{key} contains no NKEY user seed", hint=make)
    return seeds, jwt


def _is_seed(seed: str) -> bool:
    try:
        nkeys.from_seed(bytearray(seed.encode()))
    except (nkeys.NkeysError, ValueError):
        return False
    return seed.startswith("SU") and len(seed) <= 128
