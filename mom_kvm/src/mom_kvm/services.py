"""Services that plugins offer to other plugins and to commands (`mom_services`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Final, Protocol

from mom_core import Decision, Entity, Guest, GuestPattern, MomError, PluginContext, Report, Source, Value, format_kib, printable

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

# --- guests: admission, promises, moves, platforms --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Admission:
    """Whether `count` new guests fit, and why. Sizes in KiB.

    `fits` is the number that fits, capped at 10,000. `donors` would give up memory that they do not need, or parts of their guarantees.
    """

    @dataclass(frozen=True, slots=True)
    class Donor:
        """Guest that would have to give up memory. If `promise`, the memory is a part of its guarantee."""

        guest: Entity
        kib: int
        promise: bool = False

    admitted: bool
    count: int
    fits: int
    memory_kib: int
    sla_class: str
    guarantee_kib: int
    reasons: Sequence[str] = ()
    donors: Sequence[Admission.Donor] = ()


class Admissions(Protocol):
    """Service that decides whether new guests fit. Thread-safe."""

    def admission(self, memory_kib: int, sla_class: str = "", count: int = 1) -> Admission:
        """Return whether `count` more guests fit without breaking a promise.

        :raises MomError: the class is unknown, a number is invalid, or mom has not looked at the host lately
        """


class ClassFiles(Protocol):
    """Reader of files with service classes. Thread-safe; does not wait."""

    def why_unused(self, path: Path) -> str:
        """Return why the service classes in a file are not in force; empty if they are."""


class Promises:
    """Promises to a guest in a snapshot; this base class knows none.

    mom calls both methods for each guest in each cycle, from any thread. Return without waiting.
    """

    NOTHING: ClassVar[Mapping[str, Value]] = MappingProxyType({"mem_guarantee": "0KiB"})
    """Property of a guest whose definition contains no promise. Without this property, a guest's promise counts as unknown."""

    def guaranteed_kib(self, guest: Guest) -> float | None:
        """Return the guarantee in KiB: mom does not shrink the guest below it. None without a guarantee, or if it is unknown."""
        return None

    def promised_kib(self, guest: Guest) -> float | None:
        """Return the largest promise to the guest in KiB, even if the host cannot keep it. None without a promise, or if unknown."""
        return None


@dataclass(frozen=True, slots=True)
class MoverAbilities:
    """Abilities of a mover.

    :param live: whether guests run during the move; None if unknown
    :param chooses: whether the mover accepts `Destination.ANYWHERE`
    :param within: group of hosts between which guests move, such as a cluster's name; empty for all hosts
    """

    live: bool | None = None
    chooses: bool = False
    within: str = ""


class MovePreparation(Protocol):
    """Service that prepares a guest for a move, for example by reclaiming unused memory.

    mom abandons a call half a minute after `seconds`, and moves the guest in any case.
    """

    def prepare(self, guest: Entity, seconds: float) -> str:
        """Prepare a guest within `seconds`. Return a text that describes the result. Raise `MomError` on failure."""


class GuestMoves(Protocol):
    """Service that moves guests to other hosts. Thread-safe; does not wait."""

    @property
    def control(self) -> str:
        """Name of the control that moves a guest. Its value is a `Destination` as a string."""

    def mover(self) -> tuple[str, MoverAbilities] | None:
        """Return the first mover's name and abilities; None without a mover, or if it is not known yet."""

    def why_stays(self, guest: Guest) -> str:
        """Return why the guest would stay if the host were drained; empty if it would be moved."""

    def is_moving(self, guest: Guest) -> bool | None:
        """Return whether the guest is moving, according to its fields; None if unknown."""

    def why_failed(self, guest: Guest) -> str:
        """Return why the guest's last move failed, according to its fields; empty if it did not, or if unknown."""


class HostDrain(Protocol):
    """Service that knows the moves ordered by a fleet, for a drain or balance. Thread-safe; does not wait."""

    def is_ordered(self, decision: Decision) -> bool:
        """Return whether the fleet has ordered exactly this move."""


_MOST_PROPERTIES: Final = 32
"""Maximum number of a guest's properties, because the guest's owner may influence them."""

_LONGEST_TEXT: Final = 256
"""Maximum length of a property. Names of OpenStack and Kubernetes have up to 255 characters."""

RESERVED: Final = frozenset(
    {"name", "uuid", "state", "pid", "cgroups", "pinned", "sized_by", "tags", "interval", "sla_class", "mem_guarantee"}
)
"""Properties that platforms cannot set: hypervisors set them, or they contain promises."""

_OTHERS: Final = RESERVED - {"tags"}


