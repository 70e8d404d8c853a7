"""Invitation of a host: the host's key, stored encrypted on the servers, and the token that decrypts the key.

The token fetches one message, once and within an hour. Servers never see the key, and cannot add operators.
"""

from __future__ import annotations

import base64
import hashlib
import os
import struct
import time
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Annotated, Any, Final

import nkeys  # type: ignore[import-untyped]  # untyped library
from pydantic import AfterValidator, FailFast, Field

from mom_core import MomError
from mom_plugins_fleet.access import NatsCredentials
from mom_plugins_fleet.accounts import pair, public, seed_of, ticket
from mom_plugins_fleet.records import FleetRecord, HostName, PublicKey, a_server, read
from mom_plugins_fleet.subjects import INVITED_SECONDS

_FIXED: Final = struct.Struct(">I32s35s64s32s")
"""Format of a token after its checksum: expiry, secret, account, signature, server certificate. The host's name follows."""

_CHECKSUM_BYTES: Final = 4

_BEGIN: Final = "mom-"
_NONCE: Final = bytes(nkeys.nacl.bindings.crypto_secretbox_NONCEBYTES)
"""A constant nonce is safe, because a token encrypts only one message."""


class Invitation(FleetRecord):
    """Everything that a host needs to join a fleet."""

    key: str
    operators: Annotated[tuple[PublicKey, ...], Field(max_length=64), FailFast()]
    servers: Annotated[tuple[Annotated[str, AfterValidator(a_server)], ...], Field(max_length=16), FailFast()]
    ca: str
    """CA certificates in PEM; if empty, the system's."""


@dataclass(frozen=True, slots=True)
class Token:
    """Token of a host.

    :param ends: expiry, in seconds since the epoch
    """

    host: HostName
    ends: int
    secret: bytes
    account: str
    signature: bytes
    certificate: bytes

    @staticmethod
    def made(host: str, account: Any, issued: int, certificate: bytes) -> Token:
        """Create a token, valid for an hour from now or, if later, from `issued` (seconds since the epoch).

        :param account: key pair of the host's account
        """
        secret, ends = os.urandom(32), max(issued, int(time.time())) + INVITED_SECONDS
        jwt = ticket(account, public(pair(seed_of(secret))), host, ends)
        return Token(host, ends, secret, public(account), base64.urlsafe_b64decode(jwt.rpartition(".")[2] + "=="), certificate)

    @staticmethod
    def parse(text: str) -> Token:
        """Parse a token. Raise `MomError` if the text is invalid."""
        try:
            encoded = text.removeprefix(_BEGIN)
            data = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
            checksum, body = data[:_CHECKSUM_BYTES], data[_CHECKSUM_BYTES:]
            ends, secret, account, signature, certificate = _FIXED.unpack_from(body)
            if text.startswith(_BEGIN) and checksum == _checksum(body):
                return Token(body[_FIXED.size :].decode(), ends, secret, base64.b32encode(account).decode(), signature, certificate)
        except (struct.error, ValueError):
            pass
        raise MomError(
            "invalid or incomplete token: it must come from `mom fleet enroll --token`", hint="copy the whole token, as one word"
        )

    def __str__(self) -> str:
        data = _FIXED.pack(self.ends, self.secret, base64.b32decode(self.account), self.signature, self.certificate) + self.host.encode()
        return _BEGIN + base64.urlsafe_b64encode(_checksum(data) + data).rstrip(b"=").decode()

    @property
    def credentials(self) -> NatsCredentials:
        """Credentials that can fetch the invitation."""
        seed, signs = seed_of(self.secret), SimpleNamespace(public_key=self.account.encode(), sign=lambda _: self.signature)
        return NatsCredentials(seed, ticket(signs, public(pair(seed)), self.host, self.ends))

    def sealed(self, invitation: Invitation) -> bytes:
        """Encrypt the invitation."""
        return bytes(nkeys.nacl.bindings.crypto_secretbox(invitation.packed(), _NONCE, self._key))

    def opened(self, data: bytes) -> Invitation:
        """Decrypt the invitation. Raise `MomError` for another token's invitation."""
        try:
            return read(Invitation, nkeys.nacl.bindings.crypto_secretbox_open(data, _NONCE, self._key))
        except (nkeys.nacl.exceptions.CryptoError, ValueError):
            raise MomError("the servers sent an invitation that was not made for this token", hint="make a new token") from None

    @property
    def _key(self) -> bytes:
        return hashlib.sha256(b"mom fleet seals\n" + self.secret).digest()


def _checksum(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:_CHECKSUM_BYTES]
