"""The plugin: a host's membership in a fleet, between the engine and the agent that talks to the fleet's servers."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import AfterValidator, Field, TypeAdapter

from mom_core import (
    Decision,
    Duration,
    ExistingFile,
    FieldSpec,
    Finding,
    Guest,
    MomError,
    Outcome,
    PluginContext,
    PluginSettings,
    Problem,
    Report,
    Scope,
    Severity,
    Snapshot,
    Source,
    StateError,
    Status,
    Unit,
    Value,
    as_number,
    hookimpl,
    printable,
    replace_file,
)
from mom_kvm import (
    NO_PROMISES,
    UNDESCRIBED,
    ClassFiles,
    GuestMoves,
    HostDrain,
    HostMetrics,
    PolicyTexts,
    Promises,
    stale_seconds,
    unhealthy_reasons,
)
from mom_plugins_fleet.addresses import a_server
from mom_plugins_fleet.coordinator.placement import listed
from mom_plugins_fleet.records import (
    CLASSES,
    LARGEST_KIB,
    NAME,
    Group,
    GroupName,
    HostedGuest,
    HostState,
    Member,
    Move,
    MoverState,
    MoveState,
    PublicKey,
    shown,
    whole_key,
)

if TYPE_CHECKING:
    from mom_plugins_fleet.host.agent import FleetAgent
    from mom_plugins_fleet.link import Access
    from mom_plugins_fleet.signatures import Opened

EMPTY_CYCLES: Final = 3
"""A host without any guest has lost its last one only after so many cycles: a hypervisor that does not answer lists none either."""

GUESTS_UNKNOWN: Final = "guests"
"""The name of the core's condition that the hypervisor has not listed its guests."""

STILL_HERE_CYCLES: Final = 5
"""A guest that has moved may be listed a little longer: only after so many cycles without any error has it not moved."""

NO_MOVER: Final = "no plugin on the host can move guests"
"""Why a move is not accepted, and one that was has failed."""

LEAVES_NONE: Final = "the host's configuration says leave: false"
"""Why no move is accepted."""

GRAIN_KIB: Final = 16 << 10
"""A host rounds its sizes to this, so that it tells nothing as long as nothing has happened."""


@dataclass(frozen=True, slots=True)
class GroupInForce:
    """A group, and its record as it stood in the fleet, with its signature."""

    group: GroupName
    signed: str


