"""Watch of a bucket: all entries, then each change, without a gap.

The library's ordered consumer hides gaps. This watch ends with an error instead.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from mom_core import MomError, printable
from mom_plugins_fleet.buckets import Bucket
from mom_plugins_fleet.subjects import StoredEntry, is_deleted, subject

Result = TypeVar("Result")

PULSE_SECONDS: Final = 2.0

LOST_SECONDS: Final = 3 * PULSE_SECONDS

MAKE_SECONDS: Final = 2.0
"""Time limit for the start of a watch, because NATS may choose a hung server."""

LEADER_SECONDS: Final = 0.2
"""Pause between requests while a bucket has no leader."""

_LAST_SENT: Final = "Nats-Last-Consumer"
_LAST_LOOKED_AT: Final = "Nats-Last-Stream"
_STALLED: Final = "Nats-Consumer-Stalled"


class WatchBroken(MomError):
    """Error: a watch has ended, and later changes are unknown."""


class BucketWatch:
    """Single watch of a bucket."""

    def __init__(self, client: Client, jetstream: JetStreamContext, bucket: Bucket[Any]) -> None:
        self._client, self._jetstream, self._bucket = client, jetstream, bucket
        self._begin = subject(bucket.kind.bucket, "")
        self._received = 0
        self._needed = self._reached = 0
        self._news = asyncio.Event()
        self._at = time.monotonic()
        self._broken: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def run(self, *, once: bool = False) -> None:
        """Watch until an error: `WatchBroken`, or an error of the library. With `once`, end when the bucket is complete."""
        stream = f"KV_{self._bucket.kind.bucket}"
        self._needed = await self._last(stream)
        inbox = self._client.new_inbox()
        self._bucket.begins()
        subscription = await self._client.subscribe(inbox, cb=self._take)
        try:
            config = ConsumerConfig(
                deliver_subject=inbox,
                deliver_policy=DeliverPolicy.LAST_PER_SUBJECT,
                filter_subject=f"{self._begin}>",
                ack_policy=AckPolicy.NONE,
                max_deliver=1,
                flow_control=True,
                idle_heartbeat=PULSE_SECONDS,
                inactive_threshold=LOST_SECONDS,
                mem_storage=True,
                num_replicas=1,
            )
            await given_up_at_once(self._jetstream.add_consumer(stream, config, timeout=MAKE_SECONDS))
            self._at = time.monotonic()
            completing = asyncio.create_task(self._complete(stream))
            try:
                while not (self._broken.done() or (once and completing.done())):
                    if time.monotonic() - self._at > LOST_SECONDS:
                        self._end("no message and no heartbeat received")
                    ends: list[asyncio.Future[Any]] = [self._broken, completing] if once else [self._broken]
                    await asyncio.wait(ends, timeout=PULSE_SECONDS / 2, return_when=asyncio.FIRST_COMPLETED)
            finally:
                completing.cancel()
            if self._broken.done():
                raise WatchBroken(self._broken.result())
        finally:
            if not self._client.is_closed:
                await subscription.unsubscribe()  # the server deletes the inactive consumer

    def _end(self, why: str) -> None:
        if not self._broken.done():
            self._broken.set_result(why)

    async def _last(self, stream: str) -> int:
        ends = time.monotonic() + LOST_SECONDS
        while True:
            info = await given_up_at_once(self._jetstream.stream_info(stream))
            # During an election, even a server that lacks messages answers.
            if info.cluster is None or info.cluster.leader:
                return info.state.last_seq if info.state.messages else 0
            if time.monotonic() > ends:
                raise WatchBroken("the servers have no leader")
            await asyncio.sleep(LEADER_SECONDS)

    async def _complete(self, stream: str) -> None:
        # Keys set during the load move to the end, so the end is read twice.
        try:
            await self._wait_for(self._needed)
            await self._wait_for(await self._last(stream))
            self._bucket.complete()
        except Exception as error:  # noqa: BLE001  # invalid answers and mistakes alike end the watch: no caller sees them
            why = error.message if isinstance(error, WatchBroken) else f"{type(error).__name__}: {printable(str(error), 200)}"
            self._end(f"the end of the bucket is unknown: {why}")

    async def _wait_for(self, number: int) -> None:
        self._needed = number
        while self._reached < number:
            self._news.clear()
            await self._news.wait()

    def _reach(self, number: int) -> None:
        self._reached = max(self._reached, number)
        self._news.set()

    async def _take(self, message: Msg) -> None:
        if self._broken.done():
            return
        self._at = time.monotonic()
        headers = message.headers or {}
        if headers.get("Status") == "100":
            await self._pulse(headers.get(_STALLED) or message.reply, headers.get(_LAST_SENT), headers.get(_LAST_LOOKED_AT, ""))
            return
        metadata = message.metadata
        if metadata.sequence.consumer != self._received + 1:
            self._end(f"message {self._received + 1} is lost")
            return
        self._received += 1
        key, number = message.subject.removeprefix(self._begin), metadata.sequence.stream
        data = None if is_deleted(headers) else message.data
        try:
            self._bucket.take(key, StoredEntry(number, data, metadata.timestamp.timestamp()))
            self._reach(number)
        except Exception as error:  # noqa: BLE001  # a mistake in mom, which the library would only log
            self._end(f"an error in mom: {type(error).__name__}: {printable(str(error), 200)}")

    async def _pulse(self, reply: str, sent: str | None, looked_at: str) -> None:
        if reply:
            await self._client.publish(reply)
        if sent is None:
            return
        if not (sent.isdecimal() and int(sent) == self._received):
            self._end(f"message {self._received + 1} is lost")
        elif not reply and looked_at.isdecimal():  # the server has nothing to send
            self._reach(int(looked_at))
            if self._reached < self._needed:  # this server was offline; another may have all messages
                self._end("the sending server lacks a part of the bucket")


async def given_up_at_once(request: Coroutine[Any, Any, Result]) -> Result:
    """Await a request, and give up at once when cancelled."""
    task = asyncio.create_task(request)
    try:
        await asyncio.wait([task])
        return task.result()
    finally:
        task.cancel()
