"""The guestagent plugin: statistics from agents, its settings, and findings of `mom doctor`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Protocol, runtime_checkable

from pydantic import AfterValidator, Field

from mom_core import (
    Duration,
    Entity,
    FieldSpec,
    Finding,
    Guest,
    GuestSettings,
    Hypervisor,
    HypervisorError,
    PluginContext,
    PluginSettings,
    Problem,
    Report,
    Severity,
    Snapshot,
    Source,
    Status,
    Value,
    count_of,
    first_names,
    hookimpl,
    printable,
)
from mom_kvm import pid_of
from mom_plugins_guestagent.fields import FIELDS, HOST_STATE, PLENTY, REPORTING
from mom_plugins_guestagent.guestd import CHANNEL
from mom_plugins_guestagent.ways import AgentAddress, AgentKind, parse_address

if TYPE_CHECKING:
    from mom_plugins_guestagent.collector import AgentCollector, AgentState, AgentTarget

LIBVIRTS_CHANNEL = "org.qemu.guest_agent.0"

OWN_CHANNEL = "org.qemu.guest_agent.1"
"""Channel of a qemu-guest-agent that only mom uses. mom connects to the channel's socket, not through libvirt."""

BALLOON, PERIOD = "balloon_target", "balloon_stats_period"
"""Controls of other plugins: the guest's size, and the period of its balloon statistics in seconds."""

_STOP_SECONDS = 0.3
"""Time limit for stopping the queries. All plugins together have 0.4 s."""

_MOST_PROBLEMS = 20

_DOCTOR_STEP_SECONDS = 0.05


@runtime_checkable
class AgentAccess(Protocol):
    """Access to agents inside guests."""

    def agent_channels(self, guests: Sequence[Entity]) -> Mapping[str, Mapping[str, str]]:
        """Return paths of unix sockets, keyed by guest id and channel name (`org.qemu.guest_agent.0`).

        A path is empty if only the hypervisor can connect.
        """

    def agent_command(self, guest: Entity, command: str, timeout_seconds: float) -> str:
        """Send JSON text to the guest's qemu-guest-agent, and return its JSON answer.

        Raises `GuestBusy` after the timeout, `NotSupported` without an agent, or another `HypervisorError`.
        """


def _addresses(text: str) -> str:
    parse_address(text)
    return text


def _absolute(path: str) -> str:
    if not path.startswith("/"):
        raise ValueError("must be an absolute path")
    return path


_Path = Annotated[str, AfterValidator(_absolute)]


class AgentSettings(PluginSettings):
    """Which agents to query, and how often."""

    period: Annotated[Duration, Field(ge=1, le=60)] = 10.0
    """Time between two queries of each guest, in the background; up to 2m after failures."""
    qemu_agent: bool = True
    """Query qemu-guest-agent if a guest has a channel for it. Queries through libvirt mark the guest as tainted."""
    tell_short: bool = False
    """Tell mom-guestd when the host is short of memory. If the guest's owner allows it, the guest then reports smaller pieces of free
    memory, and drops page cache that was unused for a long time."""


class AgentGuestSettings(GuestSettings):
    """Whether to ask a guest's agent, and at which address or socket."""

    ask_agent: bool = True
    """Query this guest's agent."""
    guestd_address: Annotated[str, AfterValidator(_addresses)] | None = None
    """Numeric address of the guest's mom-guestd, with or without a port: `10.0.0.7`, `[fd00::7]:2187`."""
    guestd_socket: _Path | None = None
    """Unix socket of the guest's mom-guestd channel, if the hypervisor does not report it."""
    agent_socket: _Path | None = None
    """Unix socket of a qemu-guest-agent that no other program uses, if the hypervisor does not report it."""


