"""The plugin: settings, declarations, and the hooks that hand out what the collector knows."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, Field

import mom_core
from mom_core import (
    Duration,
    FieldSpec,
    Finding,
    Guest,
    Hypervisor,
    HypervisorError,
    PluginContext,
    PluginSettings,
    Problem,
    Report,
    Severity,
    Snapshot,
    Source,
    Value,
    hookimpl,
)
from mom_plugins_guestagent.addresses import parse_address
from mom_plugins_guestagent.fields import FIELDS
from mom_toolkit import AgentAccess

if TYPE_CHECKING:
    from mom_plugins_guestagent.collector import AgentCollector, AgentTarget
    from mom_plugins_guestagent.ways import AgentAddress

LIBVIRTS_CHANNEL = "org.qemu.guest_agent.0"

_STOP_SECONDS = 0.3
"""How long hanging up may take: a plugin has 0.4 s to end."""

_MOST_PROBLEMS = 20
"""So many guests are named as not to be believed in one cycle."""

_DOCTOR_STEP_SECONDS = 0.05


def _addresses(text: str) -> str:
    parse_address(text)
    return text


def _absolute(path: str) -> str:
    if not path.startswith("/"):
        raise ValueError("must be an absolute path")
    return path


_Path = Annotated[str, AfterValidator(_absolute)]


class GuestAgentPlugin:
    """Figures from inside the guests, by qemu-guest-agent and mom-guestd."""

    class Settings(PluginSettings):
        """Whom to ask, how often, and how patiently."""

        period: Annotated[Duration, Field(ge=1, le=3600)] = 10.0
        """How often each guest is asked, in the background. A guest that does not answer is asked less often, every 2m at least."""
        hypervisor_period: Annotated[Duration, Field(ge=1, le=3600)] = 60.0
        """The same for guests that are asked through the hypervisor and report by their balloon too: each visit is a dozen commands."""
        stale_after: Annotated[Duration, Field(gt=0)] | None = None
        """From which age on figures count as unknown. Unset: three periods, or two of `hypervisor_period`, and one timeout."""
        timeout: Annotated[Duration, Field(ge=0.1, le=60)] = 3.0
        """How long one guest may take to answer everything."""
        facts_period: Annotated[Duration, Field(ge=10, le=86400)] = 300.0
        """How often to read what changes rarely: versions, and what the agent can."""
        guestd: bool = True
        """Ask mom-guestd, where a guest has its channel or a `guestd_address`."""
        qemu_agent: bool = True
        """Ask qemu-guest-agent, where a guest has a channel for it."""
        guestd_channel: str = "org.mom.guestd.0"
        """The name of mom-guestd's channel in the guest's description."""
        agent_channels: list[str] = Field(default_factory=lambda: ["org.qemu.guest_agent.1"])
        """Names of channels on which a qemu-guest-agent listens that is mom's alone: its socket is used, not libvirt."""

    class GuestSettings(mom_core.GuestSettings):
        """Where to ask single guests, and whether."""

        ask_agent: bool = True
        """Ask this guest at all."""
        guestd_address: Annotated[str, AfterValidator(_addresses)] | None = None
        """The numeric address, with or without a port, at which the guest's mom-guestd listens: `10.0.0.7`, `[fd00::7]:2187`."""
        guestd_socket: _Path | None = None
        """The unix socket of the guest's mom-guestd channel, where the hypervisor cannot tell."""
        agent_socket: _Path | None = None
        """The unix socket of a qemu-guest-agent that no other program uses, where the hypervisor cannot tell."""

    def __init__(self, settings: Settings, context: PluginContext) -> None:
        self._settings = settings
        self._context = context
        self._collector: AgentCollector | None = None

    # --- declare -----------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_declare(self) -> Iterable[FieldSpec]:
        """The fields that agents give."""
        return FIELDS

    # --- life --------------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_setup(self) -> None:
        """Start the thread that asks. No guest is asked before the first cycle has said which there are."""
        from mom_plugins_guestagent.collector import AgentCollector, Asking

        one = self._settings
        asking = Asking(one.period, one.hypervisor_period, one.stale_after, one.facts_period, one.timeout)
        self._collector = AgentCollector(asking, self._context.log)
        self._collector.start()

    @hookimpl
    def mom_teardown(self) -> None:
        """Hang up everywhere."""
        if self._collector is not None:
            self._collector.stop(_STOP_SECONDS)

    # --- collect, evaluate, report -----------------------------------------------------------------------------------------------

    @hookimpl
    def mom_collect_guests(self, hypervisor: Hypervisor, guests: Sequence[Guest]) -> Mapping[str, Mapping[str, Value]]:
        """Hand out what is fresh of what these guests have said. Waits for no guest."""
        if self._collector is None:
            return {}
        self._collector.follow(self._targets(hypervisor, guests))
        return self._collector.fields([guest.id for guest in guests])

    @hookimpl
    def mom_act(self, snapshot: Snapshot) -> Iterable[Problem]:
        """Decides nothing, but says whose figures were not believed, for as long as that is so."""
        if self._collector is None:
            return
        states = self._collector.states()
        unbelieved = (guest for guest in snapshot.guests.values() if guest.id in states and states[guest.id].complaint)
        for _, guest in zip(range(_MOST_PROBLEMS), unbelieved, strict=False):
            # What it is stands in the hint: a guest that finds a new lie each time must not make a new problem each time.
            hint = f"{states[guest.id].complaint}: look at the agent, or at who answers for it"
            message = "what the guest's agent says is not believed, or not all of it"
            yield Problem(Source(self._context.name), message, guest.entity, Severity.WARNING, hint)

    @hookimpl
    def mom_report(self, report: Report) -> None:
        """Remember what the hypervisor says: how much memory the guests can have, and of which it has fresh statistics by itself."""
        if self._collector is not None:
            guests = report.snapshot.guests.values()
            self._collector.bound({guest.id: size for guest in guests if isinstance(size := guest.fields.get("balloon_max"), int)})
            self._collector.spare({guest.id for guest in guests if _is_fresh(guest.fields.get("stats_age"), self._settings.period)})

    # --- surface -----------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_doctor(self, hypervisor: Hypervisor | None) -> Iterable[Finding]:
        """Which guests have no channel, and whose agents do not answer. Asks each once."""
        from mom_plugins_guestagent.findings import NO_ACCESS, examined

        if self._collector is None or hypervisor is None:
            return []
        try:
            guests = hypervisor.guests()
        except HypervisorError:  # said by the plugin that brings the hypervisor
            return []
        targets = self._targets(hypervisor, guests)
        if guests and not targets and not isinstance(hypervisor, AgentAccess):
            return [NO_ACCESS]
        self._collector.follow(targets)
        end = time.monotonic() + min(self._settings.timeout + 1, 0.8 * self._settings.deadline)
        asked = {target.guest.id for target in targets}
        while time.monotonic() < end and not asked <= {each for each, state in self._collector.states().items() if state.rounds}:
            time.sleep(_DOCTOR_STEP_SECONDS)
        return list(examined([guest for guest in guests if self._guest_settings(guest).ask_agent], targets, self._collector.states()))

    # --- where to ask ------------------------------------------------------------------------------------------------------------

    def _targets(self, hypervisor: Hypervisor, guests: Sequence[Guest]) -> list[AgentTarget]:
        """The guests that can be asked, and where."""
        from mom_plugins_guestagent.collector import AgentTarget

        channels: Mapping[str, Mapping[str, str]] = {}
        if isinstance(hypervisor, AgentAccess):
            channels = hypervisor.agent_channels([guest.entity for guest in guests])
            if self._collector is not None:
                self._collector.pass_on = hypervisor.agent_command
        targets = (AgentTarget(guest.entity, guest.incarnation, self._places(guest, channels.get(guest.id, {}))) for guest in guests)
        return [target for target in targets if target.places]

    def _guest_settings(self, guest: Guest) -> GuestSettings:
        found = self._context.guest_settings(guest)
        return found if isinstance(found, GuestAgentPlugin.GuestSettings) else GuestAgentPlugin.GuestSettings()

    def _places(self, guest: Guest, channels: Mapping[str, str]) -> tuple[AgentAddress, ...]:
        """In the order of preference: what answers in one step first, and what costs the hypervisor something last."""
        from mom_plugins_guestagent.ways import AgentAddress, AgentKind

        settings, mine = self._settings, self._guest_settings(guest)
        places = []
        if settings.guestd and mine.ask_agent:
            if path := mine.guestd_socket or channels.get(settings.guestd_channel):
                places.append(AgentAddress(AgentKind.GUESTD_CHANNEL, path))
            if mine.guestd_address:
                places.append(AgentAddress(AgentKind.GUESTD_TCP, parse_address(mine.guestd_address)))
        if settings.qemu_agent and mine.ask_agent:
            paths = [mine.agent_socket] if mine.agent_socket else [channels.get(name) for name in settings.agent_channels]
            places += [AgentAddress(AgentKind.AGENT_SOCKET, path) for path in paths if path]
            if LIBVIRTS_CHANNEL in channels and LIBVIRTS_CHANNEL not in settings.agent_channels:
                places.append(AgentAddress(AgentKind.AGENT_HYPERVISOR))
        return tuple(places)


def _is_fresh(age: Value, period: float) -> bool:
    """Tell whether the hypervisor's statistics of a guest are no older than what its agent says would be."""
    return isinstance(age, int | float) and age <= period
