"""Connection to the fleet's servers: read, set and watch keys, load buckets."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, TypeVar

import nats.errors
import nats.js.errors
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from mom_core import MomError, printable
from mom_plugins_fleet.buckets import LEASES, Bucket, StoredEntry, buckets, inbox, is_deleted, subject
from mom_plugins_fleet.client import Access, FleetClient

ANSWER_SECONDS: Final = 5.0
"""Time limit for an answer, because the election of a bucket's leader takes 4 s."""

READ_SECONDS: Final = 1.0
"""Time limit for an attempt to read a key or a bucket, because NATS may choose a hung server."""

ATTEMPTS: Final = 10

CHANGES_SECONDS: Final = 0.5
"""Time between two requests for a bucket's changes."""

UNUSED_SECONDS: Final = 30.0
"""Servers forget a watch that asks for no changes for this long."""

MOST_AT_ONCE: Final = 256

CONNECT_SECONDS: Final = 3

AGAIN_SECONDS: Final = 1

PING_SECONDS: Final = 5
LOST_PINGS: Final = 2
"""A connection counts as lost after this many unanswered pings, within 15 s."""

PATIENCE_SECONDS: Final = 60.0
"""Time limit for a command."""

_WRONG_REVISION: Final = 10071
"""JetStream's error code for a write whose expected revision is out of date."""

_MISSING: Final = "`mom fleet init` makes them"
_REFUSED: Final = "a host's key may use only the host's own records: is this the right key?"
_UNCERTAIN: Final = "the change may have been made: check before you try again"

Answer = TypeVar("Answer")


class LinkError(MomError):
    """Error: the fleet's servers do not answer, or refuse."""


class UnansweredError(LinkError):
    """Error: an answer is missing or interrupted. Another attempt may succeed."""


class ConflictError(LinkError):
    """Error: another client has changed the record. Nothing was written."""


