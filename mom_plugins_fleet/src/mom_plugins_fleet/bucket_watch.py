"""A watch on one bucket: what stands at each key, and then each change, in their order and without a gap, for as long as that can be had.

It is a consumer of the bucket's stream that pushes and keeps nothing. What it sends is numbered, and where there is nothing to send it says
so every few seconds, with the last number: whatever breaks (a server ends, hangs or starts again, messages are lost, the bucket is taken
away and made anew) is noticed by that, and ends the watch. The next one begins with all that stands there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final, NoReturn, Protocol, TypeVar

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from mom_core import MomError, printable
from mom_plugins_fleet.subjects import StoredEntry, is_deleted, subject

Result = TypeVar("Result")

PULSE_SECONDS: Final = 2.0
"""How often a watch says that there is nothing to say."""

LOST_SECONDS: Final = 3 * PULSE_SECONDS
"""A watch of which nothing was heard for so long has ended."""

MAKE_SECONDS: Final = 2.0
"""How long the servers may take to begin. The one of them that is to send may hang: the next one that is chosen does not."""

LEADER_SECONDS: Final = 0.2
"""How soon it is asked again whether servers have chosen a leader, which takes them some seconds."""

_LAST_SENT: Final = "Nats-Last-Consumer"
_LAST_LOOKED_AT: Final = "Nats-Last-Stream"
_STALLED: Final = "Nats-Consumer-Stalled"


class BucketWatcher(Protocol):
    """Who is told."""

    def begins(self) -> None:
        """All that stands there is told from here on."""

    def told(self, key: str, kept: StoredEntry, *, live: bool) -> None:
        """The entry at that key now.

        :param live: it was set since the watch began
        """

    def complete(self) -> None:
        """All that stood there when the watch began has been told. Keys that were not are not there."""


class WatchBroken(MomError):
    """The watcher may not be told everything from here on."""


class BucketWatch:
    """One watch. `run` ends only by an error: `WatchBroken`, or what the library raises.

    :param whole: called when the watcher has been told all that stood there
    """

    def __init__(self, client: Client, jetstream: JetStreamContext, bucket: str, watcher: BucketWatcher, whole: Callable[[], None]) -> None:
        self._client, self._jetstream, self._bucket, self._watcher, self._whole = client, jetstream, bucket, watcher, whole
        self._begin = subject(bucket, "")
        self._got = 0
        self._stood = self._wanted = self._come = 0
        self._news = asyncio.Event()
        self._at = time.monotonic()
        self._broken: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def run(self) -> NoReturn:
        """Watch until that breaks."""
        stream = f"KV_{self._bucket}"
        self._stood = self._wanted = await self._last(stream)
        inbox = self._client.new_inbox()
        self._watcher.begins()
        subscription = await self._client.subscribe(inbox, cb=self._take)
        try:
            wanted = ConsumerConfig(
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
            await given_up_at_once(self._jetstream.add_consumer(stream, wanted, timeout=MAKE_SECONDS))
            self._at = time.monotonic()
            completing = asyncio.create_task(self._complete(stream))
            try:
                while not self._broken.done():
                    if time.monotonic() - self._at > LOST_SECONDS:
                        self._broken.set_result("nothing is heard any more")
                    await asyncio.wait([self._broken], timeout=PULSE_SECONDS / 2)
            finally:
                completing.cancel()
            raise WatchBroken(self._broken.result())
        finally:
            if not self._client.is_closed:
                await subscription.unsubscribe()  # the consumer goes away by itself

    async def _last(self, stream: str) -> int:
        """The number of the last message that there is; 0: none. Raises `WatchBroken`."""
        ends = time.monotonic() + LOST_SECONDS
        while True:
            info = await given_up_at_once(self._jetstream.stream_info(stream))
            # While the servers that keep a bucket choose who leads, any of them answers, also one that was away and has little of it.
            if info.cluster is None or info.cluster.leader:
                return info.state.last_seq if info.state.messages else 0
            if time.monotonic() > ends:
                raise WatchBroken("the servers that keep it have no leader")
            await asyncio.sleep(LEADER_SECONDS)

    async def _complete(self, stream: str) -> None:
        """Say when all that stood there has been told.

        The first message that is as new as what stood there is not the end of it: a key that was set meanwhile comes after what it was set
        to last. So it is asked once more what stands there then.
        """
        try:
            await self._told_up_to(self._stood)
            await self._told_up_to(await self._last(stream))
            self._watcher.complete()
            self._whole()
        except Exception as error:  # noqa: BLE001  # whatever the servers answer, or a mistake of ours: nobody else sees it
            if not self._broken.done():
                why = error.message if isinstance(error, WatchBroken) else f"{type(error).__name__}: {printable(str(error), 200)}"
                self._broken.set_result(f"it is not known what stands there now: {why}")

    async def _told_up_to(self, number: int) -> None:
        self._wanted = number
        while self._come < number:
            self._news.clear()
            await self._news.wait()

    def _has_come(self, number: int) -> None:
        self._come = max(self._come, number)
        self._news.set()

    async def _take(self, message: Msg) -> None:
        if self._broken.done():
            return
        self._at = time.monotonic()
        headers = message.headers or {}
        if headers.get("Status") == "100":
            await self._pulse(headers.get(_STALLED) or message.reply, headers.get(_LAST_SENT), headers.get(_LAST_LOOKED_AT, ""))
            return
        found = message.metadata
        if found.sequence.consumer != self._got + 1:
            self._broken.set_result(f"message {self._got + 1} is lost")
            return
        self._got += 1
        key, number = message.subject.removeprefix(self._begin), found.sequence.stream
        data = None if is_deleted(headers) else message.data
        try:
            self._watcher.told(key, StoredEntry(number, data, found.timestamp.timestamp()), live=number > self._stood)
            self._has_come(number)
        except Exception as error:  # noqa: BLE001  # a mistake of ours, of which the library would tell its own log only
            self._broken.set_result(f"a mistake of mom's: {type(error).__name__}: {printable(str(error), 200)}")

    async def _pulse(self, asks: str, sent: str | None, looked_at: str) -> None:
        """A sign of life.

        :param asks: where it is to be said that what was sent has come; empty: that is not asked
        :param sent: the number of the last message, where that is told
        :param looked_at: the last message of the bucket that the server which sends has looked at
        """
        if asks:
            await self._client.publish(asks)
        if sent is None:
            return
        if not (sent.isdecimal() and int(sent) == self._got):
            self._broken.set_result(f"message {self._got + 1} is lost")
        elif not asks and looked_at.isdecimal():  # there is nothing to send
            self._has_come(int(looked_at))
            if self._come < self._wanted:  # one that was away for a while; another one may have all
                self._broken.set_result("the server that sends it has not all of it")


async def given_up_at_once(request: Coroutine[Any, Any, Result]) -> Result:
    """The answer to a request. The library waits by `asyncio.wait_for`, which before Python 3.12 forgets a cancellation that comes with the
    answer: this one does not."""
    task = asyncio.create_task(request)
    try:
        await asyncio.wait([task])
        return task.result()
    finally:
        task.cancel()