@dataclass(frozen=True, slots=True)
class GuestDescription:
    """Description of a guest: libvirt's domain XML (`domain`), or the options of a Proxmox VE definition (`options`). Read-only."""

    UNREAD: ClassVar[str] = "the guest's description has not been read yet"
    """Reason in `Guest.blocked`, under `*`, while the guest's guarantee is unknown."""

    domain: Element | None = None
    options: Mapping[str, str] = field(default_factory=dict)


class GuestPlatform(Protocol):
    """Platform, such as OpenStack, that writes into guests' descriptions."""

    def properties(self, description: GuestDescription) -> Mapping[str, str]:
        """Return properties such as `{"flavor": "m1.small"}`; none for a guest of another platform. Return without waiting.

        Operators match properties in the section `guests` (`"flavor=m1.*"`), and policies read them (`(guest.Prop "flavor" "")`). A name
        must begin with a letter, and contain only letters, digits, `_`, `.` and `-`. mom drops other and reserved names.
        """


class PlatformProperties:
    """Properties from all enabled platforms; the first platform in YAML order wins. Thread-safe."""

    def __init__(self, context: PluginContext) -> None:
        self._context = context
        self._told: set[str] = set()
        self._asked: Sequence[GuestPlatform] = ()

    def have_changed(self) -> bool:
        """Return whether the list of platforms has changed since the last call. Call this from one thread only."""
        before, self._asked = self._asked, self._context.services(GuestPlatform)
        return self._asked != before

    @staticmethod
    def listed(guest: Guest) -> dict[str, str | list[str]]:
        """Return a guest's properties from its platform, and its tags."""
        texts: dict[str, str | list[str]] = {}
        for name, value in guest.properties.items():
            if name in _OTHERS:
                continue
            if isinstance(value, str):
                texts[name] = value
            elif isinstance(value, list | tuple):
                texts[name] = [text for text in value if isinstance(text, str)]
        return texts

    def of(self, description: GuestDescription) -> dict[str, str]:
        """Return a guest's properties, keyed by name. Errors of platforms are only logged."""
        texts: dict[str, str] = {}
        for platform in self._context.services(GuestPlatform):
            try:
                for name, text in platform.properties(description).items():
                    if self._is_property(name, text) and len(texts) < _MOST_PROPERTIES:
                        texts.setdefault(name, text.strip()[:_LONGEST_TEXT].encode("utf-8", "replace").decode())
            except Exception as error:  # noqa: BLE001  # another plugin's code with untrusted input
                self._tell(f"a platform cannot read a guest's description: {type(error).__name__}: {printable(str(error), 200)}")
        return texts

    def _is_property(self, name: str, text: str) -> bool:
        if not GuestPattern.is_property(name) or name in RESERVED:
            self._tell(f"a platform returns a guest property with an invalid or reserved name: {printable(repr(name), 80)}")
            return False
        return bool(text.strip())

    def _tell(self, message: str) -> None:
        if message not in self._told and len(self._told) < _MOST_PROPERTIES:
            self._told.add(message)
            self._context.log.warning("%s", message)


# --- launches ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reservation:
    """Memory reserved for a launch. Sizes are in KiB. `created_at` is in seconds since the epoch.

    `name` is a pattern for the guest's name or ID; empty for the first new guest that fits. `kept_kib` is still reserved, and falls while
    `guest` touches its memory. `there_kib` of `kept_kib` is free now. Other guests must still free `expected_kib`.
    """

    class State(StrEnum):
        """State of a reservation. The last three are final."""

        MAKING = "making"  #: guests are still freeing memory for it
        READY = "ready"  #: the memory is available
        TAKEN = "taken"  #: its guest has started, but has not touched all of its memory yet
        USED = "used"  #: its guest has touched all of its memory
        EXPIRED = "expired"  #: no guest started before the deadline
        RELEASED = "released"  #: released by a client

        @property
        def lasts(self) -> bool:
            """Whether memory is still reserved in this state."""
            return self in {Reservation.State.MAKING, Reservation.State.READY, Reservation.State.TAKEN}

    @dataclass(frozen=True, slots=True)
    class Room:
        """Memory that could be reserved, and its parts. Sizes in KiB.

        :param available_kib: memory available without swapping
        :param host_keeps_kib: part of `available_kib` for the host itself
        :param reserved_kib: part of `available_kib` for reservations
        :param can_free_kib: memory that guests can give up within their guarantees and needs
        :param why: why guests can give up little or nothing
        :param can_offload_kib: further gain from moving cold memory to swap
        :param returning_kib: memory kept free because guests' memory may return from swap
        :param rising_kib: memory kept free for guests' expected growth
        """

        available_kib: int
        host_keeps_kib: int
        reserved_kib: int
        can_free_kib: int
        guaranteed_kib: int
        why: str = ""
        can_offload_kib: int = 0
        returning_kib: int = 0
        rising_kib: int = 0

        @property
        def rise(self) -> str:
            """Expected growth of guests, as text."""
            return f"guests are expected to soon use {format_kib(self.rising_kib)} more" if self.rising_kib else ""

        @property
        def most_kib(self) -> int:
            """Largest possible reservation."""
            return max(0, self.unreserved_kib + self.can_free_kib + self.can_offload_kib)

        @property
        def free_kib(self) -> int:
            """Part of `most_kib` that is already available."""
            return max(0, min(self.most_kib, self.unreserved_kib))

        @property
        def unreserved_kib(self) -> int:
            """Available memory minus the host's part, reservations, `returning_kib` and `rising_kib`. It may be negative."""
            return self.available_kib - self.host_keeps_kib - self.returning_kib - self.rising_kib - self.reserved_kib

    class Refused(MomError):
        """Error: the memory cannot be made available in time. `room` shows how much can be reserved."""

        def __init__(self, message: str, *, room: Reservation.Room, hint: str = "") -> None:
            super().__init__(message, hint=hint)
            self.room = room

    id: str
    memory_kib: int
    state: Reservation.State
    name: str = ""
    who: str = ""
    created_at: float = 0.0
    expires_in_seconds: float = 0.0
    kept_kib: int = 0
    there_kib: int = 0
    expected_kib: int = 0
    expected_in_seconds: float | None = None
    guest: Entity | None = None
    note: str = ""


