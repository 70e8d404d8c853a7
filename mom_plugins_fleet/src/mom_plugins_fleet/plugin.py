"""Plugin of a host in a fleet."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import AfterValidator, Field

from mom_core import (
    Decision,
    ExistingFile,
    FieldSpec,
    Finding,
    Guest,
    MomError,
    PluginContext,
    PluginSettings,
    Problem,
    Report,
    Scope,
    Severity,
    Snapshot,
    Source,
    Status,
    Unit,
    Value,
    hookimpl,
    printable,
)
from mom_kvm import GuestMoves, HostDrain, HostMetrics, Promises, stale_seconds
from mom_plugins_fleet.host.group_policies import GroupPolicies
from mom_plugins_fleet.host.state import host_state
from mom_plugins_fleet.records import NAME, HostState, Member, Move, MoveState, PublicKey, a_server

if TYPE_CHECKING:
    from mom_plugins_fleet.client import Access
    from mom_plugins_fleet.host.agent import FleetAgent

EMPTY_CYCLES: Final = 3
"""The last guest counts as gone after this many cycles without guests, because a failing hypervisor lists none either."""

STILL_HERE_CYCLES: Final = 5
"""A move that reports no error has failed if the guest is still listed after so many cycles."""

NO_MOVER: Final = "no plugin on the host can move guests"


class FleetPlugin:
    """Plugin that applies group policies, reports the host's state, and moves guests during a drain."""

    class Settings(PluginSettings):
        """Addresses of the fleet's servers, and this host's name and key."""

        servers: Annotated[list[Annotated[str, AfterValidator(a_server)]], Field(min_length=1, max_length=16)] = Field(
            default_factory=lambda: ["nats://localhost:4222"]
        )
        """NATS servers with JetStream, such as `tls://nats1.example.org:4222`."""

        host: Annotated[str, Field(pattern=NAME)] | None = None
        """This host's name in the fleet, as enrolled. Unset: the system's host name, up to the first dot."""

        key: ExistingFile | None = None
        """This host's NATS credentials, as `mom fleet join` writes them; other users must not be able to read them. Unset: the servers need
        no key."""

        ca: ExistingFile | None = None
        """CA certificates for the servers, as PEM. Unset: the system's."""

        operators: Annotated[list[PublicKey], Field(max_length=64)] = Field(default_factory=list)
        """Public keys of the fleet's operators, as printed by `mom fleet key`. Only records signed with one of these keys direct this host.
        Unset: the host only reports its state."""

    def __init__(self, settings: Settings, context: PluginContext) -> None:
        self._settings = settings
        self._context = context
        self._host = settings.host or socket.gethostname().partition(".")[0].lower()
        self.group = GroupPolicies(context, settings.operators)
        self.agent: FleetAgent | None = None
        """None in commands that only read."""
        self._report: Report | None = None
        self._empty = 0
        self._begun: dict[str, int] = {}
        """Cycle that decided each unfinished move, keyed by guest id."""

    @hookimpl
    def mom_declare(self) -> Iterable[FieldSpec]:
        return [FieldSpec("fleet_connected", Unit.FLAG, Scope.HOST, "whether the fleet's servers can be reached", "the connection to NATS")]

    @hookimpl
    def mom_services(self) -> Mapping[type, Any]:
        return {HostDrain: self}

    def is_ordered(self, decision: Decision) -> bool:
        """Return whether a coordinator ordered this move (`HostDrain`)."""
        moves = self._context.service(GuestMoves)
        if self.agent is None or moves is None or decision.control != moves.control or decision.source != Source(self._context.name):
            return False
        move = self.agent.orders.moves().get(decision.entity.id)
        return move is not None and decision.value == str(move.destination)

    @hookimpl
    def mom_setup(self) -> None:
        if not self._context.serves:
            return
        from mom_plugins_fleet.host.agent import FleetAgent
        from mom_plugins_fleet.host.orders import HostOrders
        from mom_plugins_fleet.signatures import FILE, FORM, LOSS, WHAT, SeenRevisions

        if not re.fullmatch(NAME, self._host):
            raise MomError(f"the system's host name {printable(self._host)} is not valid in a fleet", hint="set `host` of the fleet plugin")
        settings, log = self._settings, self._context.log
        revisions = SeenRevisions(self._context.state_file(FILE, WHAT, FORM, loss=LOSS))
        orders = HostOrders(self._host, settings.operators, revisions, log, self.accepts, self._context.wake)
        self.agent = FleetAgent(self._access(), self._host, log, revisions=revisions, group=self.group, orders=orders, state=self.state)
        self.agent.start()

    @hookimpl
    def mom_teardown(self) -> None:
        if self.agent is not None:
            self.agent.close()

    def _access(self) -> Access:
        from mom_plugins_fleet.client import Access

        return Access(self._settings.servers, self._settings.ca, self._settings.key)

    @hookimpl
    def mom_collect_host(self) -> Mapping[str, Value]:
        return {} if self.agent is None else {"fleet_connected": self.agent.connected}

    @hookimpl
    def mom_problems(self) -> Iterable[Problem]:
        if self.agent is not None and self.agent.trouble:
            yield Problem(Source(self._context.name), self.agent.trouble, severity=Severity.WARNING)

    @hookimpl
    def mom_act(self, snapshot: Snapshot) -> Iterable[Decision]:
        """Decide each accepted move once."""
        agent = self.agent
        if agent is None:
            return
        moves, mover = agent.orders.moves(), self._context.service(GuestMoves)
        self._begun = {identity: number for identity, number in self._begun.items() if identity in moves}
        for identity, move in moves.items():
            guest = snapshot.guests.get(identity)
            if guest is None:
                if snapshot.guests or self._empty >= EMPTY_CYCLES:
                    self._end(agent, identity, MoveState.DONE)
            elif mover is None:  # an earlier run with another configuration accepted the move
                self._end(agent, identity, MoveState.FAILED, NO_MOVER)
            elif identity in self._begun:
                self._look_at(guest, snapshot.number, agent, mover)
            elif mover.is_moving(guest):  # started by an earlier run
                self._begun[identity] = snapshot.number
            elif not (agent.orders.draining or (agent.orders.balance and move.balance)):
                self._end(agent, identity, MoveState.FAILED, "guests may no longer leave the host")
            else:
                self._begun[identity] = snapshot.number
                why = "the host is drained" if agent.orders.draining else "this balances the hosts"
                reason = f"{why}; {printable(move.to)} has room"
                yield Decision(guest.entity, mover.control, str(move.destination), reason, Source(self._context.name))

    def _look_at(self, guest: Guest, number: int, agent: FleetAgent, mover: GuestMoves) -> None:
        passed = number - self._begun[guest.id]  # the snapshot with the decision is older than the move
        error = mover.why_failed(guest)
        if passed < 1 or mover.is_moving(guest) is not False or (not error and passed < STILL_HERE_CYCLES):
            return
        self._end(agent, guest.id, MoveState.FAILED, error or "the guest is still on the host")

    def _end(self, agent: FleetAgent, identity: str, state: MoveState, error: str = "") -> None:
        self._begun.pop(identity, None)
        agent.finished(identity, state, printable(error, 200))

    @hookimpl
    def mom_report(self, report: Report) -> None:
        self._report = report
        self._empty = 0 if report.snapshot.guests or report.guests_unknown else self._empty + 1
        agent, mover = self.agent, self._context.service(GuestMoves)
        if agent is None or mover is None or not self._begun:
            return
        name, control = self._context.name, mover.control
        outcomes = {outcome.decision.entity.id: outcome for outcome in report.outcomes if outcome.decision.control == control}
        dropped = {edit.before.entity.id: edit.reason for edit in report.revisions if edit.before.control == control and edit.after is None}
        for identity in {item.entity.id for item in report.decisions if item.control == control and item.source.name == name}:
            outcome = outcomes.get(identity)
            if outcome is None:
                self._end(agent, identity, MoveState.FAILED, dropped.get(identity, "no plugin on the host moved the guest"))
            elif outcome.status is Status.GONE:
                self._end(agent, identity, MoveState.DONE)
            elif outcome.status is not Status.APPLIED:  # later cycles notice the end of an applied move
                self._end(agent, identity, MoveState.FAILED, outcome.error or f"the host reports: {outcome.status}")

    # --- called in the agent's thread ------------------------------------------------------------------------------------------

    def accepts(self, move: Move) -> str | None:
        """Return why a guest must stay for now; empty if it may leave, None if not yet known."""
        report, mover = self._report, self._context.service(GuestMoves)
        guest = None if report is None else report.snapshot.guests.get(move.guest)
        # A guest that is moving may follow orders that the servers have lost.
        if report is None or self._is_blind(report) or (guest is not None and mover is not None and mover.is_moving(guest)):
            return None
        if report.mode != "enforce":
            return "mom on the host only observes"
        return "the guest is not on the host" if guest is None else self._why_stays(guest, mover)

    def _is_blind(self, report: Report) -> bool:
        age = self._context.monotonic() - report.snapshot.monotonic - report.duration
        return age > stale_seconds(self._context.interval) or report.guests_unknown is not None

    def state(self) -> HostState | None:
        """Return the host's state; None while guests are unknown."""
        report, agent = self._report, self.agent
        if report is None or agent is None or self._is_blind(report):
            return None
        mover, metrics = self._context.service(GuestMoves), self._context.service(HostMetrics)
        stays = {identity: self._why_stays(guest, mover) for identity, guest in report.snapshot.guests.items()}
        port, moves = None if metrics is None else metrics.metrics_port, tuple(agent.orders.progress)
        promises = self._context.service(Promises) or Promises()
        return host_state(report, promises, mover, stays, metrics_port=port, moves=moves, group=self.group.reported())

    def _why_stays(self, guest: Guest, mover: GuestMoves | None) -> str:
        return guest.blocked.get("*") or NO_MOVER if mover is None else mover.why_stays(guest)

    @hookimpl
    def mom_doctor(self) -> Iterable[Finding]:
        from mom_plugins_fleet.buckets import ROSTER
        from mom_plugins_fleet.link import Store, ask
        from mom_plugins_fleet.signatures import opened

        subject = f"fleet {', '.join(map(printable, self._settings.servers))}"

        async def look(store: Store) -> Member | None:
            kept = await store.read(ROSTER, self._host)
            return None if kept.data is None else opened(Member, self._host, kept.data, self._settings.operators).record

        try:
            member = ask(self._access(), self._host, self._context.log, look)
        except MomError as error:
            return [Finding(Severity.ERROR, subject, error.message, error.hint)]
        if member is None:
            return [Finding(Severity.ERROR, subject, f"the fleet does not know the host {self._host}", "`mom fleet enroll` admits it")]
        return [Finding(Severity.OK, subject, f"the host {self._host} is a member of the group {member.group}")]
