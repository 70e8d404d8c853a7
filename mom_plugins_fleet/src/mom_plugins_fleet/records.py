"""Records in the buckets of the fleet: frozen, checked when read, and small. Sizes in KiB."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, ConfigDict, FailFast, Field, StringConstraints, ValidationError

from mom_core import MomError, StrictModel, printable
from mom_kvm import Destination

NAME: Final = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
"""Valid names of hosts and groups: labels of host names, which are also single words of NATS subjects."""

FLEET_POLICY: Final = re.compile(r"^[0-9]{2}_fleet_[a-z0-9_]{1,48}\Z")
"""Names of the fleet's policies: they never replace a host's own policies."""

CLASSES: Final = "classes.yaml"
"""Name of a group's service classes among its policies, and of its hosts' file."""

LARGEST_RECORD: Final = 768 << 10
"""Bytes. NATS servers take messages of 1 MiB by default."""

MOST_TOLD: Final = 400
"""Guests that a host lists. With the longest names in the widest characters, and the longest reasons, these are 760 KiB."""

MOST_MOVES: Final = 2 * MOST_TOLD
"""Moves in a host's orders: those of its listed guests, and of guests on their way."""

MOST_REMOVED: Final = 1000
"""Newest removed hosts to remember: each host reads this record every half minute."""

MOST_EARLIER: Final = 8
"""Earlier accounts of a host to remember, in case new keys could not end them."""


def _policy_name(name: str) -> str:
    if name != CLASSES and not FLEET_POLICY.match(name):
        raise ValueError(f"a policy of the fleet is called NN_fleet_NAME, such as 60_fleet_night, and service classes {CLASSES}")
    return name


def _a_host(name: str) -> str:
    return Destination("qemu", "/system", host=name).host  # which knows what a host can be called


PublicKey = Annotated[str, StringConstraints(pattern=r"^U[A-Z2-7]{55}$")]
"""A user's public NKEY."""


def whole_key(key: str) -> str:
    """Return a user's public NKEY as a person types it. Raises `ValueError` for a typing error."""
    if not re.fullmatch(r"U[A-Z2-7]{55}", key):
        raise ValueError("no public key of a user: it has 56 characters and begins with U")
    raw = base64.b32decode(key)
    # An NKEY ends with the CRC-16 (XMODEM) of all before it; the library checks it nowhere.
    if binascii.crc_hqx(raw[:-2], 0) != int.from_bytes(raw[-2:], "little"):
        raise ValueError("no public key of a user: it has a typing error, as it does not fit its own checksum")
    return key


def a_server(address: str) -> str:
    """Return the address of a server. Raises `ValueError` for an invalid or unencrypted one; this host needs no encryption."""
    name = printable(address)
    try:
        parts = urlsplit(address)
        valid = parts.scheme in ("nats", "tls") and parts.hostname and parts.port != 0 and address.isprintable() and " " not in address
    except ValueError:
        valid = False
    if not valid:
        raise ValueError(f"{name} is no address of a server; write tls://HOST:4222")
    if parts.username or parts.password:
        raise ValueError("an address of a server has no user and password in it: mom uses a key")
    if parts.scheme == "nats" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        raise ValueError(f"{name} would be spoken to in the clear; write tls://HOST:4222")
    return address


HostName = Annotated[str, StringConstraints(pattern=NAME)]
GroupName = Annotated[str, StringConstraints(pattern=NAME)]
PolicyName = Annotated[str, AfterValidator(_policy_name)]
LARGEST_KIB: Final = 1 << 50
Kib = Annotated[int, Field(ge=0, le=LARGEST_KIB)]
Count = Annotated[int, Field(ge=0, le=LARGEST_KIB)]
"""Bounded, because Python prints no sum of thousands of digits."""


class FleetRecord(StrictModel):
    """Frozen, strict record of a bucket. It ignores unknown keys of newer moms, and reads a sequence up to its first error."""

    model_config = ConfigDict(extra="ignore")

    def packed(self) -> bytes:
        """Return the record as JSON. Raises `MomError` if it is too large for a message."""
        data = self.model_dump_json(exclude_defaults=True).encode()
        if len(data) > LARGEST_RECORD:
            raise MomError(f"a record of {len(data)} bytes is more than the fleet's servers take", hint=f"at most {LARGEST_RECORD}")
        return data


