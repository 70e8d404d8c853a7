"""The connection to the fleet's servers, and the few things that are done through it: read a key, set it, hear of it, load a bucket."""

from __future__ import annotations

import asyncio
import base64
import datetime
import logging
import re
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar
from urllib.parse import urlsplit

import nats
import nats.errors
import nats.js.errors
import nkeys  # type: ignore[import-untyped]  # it has no types
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig

from mom_core import MomError, printable, read_secret
from mom_plugins_fleet.addresses import not_safe
from mom_plugins_fleet.bucket_watch import MAKE_SECONDS, BucketWatch, BucketWatcher, WatchBroken, given_up_at_once
from mom_plugins_fleet.client import FleetClient
from mom_plugins_fleet.subjects import INVITED_SECONDS, STATES, StoredEntry, buckets, direct, inbox, is_deleted, subject, taken

ANSWER_SECONDS: Final = 5.0
"""How long an answer of the servers' may take. Within one site that is milliseconds; a replicated bucket's new leader is chosen in 4 s."""

FIRST_SECONDS: Final = 0.5
FIRST_ATTEMPTS: Final = 6
"""A key is asked for so often with so little patience before an answer is waited for. Any server may be the one that is asked, also one
that hangs and that its neighbours have yet to miss: with one of three in that state, all attempts fail once in 2,000 times."""

LOAD_ATTEMPTS: Final = 10
"""How often a bucket is begun to be read. What sends it lives on any of the servers that keep the bucket, and that one may hang."""

LOAD_SECONDS: Final = 50.0
"""How long a bucket may take to be read once it has begun: the states of 10,000 hosts are some 50 MiB."""

CONNECT_SECONDS: Final = 3
"""How long a server may take to let a client in."""

AGAIN_SECONDS: Final = 1
"""How soon a server is tried again."""

PING_SECONDS: Final = 5
LOST_PINGS: Final = 2
"""A connection that answers so many pings too late is lost: a partition is noticed within 15 s."""

WAITING_BYTES: Final = 8 << 20
"""Of changes that were heard and not looked at yet. Further ones are dropped: what stands there is read then."""

_WRONG_REVISION: Final = 10071
"""JetStream's code for "another client was faster"."""

_MISSING: Final = "`mom fleet init` makes them"
_REFUSED: Final = "a host's key is for what is its own: is it the right one?"

_MAY_BE: Final = "it may be done all the same: look before you try again"

_JWT: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")


PATIENCE_SECONDS: Final = 60.0
"""How long a command may take in all: with 10,000 hosts their states are some 100 MiB."""

Answer = TypeVar("Answer")


class LinkError(MomError):
    """The fleet's servers do not answer, or say no."""


class UnansweredError(LinkError):
    """An answer did not come, or did not go on: the next one may."""


class ConflictError(LinkError):
    """Another client has changed it since it was read. Nothing was changed."""


@dataclass(frozen=True, slots=True)
class NatsCredentials:
    """The NKEY seed with which a client connects, and what lets it into an account."""

    seed: str
    jwt: str


@dataclass(frozen=True, slots=True)
class Access:
    """Where the servers are, and how they are persuaded: `ca` checks them, or the SHA-256 of their `certificate`; `key` is the client's
    credentials, or the file with them."""

    servers: Sequence[str]
    ca: Path | None = None
    key: Path | NatsCredentials | None = None
    certificate: bytes = b""

    def __post_init__(self) -> None:
        for server in self.servers:
            why = not_safe(server)
            if why:
                raise MomError(why, hint="write tls://HOST:4222")


class _Loaded(dict[str, StoredEntry]):
    """A `BucketWatcher` that keeps what it is told."""

    def begins(self) -> None:
        self.clear()

    def told(self, key: str, kept: StoredEntry, *, live: bool) -> None:
        self[key] = kept

    def complete(self) -> None:
        """Nothing was there before."""


