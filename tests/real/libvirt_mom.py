"""The plugin libvirt on a private libvirtd, set up like in the engine."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from guest_image import cache_folder
from private_libvirtd import PrivateLibvirtd
from real_guests import RealGuest

from mom_core import Guest, HypervisorError, PluginContext, Value
from mom_devkit import wait_until
from mom_plugins_libvirt import LibvirtPlugin
from mom_plugins_libvirt.hypervisor import LibvirtHypervisor


@dataclass
class LibvirtMom:
    """Plugin libvirt, with the reasons for which it woke mom."""

    plugin: LibvirtPlugin
    woken: list[str]

    @property
    def hypervisor(self) -> LibvirtHypervisor:
        found = self.plugin.mom_hypervisor()
        assert isinstance(found, LibvirtHypervisor)
        return found

    def guest(self, real: RealGuest) -> Guest | None:
        return next((guest for guest in self.hypervisor.guests() if guest.id == real.uuid), None)

    def reached(self, real: RealGuest) -> Guest | None:
        """Return the guest; None if it is missing, or libvirt is unreachable."""
        try:
            return self.guest(real)
        except HypervisorError:
            return None

    def listed(self, real: RealGuest) -> Guest:
        found = self.guest(real)
        assert found is not None
        return found

    def blocked(self, real: RealGuest) -> Mapping[str, str]:
        return self.listed(real).blocked

    def fields(self, real: RealGuest) -> Mapping[str, Value]:
        """Return the guest's fields in a new sample."""
        return self.plugin.mom_collect_guests(self.hypervisor, self.hypervisor.guests()).get(real.uuid, {})

    def size(self, real: RealGuest) -> int:
        """Wait until the guest's size is known, and return it in KiB."""
        size = wait_until(lambda: self.fields(real).get("balloon_cur"), f"the size of {real.name} is known", 60)
        assert isinstance(size, int)
        return size

    def hears(self, text: str) -> None:
        """Wait until the plugin has woken mom for this reason."""
        wait_until(lambda: text in self.woken, f"{text!r}, but: {self.woken}", 60)


@contextmanager
def libvirt_mom(libvirtd: PrivateLibvirtd, **settings: object) -> Iterator[LibvirtMom]:
    woken: list[str] = []
    plugin = LibvirtPlugin(
        LibvirtPlugin.Settings.model_validate(libvirtd.settings(**settings)), PluginContext(name="libvirt", wake=woken.append)
    )
    plugin.mom_setup()
    yield LibvirtMom(plugin, woken)
    plugin.mom_teardown()


@contextmanager
def another_host(libvirtd: PrivateLibvirtd) -> Iterator[PrivateLibvirtd]:
    """Start another libvirtd to which guests can be moved."""
    other = PrivateLibvirtd(cache_folder(), host_uuid="6f2c7c1e-8a54-4c8e-9a37-0d6a6f3d2b11", beside=libvirtd)
    try:
        other.start()
        yield other
    finally:
        other.stop()
