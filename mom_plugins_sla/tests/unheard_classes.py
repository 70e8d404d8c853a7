"""The plugin sla on a host where classes are not told in some cycles, as where a plugin is late."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from mom_core import Guest, PluginContext, Value, hookimpl
from mom_plugins_sla import SlaPlugin
from mom_plugins_sla.settings import SlaSettings


class World(Protocol):
    classes_unheard: bool


def sla_of(world: World, own: SlaSettings) -> type[SlaPlugin]:
    """The plugin with these settings, which tells nothing of classes while the world says so."""

    class Classes(SlaPlugin):
        def __init__(self, settings: SlaSettings, context: PluginContext) -> None:
            super().__init__(own, context)

        @hookimpl
        def mom_collect_guests(self, guests: Sequence[Guest]) -> Mapping[str, Mapping[str, Value]]:
            return {} if world.classes_unheard else super().mom_collect_guests(guests)

    return Classes
