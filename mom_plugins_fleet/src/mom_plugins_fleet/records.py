"""Records in the fleet's buckets: frozen, small, and checked when read. Sizes in KiB."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Annotated, ClassVar, Final, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, ConfigDict, FailFast, Field, StringConstraints, ValidationError

from mom_core import MomError, StrictModel, printable
from mom_kvm import Destination

NAME: Final = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
"""Pattern of host name labels, which are also single tokens of NATS subjects."""

FLEET_POLICY: Final = re.compile(r"^[0-9]{2}_fleet_[a-z0-9_]{1,48}\Z")
"""Names of fleet policies, which never replace a host's own policies."""

CLASSES: Final = "classes.yaml"

LARGEST_RECORD: Final = 768 << 10
"""Limit of a record in bytes. NATS servers take messages of 1 MiB by default."""

MOST_TOLD: Final = 300
"""Maximum number of guests in a report: 570 KiB with the longest names and reasons."""

MOST_MOVES: Final = 2 * MOST_TOLD


def _policy_name(name: str) -> str:
    if name != CLASSES and not FLEET_POLICY.match(name):
        raise ValueError(f"a fleet policy is named NN_fleet_NAME, such as 60_fleet_night, and service classes are named {CLASSES}")
    return name


def whole_key(key: str) -> str:
    """Return a public NKEY. Raise `ValueError` if the key is invalid."""
    if not re.fullmatch(r"U[A-Z2-7]{55}", key):
        raise ValueError("not a public key of a user: such a key has 56 characters and begins with U")
    raw = base64.b32decode(key)
    # An NKEY ends with the CRC-16 (XMODEM) of its other bytes, which the library ignores.
    if binascii.crc_hqx(raw[:-2], 0) != int.from_bytes(raw[-2:], "little"):
        raise ValueError("not a public key of a user: its checksum does not match, so it has a typing error")
    return key


def a_server(address: str) -> str:
    """Return a server address. Raise `ValueError` if invalid, or remote without encryption."""
    name = printable(address)
    try:
        parts = urlsplit(address)
        valid = parts.scheme in ("nats", "tls") and parts.hostname and parts.port != 0 and address.isprintable() and " " not in address
        valid = valid and not (parts.username or parts.password)
    except ValueError:
        valid = False
    if not valid:
        raise ValueError(f"{name.rpartition('@')[2]} is not a server address; write tls://HOST:4222, without a user or password")
    if parts.scheme == "nats" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        raise ValueError(f"{name} would be contacted without encryption; write tls://HOST:4222")
    return address


PublicKey = Annotated[str, AfterValidator(whole_key)]
Name = Annotated[str, StringConstraints(pattern=NAME)]
PolicyName = Annotated[str, AfterValidator(_policy_name)]
LARGEST_KIB: Final = 1 << 50
Amount = Annotated[int, Field(ge=0, le=LARGEST_KIB)]
"""Bounded, because Python refuses to print huge integers."""


class FleetRecord(StrictModel):
    """Record of a bucket. mom ignores unknown keys, which newer versions may write."""

    model_config = ConfigDict(extra="ignore")

    bucket: ClassVar[str] = ""
    """Bucket that stores these records; empty for parts of records."""

    def packed(self) -> bytes:
        """Return JSON. Raise `MomError` if the record is too large."""
        data = self.model_dump_json(exclude_defaults=True).encode()
        if len(data) > LARGEST_RECORD:
            raise MomError(
                f"a record of {len(data)} bytes is too large for the fleet's servers", hint=f"the limit is {LARGEST_RECORD} bytes"
            )
        return data


Kind = TypeVar("Kind", bound=FleetRecord)


def read(kind: type[Kind], data: bytes) -> Kind:
    """Parse a record. Raise `MomError` with the first error."""
    if len(data) > LARGEST_RECORD:
        raise MomError(f"a {kind.__name__} record of {len(data)} bytes is too large")
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        raise MomError(f"invalid {kind.__name__} record: {first_wrong(error)}") from None


def first_wrong(error: ValidationError) -> str:
    """Return the first error and its location."""
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}"


class Member(FleetRecord):
    """Entry of a host that an operator has enrolled."""

    bucket = "mom-roster"

    group: Name
    address: Destination | None = None
    """Address of the host's hypervisor for incoming guests; None if the host accepts no guests."""
    key_issued: Annotated[int, Field(ge=0, lt=1 << 62)] = 0
    """When the host's NATS key was issued, in seconds since the epoch; earlier keys are revoked. 0: no key."""
    cordoned: bool = False
    draining: bool = False
    balance: bool = False
    """Whether guests may move to less full hosts of the group."""
    removed: bool = False
    """Whether an operator has removed the host. The entry stays, so that no server can repeat an earlier one."""


class Group(FleetRecord):
    """Policies of all hosts of a group."""

    bucket = "mom-groups"

    policies: Mapping[PolicyName, str] = Field(default_factory=dict)
    """Mapping from name to text; `classes.yaml` holds service classes."""

    @property
    def classes(self) -> str:
        """Service classes as YAML; if empty, hosts use their own."""
        return self.policies.get(CLASSES, "")


