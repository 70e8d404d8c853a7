"""Signed records. A signature covers one key of a bucket and one revision; older revisions are rejected."""

from __future__ import annotations

import base64
import binascii
import json
import time
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Final, Generic

import nkeys  # type: ignore[import-untyped]  # untyped library
from pydantic import Field, StringConstraints, TypeAdapter

from mom_core import MomError, StateFile, lasting
from mom_plugins_fleet.records import LARGEST_RECORD, MOST_MOVES, FleetRecord, Kind, OrderProgress, PublicKey, read

_TRUST: Final = "list an operator's key in `operators`; if the key was revoked, run `mom fleet revoke KEY`"

LARGEST_HEADER: Final = 400
"""Maximum length of the signature line, in bytes."""

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
        raise MomError(f"it is signed with the key {signature.by}, which is not trusted", hint=_TRUST)
    if not _fits(signature, _what(kind.bucket, key, signature.revision, record)):
        raise MomError(f"its signature was not made with the key {signature.by}, or not for {kind.bucket} {key}")
    return Opened(read(kind, record), signature.revision, signature.by)


def _what(bucket: str, key: str, revision: int, record: bytes) -> bytes:
    # Servers make clients sign strings. No string contains the first byte, so no such signature fits a record.
    return b"\xff" + json.dumps(["mom fleet", bucket, key, revision]).encode() + b"\n" + record


def _fits(signature: Signature, what: bytes) -> bool:
    try:
        raw = base64.b32decode(signature.by)  # the key's type, 32 bytes of Ed25519, two bytes of checksum
        nkeys.nacl.signing.VerifyKey(raw[1:-2]).verify(what, base64.b64decode(signature.signature, validate=True))
    except (binascii.Error, ValueError, TypeError, nkeys.nacl.exceptions.CryptoError):
        return False
    return True


FILE: Final = "revisions.json"
WHAT: Final = "the file of the fleet's revisions that were used here"
LOSS: Final = "an outdated record with an operator's signature would be accepted again"

AHEAD_SECONDS: Final = 86_400.0
"""How far ahead of the clock a revision may be. Without a limit, a stolen key could sign the last possible revision."""


@dataclass(frozen=True, slots=True)
class RevisionsContent:
    """File content. `newest` maps a bucket and key to a revision."""

    newest: Mapping[str, Annotated[int, Field(ge=0)]] = field(default_factory=dict)
    moves: Annotated[tuple[OrderProgress, ...], Field(max_length=MOST_MOVES)] = ()


FORM: Final = TypeAdapter(RevisionsContent)


def off_clock(servers: float) -> str:
    """Return how far the local clock is off, as text; empty if hosts accept signatures with this clock's time.

    :param servers: the servers' time, in seconds since the epoch
    """
    ahead = time.time() - servers
    return f"{lasting(abs(ahead))} {'ahead of' if ahead > 0 else 'behind'}" if abs(ahead) > AHEAD_SECONDS else ""


class SeenRevisions:
    """Newest revisions used here. `save` writes them to the file, if any."""

    def __init__(self, file: StateFile[RevisionsContent] | None = None) -> None:
        self._file, self._is_saved = file, True
        self._newest: dict[str, int] = {}
        self.moves: Mapping[tuple[str, int], OrderProgress] = {}
        """Progress of moves, keyed by guest and `order`."""

    def load(self) -> None:
        """Read the file of the last run."""
        content = None if self._file is None else self._file.read()
        if content is not None:
            self._newest, self.moves = dict(content.newest), {(step.guest, step.order): step for step in content.moves}

    def open(self, kind: type[Kind], key: str, data: bytes, trusted: Collection[str]) -> Opened[Kind]:
        """Return a verified record. Raise `MomError` if the record is unsigned, outdated or far ahead of the clock."""
        record, bucket = opened(kind, key, data, trusted), kind.bucket
        newest, ahead = self.newest(bucket, key), record.revision - time.time()
        if record.revision < newest:
            raise MomError(
                f"the record is rejected: its revision {record.revision} is older than revision {newest}, which was in force here",
                hint=f"if the servers were restored from a backup, an operator removes {FILE} from their folder, and repeats the change",
            )
        if record.revision > newest and ahead > AHEAD_SECONDS:
            far = lasting(ahead) if ahead < 1e10 else "centuries"
            raise MomError(
                f"the record is rejected: its revision is {far} ahead of the clock here",
                hint="check the clocks here and where the record was signed; then repeat the change",
            )
        if record.revision > newest:
            self._newest[f"{bucket} {key}"], self._is_saved = record.revision, False
        return record

    def newest(self, bucket: str, key: str) -> int:
        """Return the newest revision used here; 0 if none."""
        return self._newest.get(f"{bucket} {key}", 0)

    def note(self, moves: Collection[OrderProgress]) -> None:
        """Save the progress of moves. After a `StateError`, the caller must start no move."""
        before, self.moves = self.moves, {(step.guest, step.order): step for step in moves}
        self._is_saved = self._is_saved and self.moves == before
        try:
            self.save()
        except MomError:
            self.moves = before
            raise

    def save(self) -> None:
        """Write to disk."""
        if self._file is not None and not self._is_saved:
            self._file.write(asdict(RevisionsContent(self._newest, tuple(self.moves.values()))))
        self._is_saved = True