class Store:
    """Buckets of the fleet. Calls have a time limit and raise `LinkError`."""

    def __init__(self, client: FleetClient) -> None:
        self.client = client
        self.complaint: tuple[float, str] = (float("-inf"), "")
        """Monotonic time and text of the servers' last error message, the only sign of a refused request."""
        self._jetstream = client.jetstream(timeout=ANSWER_SECONDS)
        self._reading = client.jetstream(timeout=READ_SECONDS)

    @property
    def connected(self) -> bool:
        """Whether there is a connection."""
        return self.client.is_connected

    @property
    def closed(self) -> bool:
        """Whether the servers refused the key."""
        return self.client.is_closed

    async def read(self, bucket: str, key: str) -> StoredEntry:
        """Return an entry; revision 0 if it never existed."""
        return await _of_several_attempts(lambda: self._ask(f"read {bucket} {key}", self._read(bucket, key)))

    async def _read(self, bucket: str, key: str) -> StoredEntry:
        try:
            message = await self._reading.get_msg(f"KV_{bucket}", subject=subject(bucket, key), direct=True)
        except nats.js.errors.NotFoundError:
            return StoredEntry(0, None)
        if not message.seq or message.time is None:
            raise ValueError("no revision or time")
        data = None if is_deleted(message.headers or {}) else message.data or b""
        return StoredEntry(message.seq, data, message.time.timestamp())

    async def put(self, bucket: str, key: str, data: bytes, revision: int | None = None) -> int:
        """Set a key if it still has this revision (0: it must not exist; None: any revision). Return the new revision.

        Raise `ConflictError` if the revision differs. After any other `LinkError`, the key may have been set.
        """
        return await self._ask(f"set {bucket} {key}", self._publish(subject(bucket, key), data, {}, revision), _UNCERTAIN)

    async def remove(self, bucket: str, key: str, revision: int | None = None) -> None:
        """Remove a key if it still has this revision (None: any revision). Raise the errors of `put`."""
        removal = self._publish(subject(bucket, key), b"", {"KV-Operation": "DEL"}, revision)
        await self._ask(f"remove {bucket} {key}", removal, _UNCERTAIN)

    async def _publish(self, name: str, data: bytes, headers: dict[str, str], revision: int | None) -> int:
        if revision is not None:
            headers["Nats-Expected-Last-Subject-Sequence"] = str(revision)
        return (await self._jetstream.publish(name, data, headers=headers or None)).seq

    async def clock(self) -> float:
        """Return the servers' time in seconds since the epoch."""
        await self.put(LEASES, "clock", b"")
        return (await self.read(LEASES, "clock")).at

    async def hear(self, bucket: str, key: str, changed: Callable[[], None]) -> None:
        """Call `changed` whenever the key changes."""

        async def take(_message: Msg) -> None:
            changed()

        await self._ask(f"listen to {bucket}", self.client.subscribe(subject(bucket, key), cb=take))

    async def watch(self, bucket: Bucket[Any], *, once: bool = False) -> None:
        """Keep a bucket current until the watch fails with a `LinkError`. With `once`, end when the whole bucket is read."""
        try:
            await self._ask(f"watch {bucket.kind.bucket}", self._watch(bucket, once=once))
        finally:
            bucket.current = False

    async def _watch(self, bucket: Bucket[Any], *, once: bool) -> None:
        stream, begin = f"KV_{bucket.kind.bucket}", subject(bucket.kind.bucket, "")
        config = ConsumerConfig(
            deliver_policy=DeliverPolicy.LAST_PER_SUBJECT,
            ack_policy=AckPolicy.NONE,
            inactive_threshold=UNUSED_SECONDS,
            mem_storage=True,
            num_replicas=1,
        )
        # A server that was offline may lack the newest records: wait until it has what the bucket's leader has.
        whole = await self._reading.stream_info(stream)
        while whole.cluster is not None and not whole.cluster.leader:
            await asyncio.sleep(CHANGES_SECONDS)
            whole = await self._reading.stream_info(stream)
        changes = await self._reading.pull_subscribe(f"{begin}>", stream=stream, config=config)
        bucket.begins()
        received = 0
        try:
            while not (once and bucket.current):
                info = await changes.consumer_info()
                if info.delivered is None or info.delivered.consumer_seq != received:
                    raise UnansweredError(f"changes of {bucket.kind.bucket} were lost")
                if info.num_pending:
                    received += await _fetched(changes, bucket, begin, info.num_pending)
                    continue
                if not bucket.current and (not whole.state.messages or info.delivered.stream_seq >= whole.state.last_seq):
                    bucket.complete()
                if not once:
                    await asyncio.sleep(CHANGES_SECONDS)
        finally:
            if not self.client.is_closed:
                await changes.unsubscribe()

    async def load(self, bucket: Bucket[Any]) -> None:
        """Read a bucket once."""
        await _of_several_attempts(lambda: self.watch(bucket, once=True))

    async def request(self, name: str, data: bytes) -> bytes:
        """Return the answer to a request."""
        return (await self._ask(f"ask {name}", self.client.request(name, data, timeout=ANSWER_SECONDS))).data

    async def make(self, replicas: int) -> None:
        """Create missing buckets, and forbid rollup headers."""
        await self._ask("make the buckets", self._make(replicas))

    async def _make(self, replicas: int) -> None:
        for config in buckets(replicas):
            stream = f"KV_{config.bucket}"
            try:
                info = await self._jetstream.stream_info(stream)
            except nats.js.errors.NotFoundError:
                await self._jetstream.create_key_value(config)
                info = await self._jetstream.stream_info(stream)
            # By default any client's Nats-Rollup header may replace the whole bucket.
            if info.config.allow_rollup_hdrs or info.config.num_replicas not in (None, replicas):
                await self._jetstream.update_stream(info.config, allow_rollup_hdrs=False, num_replicas=replicas)

    async def _ask(self, action: str, question: Coroutine[Any, Any, Answer], unanswered: str = "") -> Answer:
        began = time.monotonic()
        asking = asyncio.create_task(question)
        try:
            await asyncio.wait([asking])  # the library may forget a cancellation
            return asking.result()
        except (nats.errors.NoRespondersError, nats.js.errors.NoStreamResponseError, nats.js.errors.NotFoundError):
            raise LinkError(f"cannot {action}: the fleet's buckets are missing", hint=_MISSING) from None
        except nats.js.errors.APIError as error:
            if error.err_code == _WRONG_REVISION:
                raise ConflictError(
                    f"cannot {action}: another client changed the record first", hint="check the record, then try again"
                ) from None
            raise LinkError(f"cannot {action}: {printable(str(error.description or error), 200)}") from None
        except (nats.errors.Error, TimeoutError, OSError) as error:
            at, why = self.complaint
            if isinstance(error, TimeoutError) and at < began:
                raise UnansweredError(f"cannot {action}: the servers did not answer in time", hint=unanswered) from None
            if not self.connected:
                why = "NATS cannot be reached"
            elif not isinstance(error, TimeoutError):
                why = _text(error)
            refused = "permissions violation" in why.lower()  # NATS reports a refusal only as text
            raise LinkError(f"cannot {action}: {printable(why, 200)}", hint=_REFUSED if refused else unanswered) from None
        except (ValueError, TypeError, KeyError, AttributeError) as error:  # the library does not check answers
            why = printable(f"{type(error).__name__}: {error}", 200)
            raise LinkError(f"cannot {action}: invalid answer of the servers: {why}") from None
        finally:
            asking.cancel()