class FleetPlugin:
    """Follows the policies of this host's group, tells the fleet how the host is, and moves guests away when it is drained."""

    class Settings(PluginSettings):
        """Where the fleet's servers are, and who this host is there."""

        servers: Annotated[list[Annotated[str, AfterValidator(a_server)]], Field(min_length=1, max_length=16)] = Field(
            default_factory=lambda: ["nats://localhost:4222"]
        )
        """NATS servers with JetStream, such as `tls://nats1.example.org:4222`; within this host `nats://localhost:4222` will do."""

        host: Annotated[str, Field(pattern=NAME)] | None = None
        """This host's name in the fleet, as it was enrolled. Unset: the system's, up to the first dot."""

        key: ExistingFile | None = None
        """The file with this host's key, as `mom fleet enroll` made it; other users may not read it. Unset: the servers ask for none."""

        ca: ExistingFile | None = None
        """The certificates that the servers' own are checked with, as PEM. Unset: those that the system trusts."""

        operators: Annotated[list[Annotated[PublicKey, AfterValidator(whole_key)]], Field(max_length=64)] = Field(default_factory=list)
        """The public keys of the fleet's operators, as `mom fleet key` prints them. Nothing directs this host that none of them has signed.
        Unset: the host tells the fleet how it is, and follows nothing. Take a key out, and what it has signed is not followed any more."""

        publish: Annotated[Duration, Field(ge=1, le=30)] = 5.0
        """How often the fleet may hear how this host is: when something has changed, else every 30 s."""

        leave: bool = True
        """Whether guests may be moved away when the fleet's operator drains this host."""

    def __init__(self, settings: Settings, context: PluginContext) -> None:
        self._settings = settings
        self._context = context
        self._host = settings.host or socket.gethostname().partition(".")[0].lower()
        lost = "the group's policies are not in force before the fleet's servers answer"
        self._kept = context.state_file("group.json", "the file of the group's policies", TypeAdapter(GroupInForce), loss=lost)
        self._remembered: GroupInForce | None = None
        self._agent: FleetAgent | None = None
        self._report: Report | None = None
        self._undecided = False
        """True once the agent has asked whether a guest may leave, and that was not known."""
        self._empty = 0
        """For how many cycles in a row there have been no guests at all, by a hypervisor that answers."""
        self._begun: dict[str, int] = {}
        """Moves that were decided and are not over, by guest id, with the cycle in which they were. One that failed may be ordered again
        before the next cycle, as another one."""

    # --- life ------------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_declare(self) -> Iterable[FieldSpec]:
        """The flag that the fleet can be reached."""
        return [FieldSpec("fleet_connected", Unit.FLAG, Scope.HOST, "whether the fleet's servers can be reached", "the connection to NATS")]

    @hookimpl
    def mom_services(self) -> Mapping[type, Any]:
        """Which moves are the operator's own."""
        return {HostDrain: self}

    def is_ordered(self, decision: Decision) -> bool:
        """`HostDrain`: whether this host has accepted just that move of a coordinator."""
        moves = self._context.service(GuestMoves)
        if self._agent is None or moves is None or decision.control != moves.control or decision.source != Source(self._context.name):
            return False
        move = self._agent.moves().get(decision.entity.id)
        return move is not None and decision.value == str(move.destination)

    @hookimpl
    def mom_setup(self) -> None:
        """Begin to follow, unless a command only takes a look."""
        if not self._context.serves:
            return
        from mom_plugins_fleet.host.agent import FleetAgent
        from mom_plugins_fleet.revisions import FILE, FORM, LOSS, WHAT, SeenRevisions

        if not re.fullmatch(NAME, self._host):
            raise MomError(f"the system's name {printable(self._host)} cannot be used in a fleet", hint="give the plugin fleet a `host`")
        settings = self._settings
        self._agent = FleetAgent(
            self._access(),
            self._host,
            settings.publish,
            self._context.log,
            operators=settings.operators,
            revisions=SeenRevisions(self._context.state_file(FILE, WHAT, FORM, loss=LOSS)),
            apply=self._apply,
            remembered=self.remembered,
            state=self._state,
            accepts=self._accepts,
            wake=self._context.wake,
        )
        self._agent.start()

    @hookimpl
    def mom_teardown(self) -> None:
        """Leave the servers."""
        if self._agent is not None:
            self._agent.close()

    def _access(self) -> Access:
        from mom_plugins_fleet.link import Access

        return Access(self._settings.servers, self._settings.ca, self._settings.key)

    # --- the cycle -------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_collect_host(self) -> Mapping[str, Value]:
        """The flag that the fleet can be reached."""
        return {} if self._agent is None else {"fleet_connected": self._agent.connected}

    @hookimpl
    def mom_problems(self) -> Iterable[Problem]:
        """Report the trouble of the fleet's agent."""
        if self._agent is not None and self._agent.trouble:
            yield Problem(Source(self._context.name), self._agent.trouble, severity=Severity.WARNING)

    @hookimpl
    def mom_act(self, snapshot: Snapshot) -> Iterable[Decision]:
        """Decide on the moves that this host has accepted, each once."""
        agent = self._agent
        if agent is None:
            return
        moves, mover = agent.moves(), self._context.service(GuestMoves)
        self._begun = {identity: number for identity, number in self._begun.items() if identity in moves}
        for identity, move in moves.items():
            guest = snapshot.guests.get(identity)
            if guest is None:
                if snapshot.guests or self._empty >= EMPTY_CYCLES:
                    self._over(agent, identity, MoveState.DONE)
            elif mover is None:  # what an earlier run of mom has accepted, with another configuration
                self._over(agent, identity, MoveState.FAILED, NO_MOVER)
            elif identity in self._begun:
                self._look_at(guest, snapshot.number, agent, mover)
            elif _is_moving(guest, mover):  # an earlier run of mom has begun it
                self._begun[identity] = snapshot.number
            elif not (agent.draining or (agent.balance and move.balance)) or not self._settings.leave:  # ended since it was accepted
                self._over(agent, identity, MoveState.FAILED, "guests are not to leave the host any more")
            else:
                self._begun[identity] = snapshot.number
                why = "the host is drained" if agent.draining else "hosts are nearer to balance then"
                reason = f"{why}; {printable(move.to)} has room"
                yield Decision(guest.entity, mover.control, str(move.destination), reason, Source(self._context.name))

    def _look_at(self, guest: Guest, number: int, agent: FleetAgent, mover: GuestMoves) -> None:
        """See if a guest that was to move is still here because the move has failed. One that has moved is not here any more."""
        # A snapshot is as old as the cycle that took it; the one in which the move was begun knew nothing of it.
        passed = number - self._begun[guest.id]
        found = mover.progress(guest)
        if passed < 1 or found is None or found.moving or (not found.error and passed < STILL_HERE_CYCLES):
            return
        self._over(agent, guest.id, MoveState.FAILED, found.error or "the guest is still here")

    def _over(self, agent: FleetAgent, identity: str, state: MoveState, error: str = "") -> None:
        """A move has ended, one way or the other."""
        self._begun.pop(identity, None)
        agent.finished(identity, state, printable(error, 200))

    @hookimpl
    def mom_report(self, report: Report) -> None:
        """Note the results of moves, and how the host is."""
        self._report = report
        self._empty = 0 if report.snapshot.guests or _is_unlisted(report) else self._empty + 1
        agent, mover = self._agent, self._context.service(GuestMoves)
        if agent is not None and self._undecided:
            self._undecided = False
            agent.look()
        if agent is None or mover is None or not self._begun:
            return
        name, control = self._context.name, mover.control
        outcomes = {one.decision.entity.id: one for one in report.outcomes if one.decision.control == control}
        dropped = {one.before.entity.id: one.reason for one in report.revisions if one.before.control == control and one.after is None}
        for identity in {one.entity.id for one in report.decisions if one.control == control and one.source.name == name}:
            outcome = outcomes.get(identity)
            if outcome is None:
                self._over(agent, identity, MoveState.FAILED, dropped.get(identity, "no plugin on the host moved it"))
            elif outcome.status is not Status.APPLIED:  # else the next cycles see how it ends
                self._over(agent, identity, *_result(outcome))

    # --- what the agent asks for, in its thread ----------------------------------------------------------------------------------

    def _apply(self, group: str, found: Opened[Group], data: bytes | None) -> None:
        """Put a group's policies in force, and keep the record as it stood there, if it is given. Raises `MomError`."""
        from mom_plugins_fleet.host.group_policies import changes_to, fleet_texts

        policies = self._context.service(PolicyTexts)
        if policies is None:
            raise MomError("no plugin here takes policies", hint="enable the plugin policy")
        who = f"the fleet, group {group}, revision {found.revision}, signed by {found.by}"
        record = found.record
        changes = changes_to(record, fleet_texts(policies))
        path = self._kept.path.with_name(CLASSES)
        new = path.with_suffix(".new")
        try:
            differ = record.classes.encode() != (path.read_bytes() if path.exists() else b"")
            if record.classes and differ:  # beside the file first: what the disk does not take leaves the policies as they are
                path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
                replace_file(new, record.classes, durable=False)
            if changes:
                policies.change(changes, who=who)
            if not record.classes:
                path.unlink(missing_ok=True)
            elif differ:
                new.replace(path)
        except OSError as error:
            raise MomError(f"the group's classes cannot be kept: {path}: {error.strerror}", hint="see to mom's state directory") from None
        if data is not None:
            self.remember(group, data)

    def _classes_unused(self, record: Group) -> str:
        if not record.classes:
            return ""
        path, readers = self._kept.path.with_name(CLASSES), self._context.services(ClassFiles)
        why = [reader.why_unused(path) for reader in readers] or [f"no plugin reads them: enable sla, with `classes_file: {path}`"]
        return "" if "" in why else why[0][:400]

    def remember(self, group: str, data: bytes) -> None:
        """Keep a group's record for the next start, which may be one without servers."""
        content = GroupInForce(group, data.decode())
        if content != self._remembered:
            with suppress(StateError):  # mom says what is wrong with the file
                self._kept.write(asdict(content))
                self._remembered = content

    def remembered(self) -> tuple[str, Opened[Group]] | None:
        """The group and its record in force when mom ended; None when there was nothing, or it cannot be read.

        Of an operator who is none now nothing stays in force, neither policies nor classes: an empty record."""
        from mom_plugins_fleet.signatures import Opened, opened
        from mom_plugins_fleet.subjects import GROUPS

        found = self._kept.read()
        if found is None:
            return None
        try:
            return found.group, opened(Group, GROUPS, found.group, found.signed.encode(), self._settings.operators)
        except MomError as error:
            self._context.log.warning("the policies of the group %s are not in force any more: %s", printable(found.group), shown(error))
            return found.group, Opened(Group(), 0, "no operator")

    def _accepts(self, move: Move) -> str | None:
        """Why that guest does not leave now; empty: it does; None: that is not known before a later cycle, and no attempt is used up."""
        if not self._settings.leave:
            return LEAVES_NONE
        mover = self._context.service(GuestMoves)
        if mover is None:
            return NO_MOVER
        report = self._report
        if report is not None and report.mode != "enforce":
            return "the host only observes"
        guest = None if report is None else report.snapshot.guests.get(move.guest)
        # One that is moved now goes where the one who began that has said: maybe by orders that the servers have lost since.
        if report is None or self._is_blind(report) or (guest is not None and _is_moving(guest, mover)):
            self._undecided = True
            return None
        if guest is None:
            return "the guest is not here"
        return mover.why_stays(guest)

    def _is_blind(self, report: Report) -> bool:
        """True where a report does not say which guests are here now: it is old, or the hypervisor did not list them."""
        if self._context.monotonic() - report.snapshot.monotonic - report.duration > stale_seconds(self._context.interval):
            return True
        return not report.snapshot.guests and _is_unlisted(report)  # what is listed is known, though a condition stands a little longer

    def _state(self) -> HostState | None:
        """How this host is. None where that is not known: it is silent then, and not taken for one without guests."""
        report, agent = self._report, self._agent
        if report is None or agent is None or self._is_blind(report):
            return None
        taken = agent.taken
        host, all_guests = report.snapshot.host.fields, report.snapshot.guests
        promises, mover = self._context.service(Promises) or NO_PROMISES, self._context.service(GuestMoves)
        metrics = self._context.service(HostMetrics)
        swapped = _kib(host.get("swap_usage"), 1)
        guests = listed(_guest(guest, promises, self._why_stays(guest, mover), swapped) for guest in all_guests.values())
        named = {guest.id for guest in guests}
        others = [guest for identity, guest in all_guests.items() if identity not in named]
        return HostState(
            mode=report.mode,
            total=_kib(host.get("mem_available"), 1),
            available=_kib(host.get("mem_really_available"), GRAIN_KIB),
            promisable=_kib(host.get("mem_promisable"), 1),
            reserved=_kib(host.get("mem_reserved"), GRAIN_KIB) or 0,
            holds_promises=promises is not NO_PROMISES,
            memory_state=(report.snapshot.host.text("host_memory_state") or "")[:64],
            problems=len(report.problems),
            problem=_worst(report.problems),
            unhealthy=_unhealthy(report.snapshot),
            guests=guests,
            others=len(others),
            others_promised=min(LARGEST_KIB, sum(_promised(guest, promises) for guest in others)),
            group_revision=0 if taken is None or taken.refused else taken.revision,
            refused="" if taken is None else taken.refused,
            classes_unused="" if taken is None or taken.refused else self._classes_unused(taken.record),
            mover=_mover(mover),
            metrics_port=None if metrics is None else metrics.metrics_port,
            given_back=_kib(host.get("given_back_today"), GRAIN_KIB),
            waited=_seconds(host.get("waited_today")),
            promise_broken=_seconds(host.get("promise_broken_today")),
            killed=_kib(host.get("killed_today"), 1),
        )

    def _why_stays(self, guest: Guest, mover: GuestMoves | None) -> str:
        """Why whatever is ordered does not move that guest: a coordinator then orders nothing, and uses up none of the guest's attempts."""
        if not self._settings.leave:
            return LEAVES_NONE
        return guest.blocked.get("*") or NO_MOVER if mover is None else mover.why_stays(guest)

    # --- for people ----------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_doctor(self) -> Iterable[Finding]:
        """Say if the servers answer, and know this host."""
        from mom_plugins_fleet.link import Store, ask
        from mom_plugins_fleet.signatures import opened
        from mom_plugins_fleet.subjects import ROSTER

        subject = f"fleet {', '.join(map(printable, self._settings.servers))}"
        if not self._settings.operators:
            cure = "give the plugin fleet `operators`, the public keys that `mom fleet key` has printed"
            return [Finding(Severity.ERROR, subject, "no operator directs this host: nothing of the fleet's is followed here", cure)]

        async def looked(store: Store) -> Member | None:
            kept = await store.read(ROSTER, self._host)
            return None if kept.data is None else opened(Member, ROSTER, self._host, kept.data, self._settings.operators).record

        try:
            member = ask(self._access(), self._host, self._context.log, looked)
        except MomError as error:
            return [Finding(Severity.ERROR, subject, error.message, error.hint)]
        if member is None:
            return [Finding(Severity.ERROR, subject, f"it does not know the host {self._host}", "`mom fleet enroll` lets it in")]
        return [Finding(Severity.OK, subject, f"the host {self._host} is a member of the group {member.group}")]


