"""What stands at a key of a bucket, as servers tell it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """An entry: the revision, which changes with each change, the bytes (None where nothing stands), and when that was set, in
    seconds since the epoch by the servers' clock; 0 where it is not known."""

    revision: int
    data: bytes | None
    at: float = 0.0


def is_deleted(headers: Mapping[str, str]) -> bool:
    """True for headers of a message which says that nothing stands at its key any more."""
    return headers.get("KV-Operation") in ("DEL", "PURGE")