class HostedGuest(FleetRecord):
    """Guest as reported by its host."""

    id: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    name: Annotated[str, StringConstraints(max_length=256)]
    size: Amount | None = None
    maximum: Amount | None = None
    held: Amount | None = None
    """The guest's memory on the host: RAM and swap."""
    working: Amount | None = None
    guarantee: Amount = 0
    stays: str = ""
    """Why the guest cannot move; empty if it can."""


class MoverState(FleetRecord):
    """Mover and its abilities, as in `mom_kvm.MoverAbilities`."""

    name: Annotated[str, StringConstraints(max_length=100)]
    live: bool | None = None
    chooses: bool = False
    within: Annotated[str, StringConstraints(max_length=64)] = ""


class MoveState(StrEnum):
    """Progress of a move."""

    ORDERED = "ordered"  #: the coordinator has ordered it
    ACCEPTED = "accepted"  #: the host starts it; it can no longer be changed
    DONE = "done"  #: the guest has left the host
    FAILED = "failed"  #: the guest is still on the host


@dataclass(frozen=True, slots=True)
class OrderProgress:
    """Progress of a move, identified by `guest` and `order`."""

    guest: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    order: int
    state: MoveState
    error: Annotated[str, StringConstraints(max_length=400)] = ""


class GroupStatus(FleetRecord):
    """State of the group's record on a host."""

    revision: int = 0
    """Revision of the applied record; 0 if none."""
    refused: str = ""
    classes_unused: str = ""


class HostState(FleetRecord):
    """State reported by a host. Unknown values are absent."""

    bucket = "mom-states"

    mode: str
    total: Amount | None = None
    available: Amount | None = None
    promisable: Amount | None = None
    """Memory that the host can promise; None if unknown, or without balloon plugin."""
    reserved: Amount = 0
    holds_promises: bool = False
    """Whether a plugin keeps promises. Then `promisable` must be known."""
    memory_state: str = ""
    problems: Amount = 0
    problem: Annotated[str, StringConstraints(max_length=200)] = ""
    unhealthy: Amount | None = None
    """Guests that lack memory, are swapping, are waiting for memory, or get less than promised."""
    guests: Annotated[tuple[HostedGuest, ...], Field(max_length=MOST_TOLD), FailFast()] = ()
    others: Amount = 0
    others_promised: Amount = 0
    moves: Annotated[tuple[OrderProgress, ...], Field(max_length=MOST_MOVES), FailFast()] = ()
    group: GroupStatus = GroupStatus()
    mover: MoverState | None = None
    """None if no plugin can move the host's guests."""
    metrics_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """HTTPS port of the host's metrics; None without metrics."""

    @cached_property
    def guests_by_id(self) -> Mapping[str, HostedGuest]:
        """Listed guests, keyed by id."""
        return {guest.id: guest for guest in self.guests}


class Move(FleetRecord):
    """Move of a guest away from its host."""

    guest: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    name: Annotated[str, StringConstraints(max_length=256)]
    to: Name
    destination: Destination
    takes: Amount
    guarantee: Amount = 0
    number: int
    """Number of the attempt to move the guest, from 1."""
    balance: bool = False
    """Whether the move is for balance. The host's entry must allow such moves."""
    order: int = 0
    """Revision of the first orders with this move; 0 if none yet."""
    state: MoveState = MoveState.ORDERED
    """Progress reported by the host; `ORDERED` in signed orders."""
    error: str = ""


class FinishedMove(Move):
    """Move that ended within the last day. It is `DONE`, or it was for balance and is `FAILED`."""

    at: Annotated[float, Field(ge=0, lt=1 << 36)]
    """When the host reported the end: seconds since the epoch, by the servers' clock."""


class Orders(FleetRecord):
    """Moves of a host. `epoch` locks out a replaced coordinator."""

    bucket = "mom-orders"

    epoch: int = 0
    moves: Annotated[tuple[Move, ...], Field(max_length=MOST_MOVES), FailFast()] = ()
    entries: Mapping[Name, str] = Field(default_factory=dict)
    """Signed entries of the destinations, which keep a coordinator from choosing other addresses."""
    finished: Annotated[tuple[FinishedMove, ...], Field(max_length=MOST_TOLD), FailFast()] = ()


class AuthorizedKeys(FleetRecord):
    """Authorized coordinators."""

    bucket = "mom-authorized"

    keys: Annotated[tuple[PublicKey, ...], Field(max_length=64), FailFast()] = ()


class Invitation(FleetRecord):
    """Everything that a host needs to join a fleet."""

    host: Name
    credentials: str
    """The host's NATS credentials."""
    operators: Annotated[tuple[PublicKey, ...], Field(max_length=64), FailFast()]
    servers: Annotated[tuple[Annotated[str, AfterValidator(a_server)], ...], Field(max_length=16), FailFast()]
    ca: str = ""
    """CA certificates in PEM; if empty, the system's."""


def listed(guests: Iterable[HostedGuest]) -> tuple[HostedGuest, ...]:
    """Return the guests that a host reports: those that leave first."""
    return tuple(sorted(guests, key=leaving_order)[:MOST_TOLD])


def leaving_order(guest: HostedGuest) -> tuple[bool, int, str]:
    """Return a sort key: immovable guests last, large guests first."""
    return bool(guest.stays), -(guest.maximum or 0), guest.id


def shown(error: Exception) -> str:
    """Return an error as one line."""
    return printable(str(error) if isinstance(error, MomError) else f"{type(error).__name__}: {error}", 400)
