"""Buckets of the fleet in a dictionary."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from mom_plugins_fleet.buckets import Bucket, StoredEntry
from mom_plugins_fleet.link import ConflictError, LinkError, Store


class Memory(Store):
    """Servers that answer at once, and notify watchers of each change."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], StoredEntry] = {}
        self.revision = 0
        self.watchers: list[Bucket[Any]] = []
        self.watches = 99

    @property
    def connected(self) -> bool:
        return True

    @property
    def closed(self) -> bool:
        return False

    async def call(self, what: Callable[[], Any]) -> Any:
        """Return the servers' answer."""
        return what()

    async def read(self, bucket: str, key: str) -> StoredEntry:
        return await self.call(lambda: self.kept.get((bucket, key), StoredEntry(0, None)))

    async def put(self, bucket: str, key: str, data: bytes, revision: int | None = None) -> int:
        return await self.call(lambda: self.set(bucket, key, data, revision))

    async def remove(self, bucket: str, key: str, revision: int | None = None) -> None:
        await self.call(lambda: self.set(bucket, key, None, revision))

    def set(self, bucket: str, key: str, data: bytes | None, revision: int | None) -> int:
        if revision not in (None, self.kept.get((bucket, key), StoredEntry(0, None)).revision):
            raise ConflictError("another client changed the record first")
        self.revision += 1
        self.kept[bucket, key] = StoredEntry(self.revision, data, time.time())
        for watched in self.watchers:
            if watched.kind.bucket == bucket:
                watched.take(key, self.kept[bucket, key])
        return self.revision

    async def hear(self, bucket: str, key: str, changed: Callable[[], None]) -> None:
        """Ignore listeners."""

    async def watch(self, bucket: Bucket[Any], *, once: bool = False) -> None:
        self.watches -= 1
        if self.watches < 0:
            raise LinkError("no answer")
        bucket.begins()
        for (name, key), kept in self.kept.items():
            if name == bucket.kind.bucket:
                bucket.take(key, kept)
        bucket.complete()
        if once:
            return
        self.watchers.append(bucket)
        try:
            await asyncio.Event().wait()
        finally:
            bucket.current = False
            self.watchers[:] = [watched for watched in self.watchers if watched is not bucket]