class Reservations(Protocol):
    """Service that reserves memory of this host. Thread-safe.

    To reserve memory, mom shrinks no guest below its guarantee or its need. Calls raise `MomError` while the host's memory is unknown.
    """

    def room(self) -> Reservation.Room:
        """Return the memory that can be reserved now."""

    def reserve(self, memory_kib: int, seconds: float, *, name: str = "", who: str = "") -> Reservation:
        """Reserve memory for `seconds`. Raise `Reservation.Refused` if mom cannot make it available.

        :param name: pattern for the guest's name or ID, such as `db-*`
        :param who: caller for the log, such as `user root, process 812`
        """

    def reservations(self) -> Sequence[Reservation]:
        """Return active reservations, oldest first, then ended ones."""

    def release(self, identity: str, *, who: str = "") -> Reservation:
        """End a reservation. Raise `MomError` if its ID is unknown."""


@dataclass(frozen=True, slots=True)
class LaunchedGuest:
    """Guest that is about to start. `why_none` says why mom need not make memory available, for example because of huge pages."""

    @dataclass(frozen=True, slots=True)
    class Launch:
        """Guest that is about to start, and whether it may start.

        `reservation` is an ID. mom decides at the monotonic time `until` at the latest. `note` says why mom refuses the guest, or starts it
        with less memory.
        """

        class State(StrEnum):
            """State of a launch."""

            WAITING = "waiting"  #: other guests are still freeing memory for it
            STARTS = "starts"  #: the guest may start
            REFUSED = "refused"  #: the guest must not start

        guest: LaunchedGuest
        state: LaunchedGuest.Launch.State
        reservation: str = ""
        until: float = 0.0
        note: str = ""
        hint: str = ""

    name: str
    memory_kib: int
    id: str = ""
    why_none: str = ""


class Launches(Protocol):
    """Service that makes memory available before a guest starts. Thread-safe; does not wait."""

    def begin(self, guest: LaunchedGuest, *, patience: float, who: str = "") -> LaunchedGuest.Launch:
        """Begin to make memory available for a guest. If the guest's memory is unknown, the guest may start.

        :param patience: seconds for which the caller waits for the decision
        """

    def look(self, launch: LaunchedGuest.Launch) -> LaunchedGuest.Launch:
        """Return the launch in its present state. Call this repeatedly while the start is delayed."""


class LaunchReader(Protocol):
    """Reader of a guest's description before the guest runs. Thread-safe; does not wait.

    While a guest's start hook runs, libvirt's bulk queries wait if they include the guest. So callers report starts that they delay.
    """

    def read(self, description: str, identity: str) -> LaunchedGuest | None:
        """Return the guest that a description describes; None if it is invalid, or belongs to another platform.

        :param description: untrusted text, such as libvirt's domain XML
        :param identity: the guest's ID if the description lacks it, such as Proxmox VE's VMID
        """

    def launches(self, guest: LaunchedGuest) -> None:
        """Record that the caller delays this guest's start."""

    def launched(self, guest: LaunchedGuest) -> None:
        """Record that the caller no longer delays this guest's start."""


# --- the host: policies, recordings, metrics --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, order=True)
class PolicyProblem:
    """Mistake in a policy. `line` and `column` count from 1; 0 if unknown. `severity` is `error` or `warning`."""

    name: str
    line: int
    column: int
    kind: str
    message: str
    severity: str = "error"
    hint: str = ""

    @property
    def source(self) -> Source:
        """Policy, line and column of the mistake."""
        return Source(self.name, self.line, self.column)

    def __str__(self) -> str:
        return f"{self.source}: {self.kind}: {self.message}" if self.name else f"{self.kind}: {self.message}"