def _is_unlisted(report: Report) -> bool:
    """True where the hypervisor has not listed its guests."""
    conditions = () if report.verdict is None else report.verdict.conditions
    return any(one.name == GUESTS_UNKNOWN and not one.over for one in conditions)


def _worst(problems: Sequence[Problem]) -> str:
    worst = min(problems, key=lambda one: one.severity is not Severity.ERROR, default=None)
    return "" if worst is None else printable(worst.message, 200)


def _result(outcome: Outcome) -> tuple[MoveState, str]:
    if outcome.status is Status.GONE:
        return MoveState.DONE, ""
    return MoveState.FAILED, outcome.error or f"the host says: {outcome.status}"


def _is_moving(guest: Guest, mover: GuestMoves) -> bool:
    found = mover.progress(guest)
    return found is not None and found.moving


def _guest(guest: Guest, promises: Promises, stays: str, host_swapped: int | None) -> HostedGuest:
    fields = guest.fields
    return HostedGuest(
        id=guest.id,
        name=printable(guest.name, 200),
        size=_kib(fields.get("balloon_cur"), GRAIN_KIB),
        maximum=_kib(fields.get("balloon_max"), 1),
        held=_held(fields, host_swapped),
        working=_kib(fields.get("working_set"), GRAIN_KIB),
        guarantee=_promised(guest, promises),
        stays=stays[:200],
    )