class GuestAgentPlugin:
    """Collector of statistics from inside the guests, through qemu-guest-agent and mom-guestd."""

    Settings = AgentSettings
    GuestSettings = AgentGuestSettings

    def __init__(self, settings: AgentSettings, context: PluginContext) -> None:
        self._settings = settings
        self._context = context
        self._collector: AgentCollector | None = None
        self._without: Mapping[str, tuple[str, bool]] | None = None
        """Guests without balloon statistics, keyed by ID: incarnation, and whether mom expects statistics. None before the first report."""

    # --- declare -----------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_declare(self) -> Iterable[FieldSpec]:
        return FIELDS

    # --- life --------------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_setup(self) -> None:
        from mom_plugins_guestagent.collector import AgentCollector

        self._collector = AgentCollector(self._settings.period, self._context.log)
        self._collector.start()

    @hookimpl
    def mom_teardown(self) -> None:
        if self._collector is not None:
            self._collector.stop(_STOP_SECONDS)

    # --- collect, evaluate, report -----------------------------------------------------------------------------------------------

    @hookimpl
    def mom_collect_guests(self, hypervisor: Hypervisor, guests: Sequence[Guest]) -> Mapping[str, Mapping[str, Value]]:
        if self._collector is None:
            return {}
        self._collector.follow(self._targets(hypervisor, guests))
        return self._collector.fields([guest.id for guest in guests], {guest.id for guest in guests if not self._is_alone(guest)})

    def _is_alone(self, guest: Guest) -> bool:
        # The driver's statistics may have begun since the last report. They must not appear together with the agent's old statistics.
        if self._without is None:
            return True
        incarnation, awaited = self._without.get(guest.id, (None, True))
        return incarnation == guest.incarnation and (not awaited or BALLOON in guest.blocked)

    @hookimpl
    def mom_problems(self, snapshot: Snapshot) -> Iterable[Problem]:
        if self._collector is None:
            return
        states = self._collector.states()
        complaints = ((guest, states[guest.id].complaint) for guest in snapshot.guests.values() if guest.id in states)
        unbelieved = ((guest, complaint) for guest, complaint in complaints if complaint)
        for _, (guest, complaint) in zip(range(_MOST_PROBLEMS), unbelieved, strict=False):
            # Put the fault into the hint: a new fault in each cycle must not make a new problem in each cycle.
            hint = f"{complaint}: check the agent, or find out which program answers in its place"
            message = "the guest's agent reports impossible statistics, which mom ignores"
            yield Problem(Source(self._context.name), message, guest.entity, Severity.WARNING, hint)

    @hookimpl
    def mom_report(self, report: Report) -> None:
        guests = report.snapshot.guests.values()
        ages = {guest.id: guest.number("stats_age") for guest in guests}
        applied = (
            outcome.decision for outcome in report.outcomes if outcome.status is Status.APPLIED and outcome.decision.control == PERIOD
        )
        switched_on = {decision.entity.id for decision in applied if decision.value}
        self._without = {
            guest.id: (guest.incarnation, bool(guest.number(PERIOD)) or guest.id in switched_on)
            for guest in guests
            if ages[guest.id] is None
        }
        if self._collector is not None and guests:  # an empty list may mean that the hypervisor is unreachable
            maxima = {guest.id: size for guest in guests if isinstance(size := guest.fields.get("balloon_max"), int)}
            fresh = {identity for identity, age in ages.items() if age is not None and age <= self._settings.period}
            self._collector.learn(maxima, fresh, self._to_be_told(report))

    def _to_be_told(self, report: Report) -> frozenset[str]:
        state = report.snapshot.host.text(HOST_STATE)
        if not self._settings.tell_short or report.mode != "enforce" or state in {None, "", PLENTY}:
            return frozenset()
        return frozenset(guest.id for guest in report.snapshot.guests.values() if guest.fields.get(REPORTING) != 0)

    # --- doctor ------------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_doctor(self, hypervisor: Hypervisor | None) -> Iterable[Finding]:
        from mom_plugins_guestagent.collector import TIMEOUT_SECONDS

        if self._collector is None or hypervisor is None:
            return []
        try:
            guests = hypervisor.guests()
        except HypervisorError:  # the hypervisor's plugin reports the error
            return []
        targets = self._targets(hypervisor, guests)
        if guests and not targets and not isinstance(hypervisor, AgentAccess):
            return [NO_ACCESS]
        self._collector.follow(targets)
        end = time.monotonic() + min(TIMEOUT_SECONDS + 1, 0.8 * self._settings.deadline)
        ids = {target.guest.id for target in targets}
        while time.monotonic() < end and not ids <= {each for each, state in self._collector.states().items() if state.rounds}:
            time.sleep(_DOCTOR_STEP_SECONDS)
        asked_for = [guest for guest in guests if self._guest_settings(guest).ask_agent]
        states = {identity: state for identity, state in self._collector.states().items() if identity in ids}
        return list(examined(asked_for, states))

    # --- addresses -------------------------------------------------------------------------------------------------------------

    def _targets(self, hypervisor: Hypervisor, guests: Sequence[Guest]) -> list[AgentTarget]:
        from mom_plugins_guestagent.collector import AgentTarget

        channels: Mapping[str, Mapping[str, str]] = {}
        if isinstance(hypervisor, AgentAccess):
            channels = hypervisor.agent_channels([guest.entity for guest in guests])
            if self._collector is not None:
                self._collector.pass_on = hypervisor.agent_command
        targets = (AgentTarget(guest.entity, guest.incarnation, self._places(guest, channels.get(guest.id, {}))) for guest in guests)
        return [target for target in targets if target.places]

    def _guest_settings(self, guest: Guest) -> AgentGuestSettings:
        settings = self._context.guest_settings(guest)
        return settings if isinstance(settings, AgentGuestSettings) else AgentGuestSettings()

    def _places(self, guest: Guest, channels: Mapping[str, str]) -> tuple[AgentAddress, ...]:
        # The cheapest address comes first, the hypervisor last.
        mine, process = self._guest_settings(guest), pid_of(guest) or 0
        if not mine.ask_agent:
            return ()
        places = []
        if mine.guestd_socket:
            places.append(AgentAddress(AgentKind.GUESTD_CHANNEL, mine.guestd_socket))
        elif path := channels.get(CHANNEL):
            places.append(AgentAddress(AgentKind.GUESTD_CHANNEL, path, process))
        if mine.guestd_address:
            places.append(AgentAddress(AgentKind.GUESTD_TCP, parse_address(mine.guestd_address)))
        if self._settings.qemu_agent:
            if mine.agent_socket:
                places.append(AgentAddress(AgentKind.AGENT_SOCKET, mine.agent_socket))
            elif path := channels.get(OWN_CHANNEL):
                places.append(AgentAddress(AgentKind.AGENT_SOCKET, path, process))
            if LIBVIRTS_CHANNEL in channels:
                places.append(AgentAddress(AgentKind.AGENT_HYPERVISOR))
        return tuple(places)