@dataclass(frozen=True, slots=True)
class PolicyState:
    """All policies in force. Each change makes a new `version`, unique even across restarts of mom."""

    @dataclass(frozen=True, slots=True)
    class Text:
        """Text of a policy in force. `origin` is the path of its file, `default`, or the client that set it at run time."""

        text: str
        origin: str = ""

    @dataclass(frozen=True, slots=True)
    class Change:
        """Change of the policies. `time` is in seconds since the epoch. `diff` is a unified diff; empty if unknown."""

        version: str
        time: float
        who: str
        what: str
        diff: str = ""

    class Refused(MomError):
        """Error: policies are invalid, and the earlier policies stay in force. `problems` contains all mistakes."""

        def __init__(self, problems: Sequence[PolicyProblem], *, hint: str = "") -> None:
            self.problems = tuple(problems)
            super().__init__("\n".join(str(problem) for problem in self.problems), hint=hint)

    class Conflict(MomError):
        """Error: another client has changed the policies. `version` is now in force."""

        def __init__(self, message: str, *, version: str, hint: str = "") -> None:
            super().__init__(message, hint=hint)
            self.version = version

    version: str
    texts: Mapping[str, PolicyState.Text] = field(default_factory=dict)


class PolicyTexts(Protocol):
    """Policies of an evaluator. Thread-safe.

    Policies set here override files and default policies. Changes raise `PolicyState.Refused`, or `PolicyState.Conflict` if
    `expected_version` is not in force (None allows any version). `who` is for the log.
    """

    def state(self) -> PolicyState:
        """Return the policies in force."""

    def remarks(self, changes: Mapping[str, str | None], *, replace_all: bool = False) -> Sequence[PolicyProblem]:
        """Return problems of these changes: errors for which `change` would refuse them, inevitable evaluation failures, and warnings."""

    def change(
        self, changes: Mapping[str, str | None], *, who: str, replace_all: bool = False, expected_version: str | None = None
    ) -> PolicyState:
        """Set and remove policies in one step.

        :param changes: texts keyed by name; None removes the policy
        :param replace_all: remove all other policies, also those from files and defaults, until `reset`
        """

    def reset(self, *, who: str, expected_version: str | None = None) -> PolicyState:
        """Drop run-time changes, and read the files again."""

    def history(self) -> Sequence[PolicyState.Change]:
        """Return the last changes, oldest first."""

    def roll_back(self, version: str, *, who: str, expected_version: str | None = None) -> PolicyState:
        """Restore the policies of a version. Raise `MomError` if the version is unknown."""

    def memory(self) -> Value:
        """Return the notes that policies keep, as a JSON value for a recording."""

    def set_memory(self, memory: Value) -> None:
        """Replace the notes that policies keep, for a replay. Raise `MomError` if the value is invalid."""

    def failure(self) -> str:
        """Return why the last evaluation stopped early; empty if it did not."""


@dataclass(frozen=True, slots=True)
class PastCycle:
    """Recorded cycle: its report, and its policies' texts keyed by name."""

    report: Report
    policies: Mapping[str, str]


class PastCycles(Protocol):
    """Reader of a recording. Methods raise `MomError` if the recording is unreadable."""

    @property
    def where(self) -> str:
        """Name of the recording for messages, such as its folder."""

    def cycles(self, since: float, until: float) -> Iterator[PastCycle]:
        """Yield the cycles between two times (seconds since the epoch), in recorded order."""


@dataclass(frozen=True, slots=True)
class RecordedPoint:
    """Values of a host over a span of time, or of one guest in a recorded cycle. Unknown values are missing.

    `time` is the middle of the span. The key `guests.FIELD` is for the sum of a field over all guests.
    """

    time: float
    seconds: float = 0.0
    least: Mapping[str, float] = field(default_factory=dict)
    mean: Mapping[str, float] = field(default_factory=dict)
    most: Mapping[str, float] = field(default_factory=dict)
    guest: Mapping[str, Value] | None = None


class RecordedPoints(Protocol):
    """Reader of this host's recording, for programs that draw it."""

    def recorded_points(
        self, since: float, until: float, most: int, *, guest: str = "", guest_fields: Sequence[str] = ()
    ) -> Sequence[RecordedPoint]:
        """Return evenly spaced points in order of time. Raise `MomError` if the recording is unreadable.

        The call takes seconds, so make it in a separate thread. Times are in seconds since the epoch.

        :param most: maximum number of points
        :param guest: ID of a guest; empty for the host
        """


class HostMetrics(Protocol):
    """Server of this host's metrics, by HTTPS at `/metrics`."""

    @property
    def metrics_port(self) -> int | None:
        """TCP port for other machines. None if they cannot connect. Thread-safe."""