def _held(fields: Mapping[str, Value], host_swapped: int | None) -> int | None:
    """Memory that the host holds of a guest: its own, and what is in the host's swap of it. Where that is not known of the guest, as of one
    whose memory is shared, it may be all that is in the host's swap, as far as the guest can have it.

    :param host_swapped: what is in the host's swap in all, in KiB
    """
    held, swapped, most = (_kib(fields.get(name), 1) for name in ("rss", "host_swap", "balloon_max"))
    if held is not None and swapped is None and host_swapped is not None:
        swapped = host_swapped if most is None else min(host_swapped, max(0, most - held))
    return None if held is None or swapped is None else _kib(held + swapped + GRAIN_KIB - 1, GRAIN_KIB)


def _mover(moves: GuestMoves | None) -> MoverState | None:
    mover = None if moves is None else moves.mover()
    return None if mover is None else MoverState(name=printable(mover.name, 100), **asdict(mover.abilities))


def _unhealthy(snapshot: Snapshot) -> int | None:
    """How many guests are not well; None where none of them tells."""
    reasons = unhealthy_reasons(snapshot)
    known = [reason for reason in reasons if reason is not None]
    return sum(map(bool, known)) if known or not reasons else None


def _promised(guest: Guest, promises: Promises) -> int:
    promised = _kib(promises.promised_kib(guest), 1) or 0  # where it moves to, all of it may hold again
    if guest.blocked.get("*") != UNDESCRIBED:
        return promised
    most = (_kib(guest.fields.get(name), 1) for name in ("balloon_max", "balloon_cur"))
    return max(promised, next(filter(None, most), 0))  # what it is promised is not known yet: it may be all that it has


def _kib(value: Value, grain: int) -> int | None:
    number = as_number(value)
    return int(number) // grain * grain if number is not None and 0 <= number <= LARGEST_KIB else None


def _seconds(value: Value) -> float | None:
    found = as_number(value)
    return None if found is None or not 0 <= found < 1e12 else float(round(found))