class Store:
    """The fleet's buckets through a connection. All calls are bounded in time and raise `LinkError`."""

    def __init__(self, client: FleetClient) -> None:
        self.client = client
        self.said: tuple[float, str] = (float("-inf"), "")
        """When the servers have complained last, and about what, such as a lack of permissions: they answer nothing to that request."""
        self.lost_at = 0.0
        """When the connection was lost last, in seconds since the epoch."""
        self._jetstream = client.jetstream(timeout=ANSWER_SECONDS)

    @property
    def connected(self) -> bool:
        """True while there is a connection."""
        return self.client.is_connected

    @property
    def closed(self) -> bool:
        """True when there will be no connection any more: the servers have refused this key."""
        return self.client.is_closed

    async def read(self, bucket: str, key: str) -> StoredEntry:
        """The entry at a key now. The revision is 0 where nothing ever stood."""
        answer = await self._asked(f"read {bucket} {key}", self._answer(direct(bucket, key)))
        headers = answer.headers or {}
        if headers.get("Status") == "404":
            return StoredEntry(0, None)
        try:
            at = datetime.datetime.fromisoformat(headers["Nats-Time-Stamp"]).timestamp()
            return StoredEntry(int(headers["Nats-Sequence"]), None if is_deleted(headers) else answer.data, at)
        except (KeyError, ValueError):
            raise LinkError(f"the servers' answer for {bucket} {key} makes no sense: {printable(str(headers), 200)}") from None

    async def _answer(self, question: str) -> Msg:
        for _ in range(FIRST_ATTEMPTS):
            said = self.said
            with suppress(TimeoutError):
                return await given_up_at_once(self.client.request(question, b"", timeout=FIRST_SECONDS))
            if self.said != said:
                break  # it was refused, and would be again
        return await given_up_at_once(self.client.request(question, b"", timeout=ANSWER_SECONDS))

    async def put(self, bucket: str, key: str, data: bytes, revision: int | None = None) -> int:
        """Set a key, if it still has that revision (0: nothing stands there; None: whatever it has), and return the new one.

        Raises `ConflictError`, and a `LinkError` after which it may or may not have been set.
        """
        return await self._asked(f"set {bucket} {key}", self._publish(subject(bucket, key), data, {}, revision), _MAY_BE)

    async def remove(self, bucket: str, key: str, revision: int | None = None) -> None:
        """Let nothing stand at a key, if it still has that revision (None: whatever it has). Raises as `put` does."""
        removed = self._publish(subject(bucket, key), b"", {"KV-Operation": "DEL"}, revision)
        await self._asked(f"remove {bucket} {key}", removed, _MAY_BE)

    async def _publish(self, name: str, data: bytes, headers: dict[str, str], revision: int | None) -> int:
        if revision is not None:
            headers["Nats-Expected-Last-Subject-Sequence"] = str(revision)
        return (await given_up_at_once(self._jetstream.publish(name, data, timeout=ANSWER_SECONDS, headers=headers or None))).seq

    async def clock(self) -> float:
        """The servers' time, in seconds since the epoch."""
        return await _of_several_attempts(self._clock)

    async def _clock(self) -> float:
        # They tell it of a consumer that they make; this one goes away by itself. Like a load's, it may be on a server that hangs.
        unused = ConsumerConfig(ack_policy=AckPolicy.NONE, inactive_threshold=1.0, mem_storage=True, num_replicas=1)
        making = self._jetstream.add_consumer(f"KV_{STATES}", unused, timeout=MAKE_SECONDS)
        return (await self._asked("ask for the time", given_up_at_once(making))).created.timestamp()

    async def hear(self, bucket: str, key: str, changed: Callable[[], None]) -> None:
        """Call `changed` for each change of this key from now on."""

        async def take(_message: Msg) -> None:
            changed()

        listening = self.client.subscribe(subject(bucket, key), cb=take, pending_bytes_limit=WAITING_BYTES)
        await self._asked(f"listen to {bucket}", listening)

    async def watch(self, bucket: str, watcher: BucketWatcher, whole: Callable[[], None] = lambda: None) -> NoReturn:
        """Tell the watcher what stands at all keys of a bucket, and of each change, until a `LinkError` says that this has ended."""
        await self._asked(f"watch {bucket}", BucketWatch(self.client, self._jetstream, bucket, watcher, whole).run())

    async def load(self, bucket: str) -> Mapping[str, StoredEntry]:
        """All keys of a bucket and what stands there."""
        return await _of_several_attempts(lambda: self._load(bucket))

    async def _load(self, bucket: str) -> Mapping[str, StoredEntry]:
        found, whole = _Loaded(), asyncio.Event()
        waiting, watching = asyncio.create_task(whole.wait()), asyncio.create_task(self.watch(bucket, found, whole.set))
        try:
            await asyncio.wait([waiting, watching], timeout=LOAD_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if watching.done():
                watching.result()
            if not whole.is_set():
                raise LinkError(f"cannot load {bucket}: the servers did not send all of it in {LOAD_SECONDS:g} s")
            return {key: kept for key, kept in found.items() if kept.data is not None}
        finally:
            for task in (waiting, watching):
                task.cancel()
            await asyncio.gather(waiting, watching, return_exceptions=True)

    async def request(self, name: str, data: bytes, seconds: float) -> bytes:
        """The answer on a subject. Raises `LinkError`."""
        return (await self._asked(f"ask {name}", self.client.request(name, data, timeout=seconds))).data

    async def lay_out(self, bucket: str, key: str, data: bytes) -> None:
        """Set a key so that the first client that takes it gets it, and no other."""
        await self._asked(f"set {bucket} {key}", self._lay_out(f"KV_{bucket}", subject(bucket, key), key, data), _MAY_BE)

    async def _lay_out(self, stream: str, name: str, key: str, data: bytes) -> None:
        with suppress(nats.js.errors.NotFoundError):
            await self._jetstream.delete_consumer(stream, key)
        await self._publish(name, data, {}, None)
        once = ConsumerConfig(durable_name=key, filter_subject=name, ack_policy=AckPolicy.NONE, inactive_threshold=INVITED_SECONDS)
        await self._jetstream.add_consumer(stream, once)

    async def take(self, bucket: str, key: str) -> bytes | None:
        """What was laid out at a key, once; None: it was taken, or is over."""
        try:
            asked = self.client.request(taken(bucket, key), b'{"batch":1,"no_wait":true}', timeout=ANSWER_SECONDS, old_style=True)
            answer = await self._asked(f"take {bucket} {key}", asked)
        except UnansweredError:  # where all is over, there is nobody to answer
            return None
        return None if (answer.headers or {}).get("Status") else answer.data

    async def make(self, replicas: int) -> None:
        """Make all buckets that are missing, and let none be emptied by a client that may write only one key of it."""
        await self._asked("make the buckets", self._make(replicas))

    async def _make(self, replicas: int) -> None:
        for config in buckets(replicas):
            stream = f"KV_{config.bucket}"
            try:
                found = await self._jetstream.stream_info(stream)
            except nats.js.errors.NotFoundError:
                await self._jetstream.create_key_value(config)
                found = await self._jetstream.stream_info(stream)
            if found.config.num_replicas not in (None, replicas):
                kept = found.config.num_replicas
                raise LinkError(f"the bucket {config.bucket} is kept on {kept} servers already", hint=f"say --replicas {kept}")
            # The library lets a header of a message replace all that a bucket holds, whatever client sends it.
            if found.config.allow_rollup_hdrs:
                await self._jetstream.update_stream(found.config, allow_rollup_hdrs=False)

    async def _asked(self, what: str, answer: Coroutine[Any, Any, Answer], unanswered: str = "") -> Answer:
        """The answer; what the library raises becomes a `LinkError`.

        :param unanswered: the hint where no answer came
        """
        began = time.monotonic()
        try:
            return await answer
        except (nats.errors.NoRespondersError, nats.js.errors.NoStreamResponseError, nats.js.errors.NotFoundError):
            raise LinkError(f"cannot {what}: the fleet's buckets are not there", hint=_MISSING) from None
        except nats.js.errors.APIError as error:
            if error.err_code == _WRONG_REVISION:
                raise ConflictError(f"cannot {what}: another client was faster", hint="look again") from None
            raise LinkError(f"cannot {what}: {printable(str(error.description or error), 200)}") from None
        except WatchBroken as error:
            raise UnansweredError(f"cannot {what} any more: {error.message}") from None
        except (nats.errors.Error, TimeoutError, OSError) as error:
            at, why = self.said
            if isinstance(error, TimeoutError) and at < began:
                raise UnansweredError(f"cannot {what}: the servers did not answer in time", hint=unanswered) from None
            if self.lost_at and not self.connected:
                why = f"NATS is not reachable since {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(self.lost_at))}"
            elif not isinstance(error, TimeoutError):
                why = _why(error)
            elif "permissions violation" in why.lower():
                raise LinkError(f"cannot {what}: the fleet's servers do not let this key do that", hint=_REFUSED) from None
            raise LinkError(f"cannot {what}: {printable(why, 200)}", hint=unanswered) from None
        except (ValueError, TypeError, KeyError, AttributeError) as error:  # the library believes what it is answered
            why = printable(f"{type(error).__name__}: {error}", 200)
            raise LinkError(f"cannot {what}: the servers' answer makes no sense: {why}") from None


async def _of_several_attempts(what: Callable[[], Awaitable[Answer]]) -> Answer:
    """What is answered at last: each attempt may come to a server that hangs. Raises `LinkError`."""
    for _ in range(LOAD_ATTEMPTS - 1):
        with suppress(UnansweredError):
            return await what()
    return await what()


@asynccontextmanager
async def linked(
    access: Access, name: str, log: logging.Logger, *, patient: bool, cannot: Callable[[str], None] = lambda why: None
) -> AsyncIterator[Store]:
    """A store, as long as the connection is wanted. It connects again by itself.

    :param name: the client's name, which its inbox has
    :param patient: wait for servers that are not there, instead of raising `LinkError`
    :param cannot: called with the first reason why there is no connection yet; of several servers each has its own
    """
    client = FleetClient(_tls(access), access.certificate)
    store = Store(client)

    wanted, waits = True, True

    async def failed(error: Exception) -> None:
        nonlocal waits
        why = printable(_why(error), 300)
        store.said = time.monotonic(), why
        log.debug("the fleet's servers: %s", why)
        if not client.is_connected:
            # What fails while the library connects again it leaves open: a server that hangs would take all files that mom may open.
            _hang_up(client)
        if waits:
            waits = False
            cannot(f"the fleet's servers cannot be reached: {why}")

    async def lost() -> None:
        store.lost_at = time.time()
        if wanted:
            log.warning("the connection to the fleet's servers is lost; going on alone")

    async def back() -> None:
        log.info("connected to the fleet's servers again")

    options = {"error_cb": failed, "disconnected_cb": lost, "reconnected_cb": back, **_lets_in(access.key)}
    try:
        await _connect(store, access.servers, name, options, patient=patient)
        waits = False
        yield store
    finally:
        wanted = False
        try:
            with suppress(nats.errors.Error, TimeoutError, OSError):
                await asyncio.wait_for(client.close(), 1.0)
            await _end_tasks(client)
        finally:
            _hang_up(client)  # what the library has not closed in time, or connected just then


async def _connect(store: Store, servers: Sequence[str], name: str, options: Mapping[str, Any], *, patient: bool) -> None:
    """Connect, as `linked` says.

    :param options: credentials, and callbacks, by the library's names
    """
    while True:
        try:
            connecting = store.client.connect(
                list(servers),
                name=f"mom {name}",
                allow_reconnect=True,
                max_reconnect_attempts=-1 if patient else 1,
                reconnect_time_wait=AGAIN_SECONDS,
                connect_timeout=CONNECT_SECONDS,
                ping_interval=PING_SECONDS,
                max_outstanding_pings=LOST_PINGS,
                inbox_prefix=inbox(name),
                pending_size=0,  # what cannot be sent now is not sent later: it would be old by then
                **options,
            )
            await asyncio.wait_for(connecting, None if patient else 2 * ANSWER_SECONDS)
            return
        except (nats.errors.Error, TimeoutError, OSError, ssl.SSLError) as error:
            if not patient:
                raise LinkError(
                    f"the fleet's servers cannot be reached: {store.said[1] or printable(_why(error), 200)}",
                    hint="is nats-server running there, and is this the right key?",
                ) from None
            await asyncio.sleep(AGAIN_SECONDS)


def ask(access: Access, name: str, log: logging.Logger, what: Callable[[Store], Awaitable[Answer]], *, patient: bool = False) -> Answer:
    """Connect, do that, and leave. Raises `MomError` when the servers do not answer in time.

    :param patient: wait for servers that have only just been started
    """

    async def asked() -> Answer:
        async with asyncio.timeout(PATIENCE_SECONDS), linked(access, name, log, patient=patient) as store:
            return await what(store)

    try:
        return asyncio.run(asked())
    except TimeoutError:
        raise LinkError(f"the fleet's servers did not answer within {PATIENCE_SECONDS:.0f} s") from None


async def _end_tasks(client: FleetClient) -> None:
    """End what the library still does: one that connects again when it is closed may miss that, and go on with tasks begun after it."""
    for _ in range(3):
        tasks = (client._reconnection_task, client._reading_task, client._ping_interval_task, client._flusher_task)
        going_on = {task for task in tasks if task is not None and not task.done()}
        if not going_on:
            return
        for task in going_on:
            task.cancel()
        await asyncio.wait(going_on, timeout=0.2)


def _why(error: Exception) -> str:
    """In words: the library's own errors of time have none."""
    return str(error) or ("they did not answer in time" if isinstance(error, TimeoutError) else type(error).__name__)


def _hang_up(client: FleetClient) -> None:
    if client._transport is not None:
        client._transport.close()  # type: ignore[no-untyped-call]  # it has no types


def _tls(access: Access) -> ssl.SSLContext | None:
    if not any(urlsplit(server).scheme == "tls" for server in access.servers):
        return None
    try:
        context = ssl.create_default_context(cafile=None if access.ca is None else str(access.ca))
    except OSError as error:
        raise MomError(f"the certificates {access.ca} cannot be read: {error.strerror}", hint="name a file in PEM") from None
    if access.certificate:  # `FleetClient` looks at it
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _lets_in(key: Path | NatsCredentials | None) -> dict[str, Any]:
    """The credentials as the library needs them. A file is read again with each connection: a new key needs no new start."""
    first = credentials_of(key)
    if first is None:
        return {}

    def signed(nonce: str) -> bytes:
        found = credentials_of(key) or first
        return base64.b64encode(nkeys.from_seed(bytearray(found.seed.encode())).sign(nonce.encode()))

    return {"user_jwt_cb": lambda: bytearray((credentials_of(key) or first).jwt.encode()), "signature_cb": signed}


def credentials_of(key: Path | NatsCredentials | None) -> NatsCredentials | None:
    """The credentials in a file with a key; None where it has none, as for servers that ask for no keys. Raises `MomError`."""
    if key is None or isinstance(key, NatsCredentials):
        return key
    seeds, jwt = _seeds(key)
    return NatsCredentials(seeds[-1], jwt) if jwt else None


def signing_seed(key: Path) -> str | None:
    """The seed with which an operator or a coordinator signs. None for one that connects, such as a host's: servers
    choose what it signs. Raises `MomError`."""
    seeds, jwt = _seeds(key)
    return None if jwt and len(seeds) == 1 else seeds[0]


def _seeds(key: Path) -> tuple[list[str], str]:
    """Of a file with a key: the seed that signs, the one that connects, and what lets that into an account; a host's has no first one, and
    that of an operator whose servers ask for no keys nothing but that."""
    make = "`mom fleet key` and `mom fleet enroll` make one"
    seeds = read_secret(key, "the key", make).decode("ascii", "replace").split()
    jwt = seeds.pop() if seeds and _JWT.fullmatch(seeds[-1]) else ""
    if not 0 < len(seeds) <= (2 if jwt else 1) or not all(one.startswith("SU") and len(one) <= 128 and _makes_a_key(one) for one in seeds):
        raise MomError(f"{key} holds no NKEY seed of a user", hint=make)
    return seeds, jwt


def _makes_a_key(seed: str) -> bool:
    """True for a seed that the library, which raises errors of its own while it connects, can use."""
    try:
        nkeys.from_seed(bytearray(seed.encode()))
    except (nkeys.NkeysError, ValueError):
        return False
    return True
