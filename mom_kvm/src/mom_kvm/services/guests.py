"""Services that concern guests: admission, promises, moves, platforms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Final, Protocol
from xml.etree.ElementTree import Element

from mom_core import Decision, Entity, Guest, GuestPattern, PluginContext, Value, printable


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
