"""Checks of a hypervisor: the list of guests, and what its capabilities do about a guest that is not there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from mom_core import (
    BalloonControl,
    CpuTuneControl,
    Entity,
    Finding,
    Guest,
    GuestEvents,
    GuestGone,
    Hypervisor,
    HypervisorError,
    IoTuneControl,
    NetTuneControl,
    Scope,
)
from mom_core.plugins.bounded import describe
from mom_devkit.conformance.subject import ExaminedPlugin, alive
from mom_toolkit import AgentAccess, CpuPinControl, Destination, LifecycleControl, MigrationControl, NodeTuneControl

GHOST: Final = Entity(Scope.GUEST, "5e5e5e5e-0000-4000-8000-00000000dead", "conformance-ghost")
ELSEWHERE: Final = Destination("qemu", "/system", "tls", host="conformance.invalid")
"""A host that there can never be."""
"""A guest that no hypervisor has."""


def hypervisor(subject: ExaminedPlugin) -> Iterator[Finding]:
    """A hypervisor lists guests that are told apart, and says `GuestGone` of one that it does not have."""
    if not hasattr(subject.plugin_class, "mom_hypervisor"):
        return
    with alive(subject) as life:
        owner = life.engine.plugins.hypervisor_owner
        if owner is None or owner.name != subject.name:
            return
        one = life.engine.hypervisor
        if not isinstance(one.uri, str) or not one.uri:
            yield subject.fault("its hypervisor has no uri", "give it the name that people use, such as qemu:///system")
        try:
            guests = list(one.guests())
        except HypervisorError as error:
            yield subject.remark(f"its hypervisor cannot be reached here, so it was not looked at: {error}", "give settings that reach one")
            return
        yield from _listed(subject, guests)
        yield from _asked(subject, one)


def _listed(subject: ExaminedPlugin, guests: Sequence[Guest]) -> Iterator[Finding]:
    if not guests:
        yield subject.remark("its hypervisor has no guests here, so how it lists them was not checked", "give settings or a host with some")
    ids = [guest.id for guest in guests]
    if len(set(ids)) < len(ids):
        yield subject.fault("two guests have one id", "take the UUID")
    for guest in guests:
        for name in ("name", "uuid"):
            if not guest.properties.get(name):
                yield subject.fault(f"the guest {guest.entity} has no property {name}", "`properties` hold at least name and uuid")
        if guest.fields:
            yield subject.fault(f"the guest {guest.entity} is listed with fields", "collect them in mom_collect_guests")
        if not guest.incarnation:
            yield subject.remark(
                f"the guest {guest.entity} has no incarnation",
                "without one, mom takes a guest that was started anew for the one that it changed",
            )


def _readings(one: Hypervisor) -> Iterator[tuple[str, Callable[[Sequence[Entity]], object]]]:
    """What can be read of all guests at once, by name."""
    if isinstance(one, BalloonControl):
        yield "balloon_sizes", one.balloon_sizes
    if isinstance(one, CpuTuneControl):
        yield "cpu_tunes", one.cpu_tunes
    if isinstance(one, IoTuneControl):
        yield "io_tunes", one.io_tunes
    if isinstance(one, NetTuneControl):
        yield "net_tunes", one.net_tunes
    if isinstance(one, AgentAccess):
        yield "agent_channels", one.agent_channels
    if isinstance(one, CpuPinControl):
        yield "cpu_pins", one.cpu_pins
    if isinstance(one, NodeTuneControl):
        yield "node_tunes", one.node_tunes
    if isinstance(one, LifecycleControl):
        yield "standings", one.standings


def _changes(one: Hypervisor) -> Iterator[tuple[str, Callable[[], object]]]:
    """What can be done to a guest, by name, and how to try it on one that does not exist."""
    if isinstance(one, BalloonControl):
        yield "set_balloon", lambda: one.set_balloon(GHOST, 1 << 20)
    if isinstance(one, CpuTuneControl):
        yield "set_cpu_tune", lambda: one.set_cpu_tune(GHOST, shares=1024)
    if isinstance(one, IoTuneControl):
        yield "set_io_tune", lambda: one.set_io_tune(GHOST, "vda", {"total_iops_sec": 0})
    if isinstance(one, NetTuneControl):
        yield "set_net_tune", lambda: one.set_net_tune(GHOST, "vnet0", {}, {})
    if isinstance(one, CpuPinControl):
        yield "set_cpu_pin", lambda: one.set_cpu_pin(GHOST, 0, {0})
    if isinstance(one, NodeTuneControl):
        yield "set_node_tune", lambda: one.set_node_tune(GHOST, {0})
    if isinstance(one, MigrationControl):
        yield "migrate", lambda: one.migrate(GHOST, ELSEWHERE, 1.0)
    if isinstance(one, LifecycleControl):
        yield "pause", lambda: one.pause(GHOST)
        yield "resume", lambda: one.resume(GHOST)
        yield "save", lambda: one.save(GHOST, 1.0)
        yield "shut_down", lambda: one.shut_down(GHOST)
        yield "start", lambda: one.start(GHOST, 1.0)


def _asked(subject: ExaminedPlugin, one: Hypervisor) -> Iterator[Finding]:
    for name, read in _readings(one):
        try:
            answer = read([GHOST])
        except Exception as error:  # noqa: BLE001  # whatever the hypervisor raises is the finding
            yield subject.fault(f"{name} of a guest that is gone raises {describe(error)}", "leave it out of the mapping: the others count")
            continue
        if answer:
            yield subject.fault(f"{name} knows a guest that does not exist", "leave out what is not there")
    for name, change in _changes(one):
        try:
            change()
        except GuestGone:
            continue
        except HypervisorError as error:
            yield subject.remark(
                f"{name} of a guest that is gone raises {type(error).__name__}", "raise GuestGone: controllers tell it from other failures"
            )
        except Exception as error:  # noqa: BLE001  # as above
            yield subject.fault(f"{name} of a guest that is gone raises {describe(error)}", "raise GuestGone")
        else:
            yield subject.fault(f"{name} of a guest that is gone does nothing and says nothing", "raise GuestGone")
    if isinstance(one, GuestEvents):
        end = one.subscribe(lambda what: None)
        end()
