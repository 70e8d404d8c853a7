"""Events of real guests that wake mom, and others."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import libvirt  # type: ignore[import-untyped]  # it has no types
import pytest
from libvirt_mom import LibvirtMom
from real_guests import Lab, RealGuest

from mom_devkit import wait_until
from mom_plugins_libvirt.events import GuestEvent

pytestmark = pytest.mark.real


@dataclass
class Listener(LibvirtMom):
    """The plugin with all events, also those that do not wake mom."""

    events: list[GuestEvent] = field(default_factory=list)

    def hears_of(self, kind: str, real: RealGuest) -> None:
        wait_until(lambda: any((event.kind, event.uuid) == (kind, real.uuid) for event in self.events), f"an event {kind}")


@pytest.fixture
def listener(make_mom: Callable[..., LibvirtMom]) -> Listener:
    mom = make_mom()
    listener = Listener(mom.plugin, mom.woken)
    passed_on = listener.hypervisor.connection.on_event
    assert passed_on is not None

    def heard(event: GuestEvent) -> None:
        listener.events.append(event)
        passed_on(event)

    listener.hypervisor.connection.on_event = heard
    listener.hypervisor.guests()
    return listener


def test_a_guests_whole_life_wakes_the_engine(listener: Listener, lab: Lab, tmp_path: Path) -> None:
    guest = lab.start("life")
    listener.hears(f"guest {guest.name} started")
    guest.domain.suspend()
    listener.hears(f"guest {guest.name} suspended")
    guest.domain.resume()
    listener.hears(f"guest {guest.name} resumed")
    saved = str(lab.libvirtd.folder / "saved")
    guest.domain.save(saved)
    listener.hears(f"guest {guest.name} stopped")
    lab.connection.restore(saved)
    listener.hears(f"guest {guest.name} started")
    assert listener.guest(guest) is not None
    guest.destroy()
    listener.hears(f"guest {guest.name} stopped")
    assert listener.guest(guest) is None


def test_limits_and_agents_are_heard_of_and_wake_nobody(listener: Listener, lab: Lab, tmp_path: Path) -> None:
    image = tmp_path / "disk"
    image.write_bytes(bytes(1 << 20))
    disk = f"<disk type='file'><driver name='qemu' type='raw'/><source file='{image}'/><target dev='vda' bus='virtio'/></disk>"
    channel = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
    guest = lab.start("all-kinds", devices=disk + channel)
    listener.hears_of("AGENT_LIFECYCLE", guest)
    guest.wait_until_up()
    listener.woken.clear()
    guest.domain.setBlockIoTune("vda", {"total_bytes_sec": 1 << 20}, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    listener.hears_of("TUNABLE", guest)
    listener.hypervisor.guests()
    (tune,) = listener.hypervisor.io_tunes([guest.entity])[guest.uuid]
    assert tune.current["total_bytes_sec"] == 1 << 20, "the event had the description read again"
    assert listener.woken == []
