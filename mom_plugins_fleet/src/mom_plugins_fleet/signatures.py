"""Signed records. A signature covers one key of a bucket and one revision."""

from __future__ import annotations

import base64
import binascii
import json
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Final, Generic

import nkeys  # type: ignore[import-untyped]  # untyped library
from pydantic import Field, StringConstraints

from mom_core import MomError
from mom_plugins_fleet.records import LARGEST_RECORD, FleetRecord, Kind, PublicKey, read

LARGEST_HEADER: Final = 400
"""Maximum length of the signature line, in bytes."""

_KEY_BYTES: Final = 35
"""Decoded public key: type, 32 bytes of Ed25519, two bytes of checksum."""

Revision = Annotated[int, Field(ge=1, lt=1 << 62)]


class Signature(FleetRecord):
    """Signature, in the line before its record."""

    by: PublicKey
    revision: Revision
    signature: Annotated[str, StringConstraints(max_length=100)]


@dataclass(frozen=True, slots=True)
class Opened(Generic[Kind]):
    """Record with a valid signature. `by` is the signing key."""

    record: Kind
    revision: int
    by: str


class Signer:
    """Signer of records."""

    def __init__(self, seed: str) -> None:
        self._pair = nkeys.from_seed(bytearray(seed.encode()))
        self.public: str = self._pair.public_key.decode()

    def signed(self, key: str, record: FleetRecord, revision: int) -> bytes:
        """Return a record with its signature. Raise `MomError` if the record is too large."""
        data = record.packed()
        signature = base64.b64encode(self._pair.sign(_what(record.bucket, key, revision, data))).decode()
        return Signature(by=self.public, revision=revision, signature=signature).packed() + b"\n" + data


def next_revision(before: int) -> int:
    """Return a revision later than `before`. Revisions follow the clock, so that reinstalled servers accept them."""
    return max(before + 1, int(time.time()))


def opened(kind: type[Kind], key: str, data: bytes, trusted: Collection[str]) -> Opened[Kind]:
    """Return a verified record. Raise `MomError` unless a trusted NKEY signed it for this bucket key."""
    header, line_end, record = data[: LARGEST_HEADER + LARGEST_RECORD + 2].partition(b"\n")
    if not line_end or len(header) > LARGEST_HEADER:
        raise MomError("it is not signed", hint="ask an operator to sign the record with `mom fleet`")
    signature = read(Signature, header)
    if signature.by not in trusted:
        raise MomError(f"it is signed with the key {signature.by}, which is not trusted", hint="see `operators` of the fleet plugin")
    if not _fits(signature, _what(kind.bucket, key, signature.revision, record)):
        raise MomError(f"its signature was not made with the key {signature.by}, or not for {kind.bucket} {key}")
    return Opened(read(kind, record), signature.revision, signature.by)


def _what(bucket: str, key: str, revision: int, record: bytes) -> bytes:
    # Servers make clients sign strings. No string contains the first byte, so no such signature fits a record.
    return b"\xff" + json.dumps(["mom fleet", bucket, key, revision]).encode() + b"\n" + record


def _fits(signature: Signature, what: bytes) -> bool:
    try:
        raw = base64.b32decode(signature.by)
        if len(raw) != _KEY_BYTES:
            return False
        nkeys.nacl.signing.VerifyKey(raw[1:-2]).verify(what, base64.b64decode(signature.signature, validate=True))
    except (binascii.Error, ValueError, TypeError, nkeys.nacl.exceptions.CryptoError):
        return False
    return True