Kind = TypeVar("Kind", bound=FleetRecord)


def read(kind: type[Kind], data: bytes) -> Kind:
    """Return the record in the data. Raises `MomError` with its first error."""
    if len(data) > LARGEST_RECORD:
        raise MomError(f"a {kind.__name__} of {len(data)} bytes is too large")
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        raise MomError(f"a {kind.__name__} cannot be read: {first_wrong(error)}") from None


def first_wrong(error: ValidationError) -> str:
    """Return the first error in a record, and its place."""
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}"


class Member(FleetRecord):
    """Host as the operator enrolled it."""

    group: GroupName
    address: Destination | None = None
    """Where other hosts reach this one's hypervisor, to move guests here; None: nothing can be moved here."""
    account: str = ""
    """The host's account in the servers; empty where they ask for no keys."""
    earlier_accounts: Annotated[tuple[str, ...], Field(max_length=MOST_EARLIER), FailFast()] = ()
    """Accounts before, which a failure has not ended yet."""
    metrics_host: Annotated[str, AfterValidator(_a_host)] | None = None
    """The name or address by which Prometheus reaches this host; None: the one in `address`."""
    cordoned: bool = False
    """Nothing is moved here."""
    draining: bool = False
    """All guests are to leave."""
    balance: bool = False
    """Guests may leave for hosts of the group that are less full."""
    memory: Kib | None = None
    """Its memory according to the operator: the limit for arriving guests. None: its own report counts."""
    by: str = ""
    """Who changed this last."""

    @property
    def accounts(self) -> tuple[str, ...]:
        """Return all accounts that may admit it."""
        return tuple(filter(None, (*self.earlier_accounts, self.account)))


class Group(FleetRecord):
    """Policies of all hosts of a group."""

    policies: Mapping[PolicyName, str] = Field(default_factory=dict)
    """Texts of policies by name, and service classes as `classes.yaml`."""
    by: str = ""
    """Who changed this last."""

    @property
    def classes(self) -> str:
        """Service classes, as YAML; empty: the host's own."""
        return self.policies.get(CLASSES, "")


class HostedGuest(FleetRecord):
    """Guest, as its host sees it."""

    id: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    name: Annotated[str, StringConstraints(max_length=256)]
    size: Kib | None = None
    maximum: Kib | None = None
    held: Kib | None = None
    """Memory that the host holds of it, in RAM and swap."""
    working: Kib | None = None
    """Its last known working set."""
    guarantee: Kib = 0
    stays: str = ""
    """Why it cannot be moved; empty: it can."""


class MoverState(FleetRecord):
    """Mover of a host and its abilities, as `mom_kvm.MoverAbilities` has it."""

    name: Annotated[str, StringConstraints(max_length=100)]
    live: bool | None = None
    chooses: bool = False
    within: Annotated[str, StringConstraints(max_length=64)] = ""


class HostState(FleetRecord):
    """State of a host according to its own report. Unknown values are absent."""

    mode: str
    total: Kib | None = None
    available: Kib | None = None
    promisable: Kib | None = None
    """Memory that it can promise to guests; None: unknown, or no plugin balloon."""
    reserved: Kib = 0
    """Available memory that the plugin balloon reserves for launches."""
    holds_promises: bool = False
    """Whether a plugin keeps promises: no guest comes while `promisable` is unknown then."""
    memory_state: str = ""
    problems: Count = 0
    problem: Annotated[str, StringConstraints(max_length=200)] = ""
    """One problem, an error if there is one."""
    unhealthy: Count | None = None
    """Guests that lack memory, swap, wait for memory, or have less than promised."""
    guests: Annotated[tuple[HostedGuest, ...], Field(max_length=MOST_TOLD), FailFast()] = ()
    """Guests that the fleet has to know one by one."""
    others: Count = 0
    """Number of other guests."""
    others_promised: Kib = 0
    """Memory promised to the others."""
    group_revision: int = 0
    """Revision of the group's record in force; 0: none."""
    refused: str = ""
    """Why the group's newest record is not in force."""
    classes_unused: str = ""
    """Why the group's classes are not in force, though its record is."""
    mover: MoverState | None = None
    """The mover of its guests; None: nothing moves them."""
    metrics_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """TCP port of its metrics for other machines, by HTTPS; None: no metrics."""
    given_back: Kib | None = None
    """Average memory given back since midnight, UTC."""
    waited: Annotated[float, Field(ge=0, le=1e12)] | None = None
    """Largest number of seconds that guests have waited because of mom since then."""
    promise_broken: Annotated[float, Field(ge=0, le=1e12)] | None = None
    """Seconds of broken promises to guests since then."""
    killed: Count | None = None
    """Programs that guests' kernels have killed since then."""


