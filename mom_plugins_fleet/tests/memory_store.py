"""The fleet's buckets in a dictionary."""

import asyncio
from collections.abc import Mapping
from typing import NoReturn

from mom_plugins_fleet.bucket_watch import BucketWatcher
from mom_plugins_fleet.link import ConflictError, LinkError, Store
from mom_plugins_fleet.subjects import StoredEntry


class Memory(Store):
    """Servers that answer at once, and tell their watchers of each change."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], StoredEntry] = {}
        self.revision = 0
        self.watchers: list[tuple[str, BucketWatcher]] = []
        self.watches = 99

    @property
    def connected(self) -> bool:
        return True

    @property
    def closed(self) -> bool:
        return False

    async def read(self, bucket: str, key: str) -> StoredEntry:
        return self.kept.get((bucket, key), StoredEntry(0, None))

    async def put(self, bucket: str, key: str, data: bytes, revision: int | None = None) -> int:
        return self.set(bucket, key, data, revision)

    async def remove(self, bucket: str, key: str, revision: int | None = None) -> None:
        self.set(bucket, key, None, revision)

    def set(self, bucket: str, key: str, data: bytes | None, revision: int | None) -> int:
        if revision not in (None, self.kept.get((bucket, key), StoredEntry(0, None)).revision):
            raise ConflictError("another client changed the record first")
        self.revision += 1
        self.kept[bucket, key] = StoredEntry(self.revision, data)
        for name, watcher in self.watchers:
            if name == bucket:
                watcher.told(key, self.kept[bucket, key], live=True)
        return self.revision

    async def load(self, bucket: str) -> Mapping[str, StoredEntry]:
        return {key: kept for (name, key), kept in self.kept.items() if name == bucket and kept.data is not None}

    async def watch(self, bucket: str, watcher: BucketWatcher) -> NoReturn:
        self.watches -= 1
        if self.watches < 0:
            raise LinkError("no answer")
        watcher.begins()
        for key, kept in (await self.load(bucket)).items():
            watcher.told(key, kept, live=False)
        watcher.complete()
        self.watchers.append((bucket, watcher))
        try:
            await asyncio.Event().wait()
        finally:
            self.watchers.remove((bucket, watcher))
        raise AssertionError("unreachable")
