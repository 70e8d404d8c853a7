"""Who has ordered a move: a coordinator seals it with its key, so that who may write a host's orders can invent none."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable
from typing import Final

import nkeys  # type: ignore[import-untyped]  # it has no types

from mom_plugins_fleet.records import Move

_KEY_BYTES: Final = 35
"""Of a public key, decoded: its kind, 32 bytes of Ed25519, and a checksum of two."""


class Seal:
    """What a coordinator seals with.

    :param seed: its key's seed; None where the servers ask for no keys, and nothing is sealed
    """

    def __init__(self, seed: str | None) -> None:
        self._pair = None if seed is None else nkeys.from_seed(seed.encode())
        self.public: str = "" if self._pair is None else self._pair.public_key.decode()
        """By which others know the seal; empty: there is none."""

    def sealed(self, host: str, move: Move) -> Move:
        """The same move, sealed for that host."""
        if self._pair is None:
            return move
        return move.model_copy(update={"seal": base64.b64encode(self._pair.sign(_what(host, move))).decode()})


def is_sealed(host: str, move: Move, keys: Iterable[str]) -> bool:
    """Whether one who has one of these public keys has ordered that move of that host."""
    try:
        seal = base64.b64decode(move.seal, validate=True)
    except (binascii.Error, ValueError):
        return False
    return bool(seal) and any(_fits(key, seal, _what(host, move)) for key in keys)


def _what(host: str, move: Move) -> bytes:
    """What stands fast of a move; how far it is, the host says."""
    return json.dumps([host, move.guest, move.to, str(move.destination), move.takes, move.number]).encode()


def _fits(key: str, seal: bytes, what: bytes) -> bool:
    try:
        raw = base64.b32decode(key)
        if len(raw) != _KEY_BYTES:
            return False
        nkeys.nacl.signing.VerifyKey(raw[1:-2]).verify(what, seal)
    except (binascii.Error, ValueError, TypeError, nkeys.nacl.exceptions.CryptoError):
        return False
    return True