async def _fetched(changes: JetStreamContext.PullSubscription, bucket: Bucket[Any], begin: str, pending: int) -> int:
    messages = await changes.fetch(min(pending, MOST_AT_ONCE), timeout=READ_SECONDS)
    for message in messages:
        data = None if is_deleted(message.headers or {}) else message.data
        at = message.metadata.timestamp.timestamp()
        bucket.take(message.subject.removeprefix(begin), StoredEntry(message.metadata.sequence.stream, data, at))
    return len(messages)


async def _of_several_attempts(ask: Callable[[], Awaitable[Answer]]) -> Answer:
    # Each attempt may meet a hung server.
    for _ in range(ATTEMPTS - 1):
        with suppress(UnansweredError):
            return await ask()
    return await ask()


@asynccontextmanager
async def linked(
    access: Access, name: str, log: logging.Logger, *, patient: bool, cannot: Callable[[str], None] = lambda why: None
) -> AsyncIterator[Store]:
    """Connect, and yield a store. The NATS library reconnects.

    :param patient: wait for unreachable servers, instead of raising `LinkError`
    :param cannot: called with the reason if the first attempt fails
    """
    client = FleetClient()
    store = Store(client)
    closing, waits = False, True

    async def failed(error: Exception) -> None:
        nonlocal waits
        why = printable(_text(error), 300)
        store.complaint = time.monotonic(), why
        if not client.is_connected:
            _hang_up(client)  # the library leaves failed sockets open, which would exhaust the file descriptors
        if waits:
            waits = False
            cannot(f"the fleet's servers cannot be reached: {why}")

    async def lost() -> None:
        if not closing:
            log.warning("the connection to the fleet's servers is lost; continuing without them")

    async def back() -> None:
        log.info("connected to the fleet's servers again")

    options = {"error_cb": failed, "disconnected_cb": lost, "reconnected_cb": back, **access.options()}
    try:
        await _connect(store, access.servers, name, options, patient=patient)
        waits = False
        yield store
    finally:
        closing = True
        try:
            with suppress(nats.errors.Error, TimeoutError, OSError):
                await asyncio.wait_for(client.close(), 1.0)
            await _end_tasks(client)
        finally:
            _hang_up(client)  # closes a socket that the library missed or just opened


async def _connect(store: Store, servers: Sequence[str], name: str, options: Mapping[str, Any], *, patient: bool) -> None:
    while True:
        try:
            connecting = store.client.connect(
                list(servers),
                name=f"mom {name}",
                max_reconnect_attempts=-1 if patient else 1,
                reconnect_time_wait=AGAIN_SECONDS,
                connect_timeout=CONNECT_SECONDS,
                ping_interval=PING_SECONDS,
                max_outstanding_pings=LOST_PINGS,
                inbox_prefix=inbox(name),
                pending_size=0,  # queue nothing while disconnected: it would be outdated
                **options,
            )
            await asyncio.wait_for(connecting, None if patient else 2 * ANSWER_SECONDS)
            return
        except (nats.errors.Error, TimeoutError, OSError) as error:
            if not patient:
                raise LinkError(
                    f"the fleet's servers cannot be reached: {store.complaint[1] or printable(_text(error), 200)}",
                    hint="is nats-server running there, and is this the right key?",
                ) from None
            await asyncio.sleep(AGAIN_SECONDS)


def ask(access: Access, name: str, log: logging.Logger, work: Callable[[Store], Awaitable[Answer]], *, patient: bool = False) -> Answer:
    """Connect, do the work, disconnect, and return the result of `work`.

    :param patient: wait for servers that were just started
    """

    async def connect() -> Answer:
        async with asyncio.timeout(PATIENCE_SECONDS), linked(access, name, log, patient=patient) as store:
            return await work(store)

    try:
        return asyncio.run(connect())
    except TimeoutError:
        raise LinkError(f"the fleet's servers did not answer within {PATIENCE_SECONDS:.0f} s") from None


async def _end_tasks(client: FleetClient) -> None:
    # A client that is closed while it reconnects may start new tasks, which would never end.
    for _ in range(3):
        tasks = (client._reconnection_task, client._reading_task, client._ping_interval_task, client._flusher_task)
        running = {task for task in tasks if task is not None and not task.done()}
        if not running:
            return
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=0.2)


def _text(error: Exception) -> str:
    # The library's timeouts have no message.
    return str(error) or ("no answer in time" if isinstance(error, TimeoutError) else type(error).__name__)


def _hang_up(client: FleetClient) -> None:
    if client._transport is not None:
        client._transport.close()  # type: ignore[no-untyped-call]  # untyped library
