"""What the library says of a bucket, and what is made of it; what real servers say is in tests/fleet."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mom_plugins_fleet.link import Store


class Bucket:
    """Gives, each time that it is watched, the next of these answers, each closed by None as the library does."""

    def __init__(self, stored: int, *answers: list[str]) -> None:
        self.stored = stored
        self.answers: Iterator[list[str]] = iter(answers)
        self.watched = 0

    async def watchall(self, meta_only: bool) -> Any:
        self.watched += 1
        entries = [SimpleNamespace(key=key, revision=1, value=b"x", operation=None) for key in next(self.answers)]
        told = iter([*entries, None])

        async def updates(timeout: float) -> Any:
            return next(told)

        async def stop() -> None:
            pass

        return SimpleNamespace(updates=updates, stop=stop)

    async def status(self) -> Any:
        return SimpleNamespace(values=self.stored)


def loaded(bucket: Bucket) -> list[str]:
    async def key_value(name: str) -> Bucket:
        return bucket

    jetstream = SimpleNamespace(key_value=key_value)
    client = SimpleNamespace(jetstream=lambda timeout: jetstream, is_connected=True)
    return sorted(asyncio.run(Store(cast(Any, client)).load("mom-roster")))


def test_a_bucket_is_read_whole() -> None:
    bucket = Bucket(2, ["h1", "h2"])
    assert loaded(bucket) == ["h1", "h2"]
    assert bucket.watched == 1


def test_a_bucket_that_is_said_to_be_empty_and_is_not_is_read_again() -> None:
    bucket = Bucket(2, [], [], ["h1", "h2"])
    assert loaded(bucket) == ["h1", "h2"], "a fleet without hosts would be the worst of answers"
    assert bucket.watched == 3


def test_an_empty_bucket_is_empty() -> None:
    bucket = Bucket(0, [])
    assert loaded(bucket) == []
    assert bucket.watched == 1


def test_a_bucket_that_never_says_what_is_in_it_is_an_error() -> None:
    with pytest.raises(Exception, match="cannot load mom-roster: the servers did not answer in time"):
        loaded(Bucket(1, *([] for _ in range(10))))