class MoveState(StrEnum):
    """Progress of a move."""

    ORDERED = "ordered"  #: the coordinator wants it
    ACCEPTED = "accepted"  #: the host is about to do it, and it cannot be changed any more
    DONE = "done"  #: the guest is not here any more
    FAILED = "failed"  #: it is still here


class Move(FleetRecord):
    """Move of a guest away from its host."""

    guest: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    name: Annotated[str, StringConstraints(max_length=256)]
    to: HostName
    destination: Destination
    """Where the hypervisor moves it to."""
    takes: Kib
    """Memory that it will take there."""
    guarantee: Kib = 0
    """Memory that it is promised there."""
    number: int
    """Which attempt this is, from 1."""
    balance: bool = False
    """Whether it is for balance, which an operator must allow on the host."""
    order: int = 0
    """Revision of the first orders with this move; 0: none yet. A guest may move again later."""
    state: MoveState = MoveState.ORDERED
    """Progress that its host reports; always ordered in the orders themselves."""
    error: str = ""


class Arrival(FleetRecord):
    """Guest that was moved, as the coordinator notes it: no host's report can change it."""

    guest: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    to: HostName
    takes: Kib
    """0: it was to be moved for balance, and was not."""
    at: Annotated[float, Field(ge=0, lt=1 << 36)]
    """When it arrived, or failed to move, in seconds since the epoch, by a coordinator's clock."""


class Orders(FleetRecord):
    """Moves of a host. Only coordinators write and sign them, by compare and set. `epoch` keeps out a replaced coordinator."""

    epoch: int = 0
    moves: Annotated[tuple[Move, ...], Field(max_length=MOST_MOVES), FailFast()] = ()
    entries: Mapping[HostName, str] = Field(default_factory=dict)
    """Signed entries of the destinations: a coordinator cannot name another address."""
    arrivals: Annotated[tuple[Arrival, ...], Field(max_length=MOST_TOLD), FailFast()] = ()
    """Guests that left in the last day, for the coordinator's own use."""

    def of(self, guest: str) -> Move | None:
        """Return the move of this guest."""
        return next((move for move in self.moves if move.guest == guest), None)


@dataclass(frozen=True, slots=True)
class OrderProgress:
    """Progress of a move: the guest, and the revision of the orders that it came with."""

    guest: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    order: int
    state: MoveState
    error: Annotated[str, StringConstraints(max_length=400)] = ""


class Progress(FleetRecord):
    """Progress of a host with its orders. It directs no other host."""

    moves: Annotated[tuple[OrderProgress, ...], Field(max_length=MOST_MOVES), FailFast()] = ()


class AuthorizedKeys(FleetRecord):
    """Coordinators whose orders hosts follow, and removed hosts, to which they send no guests."""

    keys: Annotated[tuple[PublicKey, ...], Field(max_length=64), FailFast()] = ()
    """The public keys of coordinators that an operator has authorized."""
    removed: Annotated[Mapping[HostName, int], Field(max_length=MOST_REMOVED)] = Field(default_factory=dict)
    """Removed hosts, with the last revision of their entry: otherwise the signed entry would count for ever."""
    by: str = ""
    """Who changed this last."""


class Lease(FleetRecord):
    """Lease of the working coordinator."""

    holder: str


def lease_holder(data: bytes) -> str:
    """Return the holder of a packed lease, for people."""
    try:
        return read(Lease, data).holder
    except MomError:
        return "a coordinator whose lease cannot be read"


def shown(error: Exception) -> str:
    """Return an error in one line, for a record or a log."""
    return printable(str(error) if isinstance(error, MomError) else f"{type(error).__name__}: {error}", 400)
