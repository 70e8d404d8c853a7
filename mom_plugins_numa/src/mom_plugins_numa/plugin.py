"""The plugin: collects where guests are, decides where they should be if it is told to, reviews, sets and puts back."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mom_core import (
    Change,
    ControlSpec,
    Decision,
    FieldSpec,
    Finding,
    Guest,
    Hypervisor,
    HypervisorError,
    PluginContext,
    Problem,
    Revision,
    Severity,
    Snapshot,
    Source,
    Suggestion,
    Target,
    Value,
    as_whole,
    hookimpl,
    printable,
)
from mom_plugins_numa.control import CONTROLS, BalancingKnobs
from mom_plugins_numa.fields import BALANCING, FIELDS, NODESET, PINS, look_fields, move_fields, nodeset_text, pins_text
from mom_plugins_numa.findings import findings
from mom_plugins_numa.lookout import Lookout, MemoryLook
from mom_plugins_numa.moves import PacedMover
from mom_plugins_numa.nodes import MIGRATIONS as MIGRATION_FIELDS
from mom_plugins_numa.nodes import (
    NumaNode,
    Rates,
    counted,
    cpus_to_nodes,
    node_fields,
    read_balancing,
    read_migrations,
    read_nodes,
    with_memory,
)
from mom_plugins_numa.numbers import joined
from mom_plugins_numa.pages import KernelPages, PageMover
from mom_plugins_numa.placement import Rules, reserve_of
from mom_plugins_numa.placement_decisions import FORM, Placing
from mom_plugins_numa.review import reviewed
from mom_plugins_numa.settings import NumaGuestSettings, NumaSettings
from mom_toolkit import NO_PROMISES, CpuPinControl, Explainer, NodeTuneControl, Promises


class NumaPlugin:
    """NUMA nodes, where guests are on them, and where they should be."""

    Settings = NumaSettings
    GuestSettings = NumaGuestSettings

    def __init__(self, settings: NumaSettings, context: PluginContext) -> None:
        self._settings = settings
        self._context = context
        self._rules = Rules(reserve_kib=None if settings.reserve is None else settings.reserve / 1024)
        self._nodes: Sequence[NumaNode] = ()
        self._nodes_of: Mapping[int, int] = {}
        self._rates = Rates()
        self._look_rate = Rates()
        self._lookout: Lookout | None = None
        self._mover: PacedMover | None = None
        self._unmovable = "it was not set up"
        self._pids: dict[str, int] = {}
        self._unreadable: Mapping[str, str] = {}
        self._seen: dict[str, tuple[MemoryLook, Mapping[str, Value]]] = {}
        """By guest id: the last look, and the fields that were made of it. Looks are a minute apart, cycles some seconds."""
        file = context.state_file("homes.json", "the file of guests' nodes", FORM, loss="guests stay pinned until mom ends")
        self._placing = Placing(context.name, self._rules, self._may_be_placed, file, enabled=settings.placement)

    @staticmethod
    @hookimpl
    def mom_suggest(root: Path) -> Suggestion | None:
        """Fits a host with several NUMA nodes."""
        count = len(with_memory(read_nodes(root)))
        return Suggestion(f"this host has {count} NUMA nodes", order=44) if count > 1 else None

    def make_pages(self) -> PageMover | str:
        """What moves pages, or why nothing can: the process ids of a host that is a folder of files are not this kernel's."""
        if self._context.root != Path("/"):
            return "the host is a folder of files"
        pages = KernelPages()
        return pages.missing() or pages

    # --- life --------------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_setup(self) -> None:
        """Threads begin when there is something to do for them."""
        settings, root = self._settings, self._context.root
        self._see_nodes()
        self._lookout = Lookout(root, settings.look_every, settings.look_share, lambda: self._nodes_of)
        pages = self.make_pages()
        if isinstance(pages, str):
            self._unmovable = pages
        else:
            self._unmovable = ""
            self._mover = PacedMover(root, pages, settings.move_rate / 1024, self._room)
        self._placing.load()

    @hookimpl
    def mom_teardown(self) -> None:
        """End the threads."""
        if self._mover is not None:
            self._mover.end()
        if self._lookout is not None:
            self._lookout.end()

    # --- declare -----------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_fields(self) -> Iterable[FieldSpec]:
        """Nodes, and guests on them."""
        return FIELDS

    @hookimpl
    def mom_controls(self) -> Iterable[ControlSpec]:
        """Pins, nodes, moves, and the kernel's balancing."""
        return CONTROLS

    # --- collect -----------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_collect_host(self) -> Mapping[str, Value]:
        """The nodes now."""
        root, now = self._context.root, self._context.monotonic()
        self._see_nodes()
        fields = node_fields(self._nodes)
        migrations = {MIGRATION_FIELDS[name]: count for name, count in read_migrations(root).items()}
        fields.update({name: round(rate, 2) for name, rate in self._rates.since({**counted(self._nodes), **migrations}, now).items()})
        fields[BALANCING] = read_balancing(root)
        if self._lookout is not None:
            spent = self._look_rate.since({"microseconds": int(self._lookout.spent * 1e6)}, now)
            if spent:
                fields["numa_look_usage"] = round(spent["microseconds"] / 1e4, 2)
        return fields

    @hookimpl
    def mom_collect_guests(self, hypervisor: Hypervisor, guests: Sequence[Guest]) -> Mapping[str, Mapping[str, Value]]:
        """Where the guests were seen last, and what is set for them."""
        entities = [guest.entity for guest in guests]
        self._pids = {guest.id: pid for guest in guests if (pid := _pid(guest))}
        looks = {} if self._lookout is None else self._lookout.follow(self._pids)
        moves = {}
        if self._mover is not None:
            self._mover.keep(self._pids)
            moves = self._mover.moves()
        pins = hypervisor.cpu_pins(entities) if isinstance(hypervisor, CpuPinControl) else {}
        tunes = hypervisor.node_tunes(entities) if isinstance(hypervisor, NodeTuneControl) else {}
        every = frozenset(node.number for node in with_memory(self._nodes))
        now = time.monotonic()
        before, self._seen = self._seen, {}
        found: dict[str, Mapping[str, Value]] = {}
        for guest in guests:
            fields: dict[str, Value] = {}
            look = looks.get(guest.id)
            if look is not None:
                seen = before.get(guest.id)
                if seen is None or seen[0] is not look:
                    seen = look, look_fields(look, self._nodes_of)
                self._seen[guest.id] = seen
                fields.update(seen[1])
                fields["numa_memory_age"] = round(max(0.0, now - look.at), 1)
            if pins.get(guest.id):
                fields[PINS] = pins_text(pins[guest.id])
            if guest.id in tunes:
                fields[NODESET] = nodeset_text(tunes[guest.id], every)
            if self._mover is not None and guest.id in self._pids:
                fields.update(move_fields(moves.get(guest.id)))
            found[guest.id] = fields
        self._unreadable = {guest.name: look.error for guest in guests if (look := looks.get(guest.id)) is not None and look.error}
        return found

    # --- evaluate ----------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_act(self, snapshot: Snapshot) -> Iterable[Decision | Problem]:
        """Placement, if it is on; and what keeps guests from being looked at."""
        yield from self._placing.decide(snapshot)
        if self._unreadable:
            names = joined(printable(name) for name in self._unreadable)
            message = f"where the memory of {names} is cannot be read: {next(iter(self._unreadable.values()))}"
            yield Problem(Source(self._context.name), message, severity=Severity.WARNING, hint="run mom as root; see mom doctor")

    @hookimpl
    def mom_review(self, snapshot: Snapshot, decisions: Sequence[Decision]) -> Iterable[Revision]:
        """No guest goes where there is no memory for it, whatever plugin decides so."""
        return reviewed(snapshot, decisions, self._rules, self._context.service(Promises) or NO_PROMISES)

    # --- control -----------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_read(self, hypervisor: Hypervisor, targets: Sequence[Target]) -> Mapping[Target, Value | HypervisorError]:
        """What the controls stand at."""
        return self._knobs(hypervisor).read(targets)

    @hookimpl
    def mom_write(self, hypervisor: Hypervisor, changes: Sequence[Change]) -> Mapping[Target, HypervisorError]:
        """Set them. Memory that was moved stays where it is when they are put back."""
        return self._knobs(hypervisor).write(changes)

    # --- surface -----------------------------------------------------------------------------------------------------------------

    @staticmethod
    @hookimpl
    def mom_explainer() -> Explainer:
        """The nodes that the guest is on."""
        from mom_plugins_numa.explanation import NodesExplainer

        return NodesExplainer()

    @hookimpl
    def mom_doctor(self, hypervisor: Hypervisor | None) -> Iterable[Finding]:
        """Nodes, guests, and who else moves memory."""
        return findings(hypervisor, self._context.root, self._unmovable, placement=self._settings.placement)

    # --- inside ------------------------------------------------------------------------------------------------------------------

    def _see_nodes(self) -> None:
        self._nodes = read_nodes(self._context.root)
        self._nodes_of = cpus_to_nodes(self._nodes)

    def _knobs(self, hypervisor: Hypervisor) -> BalancingKnobs:
        return BalancingKnobs(self._context.root, hypervisor, self._pids, self._mover, self._unmovable)

    def _room(self, number: int) -> int | None:
        """KiB that a node can still take, read now: a move must see what it does."""
        for node in read_nodes(self._context.root):
            if node.number == number:
                return node.available - round(reserve_of(node.total, self._rules))
        return None

    def _may_be_placed(self, guest: Guest) -> bool:
        settings = self._context.guest_settings(guest)
        return settings.numa_placement if isinstance(settings, NumaGuestSettings) else True


def _pid(guest: Guest) -> int:
    return max(0, as_whole(guest.properties.get("pid")) or 0)
