"""Plugin `sim`: a simulated host in place of a real hypervisor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

from mom_core import Columns, FieldSpec, Finding, Guest, Hypervisor, PluginContext, Severity, Value, hookimpl
from mom_kvm import late_hook
from mom_plugins_sim.fields import FIELDS
from mom_plugins_sim.hypervisor import SimHypervisor
from mom_plugins_sim.scene import Scene, SimSettings, mixture
from mom_plugins_sim.shelf import Shelf
from mom_plugins_sim.world import World


class SimPlugin:
    """Simulated host with guests. Enable `sim` before the `host` plugin: the simulated fields then take precedence."""

    Settings = SimSettings

    def __init__(self, settings: SimSettings, context: PluginContext) -> None:
        self._settings = settings
        self._context = context

    @cached_property
    def hypervisor(self) -> SimHypervisor:
        """Simulated hypervisor. The first access begins the simulation."""
        settings, clock = self._settings, self._context.monotonic
        shelf = None if settings.shelf is None else Shelf(settings.shelf, settings.host)
        scene = scene_of_settings(settings) if shelf is None else shelf.scene(settings)
        return SimHypervisor(World(scene, clock()), clock, shelf)

    @hookimpl
    def mom_declare(self) -> Iterable[FieldSpec]:
        return FIELDS

    @hookimpl
    def mom_hypervisor(self) -> Hypervisor:
        return self.hypervisor

    @hookimpl
    def mom_collect_host(self) -> Mapping[str, Value]:
        return self.hypervisor.host_fields()

    @hookimpl
    def mom_collect_guests(self, guests: Sequence[Guest]) -> Columns:
        return self.hypervisor.guest_columns(guests)

    mom_status = late_hook("mom_daemon:StatusPart.of_memory", "report")

    @hookimpl
    def mom_doctor(self) -> Iterable[Finding]:
        world = self._settings.scenario or f"{self._settings.guests} guests"
        message = f"a simulated host with simulated guests ({world}): nothing real is managed"
        yield Finding(Severity.WARNING, "simulation", message, "enable a real hypervisor's plugin, such as libvirt, instead of sim")


def scene_of_settings(settings: SimSettings) -> Scene:
    """Return the scene that these settings describe. Raise `MomError` for an invalid scenario."""
    if settings.scenario is None:
        return mixture(settings)
    from mom_plugins_sim.scenario.scene import scene_of
    from mom_plugins_sim.scenario.schema import find_scenario, read_scenario

    path = find_scenario(settings.scenario)
    return scene_of(read_scenario(path), path.parent, settings.seed)