SUBJECT = "guest agents"

NO_ACCESS = Finding(
    Severity.WARNING, SUBJECT, "no hypervisor gives access to guests' agents", "set guestd_address for the guests, under guests:"
)

_WRONG = {
    "{} without a channel or address: {}": (
        "add a channel to the guests, as mom-plugins-guestagent's README shows, and run an agent in the guests; or set guestd_address"
    ),
    "{} whose agent is not allowed to read files (guest-file-open, -read, -close): {}": (
        "allow these commands in the guest's qemu-ga configuration, or run mom-guestd there"
    ),
    "{} whose agent reports no memory statistics: {}": "run mom-guestd in Linux guests; elsewhere, only a balloon driver reports memory",
    "{} whose agent does not answer: {}": "start qemu-guest-agent or mom-guestd in these guests, unless they are booting or paused",
}

_WITHOUT, _DISABLED, _SPEECHLESS, _SILENT = _WRONG


def examined(guests: Sequence[Guest], states: Mapping[str, AgentState]) -> Iterable[Finding]:
    """Yield findings about agents.

    :param states: states of the agents that mom has reached and queried, keyed by guest ID
    """
    faults = [(guest, _fault(states.get(guest.id))) for guest in guests]  # once: states change meanwhile
    wrong = {text: [guest for guest, fault in faults if fault == text] for text in _WRONG}
    kinds = Counter(str(states[guest.id].by) for guest, fault in faults if not fault)
    if kinds:
        how = ", ".join(f"{count} by {kind}" for kind, count in sorted(kinds.items()))
        yield Finding(Severity.OK, SUBJECT, f"{count_of(kinds.total(), 'guest')} reported statistics: {how}")
    for text, named in wrong.items():
        if named:
            silence = states[named[0].id].silence if text == _SILENT else ""
            why = f" ({printable(silence, 200)})" if silence else ""
            yield Finding(Severity.WARNING, SUBJECT, text.format(count_of(len(named), "guest"), _names(named)) + why, _WRONG[text])
    liars = [guest for guest in guests if guest.id in states and states[guest.id].complaint]
    if liars:
        complaint = states[liars[0].id].complaint
        yield Finding(
            Severity.WARNING, SUBJECT, f"mom rejects statistics from {count_of(len(liars), 'guest')}: {_names(liars)} ({complaint})"
        )


def _fault(state: AgentState | None) -> str:
    if state is None:
        return _WITHOUT
    if state.sample is not None:
        return ""
    return _DISABLED if state.disabled else _SILENT if state.silence else _SPEECHLESS


def _names(guests: Sequence[Guest]) -> str:
    return first_names([guest.name for guest in guests])
