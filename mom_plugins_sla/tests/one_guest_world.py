"""Plugins sla and qos on a host whose classes are missing in some cycles, as with a late plugin."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from mom_core import Declaration, FieldSpec, Guest, Hypervisor, PluginContext, PluginSettings, Scope, Unit, Value, hookimpl
from mom_devkit import FakeGuest, FakeHypervisor, run_plugins
from mom_plugins_sla import SlaPlugin
from mom_plugins_sla.classes import SlaSettings

Seen = TypeVar("Seen")


class OneGuestWorld(FakeHypervisor):
    """Hypervisor with one guest, on a host with busy or idle disks."""

    def __init__(self, guest: FakeGuest) -> None:
        super().__init__([guest])
        self.guest_there = guest
        self.waited: float | None = 50.0
        self.refuses = self.classes_unheard = False

    def seen(
        self,
        folder: Path,
        cycles: int,
        change: Callable[[int], object],
        look: Callable[[], Seen],
        sla: SlaSettings,
        *,
        order: Sequence[str] = ("sla", "qos", "policy"),
        own: Mapping[str, Value] = {},  # not changed
        io_limits: bool = False,
    ) -> list[Seen]:
        """Return the results of `look` after each cycle. `change` is called before each.

        :param own: settings of the guest in the section `guests`
        """
        seen: list[Seen] = []
        world = self

        class World:
            def __init__(self, settings: PluginSettings, context: PluginContext) -> None:
                pass

            @hookimpl
            def mom_declare(self) -> Iterable[Declaration]:
                return [FieldSpec("psi_io_some_avg60", Unit.PERCENT, Scope.HOST, "how long some task waited for a disk", "the test")]

            @hookimpl
            def mom_hypervisor(self) -> Hypervisor:
                return world

            @hookimpl
            def mom_collect_host(self) -> Mapping[str, Value]:
                return {"psi_io_some_avg60": world.waited}

        class Classes(SlaPlugin):
            def __init__(self, settings: SlaSettings, context: PluginContext) -> None:
                super().__init__(sla, context)

            @hookimpl
            def mom_collect_guests(self, guests: Sequence[Guest]) -> Mapping[str, Mapping[str, Value]]:
                return {} if world.classes_unheard else super().mom_collect_guests(guests)

        def between(number: int) -> None:
            seen.append(look())
            change(number)

        named: dict[str, type | Mapping[str, object]] = {"sla": Classes, "qos": {"io_limits": io_limits}, "policy": {}}
        plugins = {"world": World, **{name: named[name] for name in order}}
        run_plugins(folder, plugins, cycles=cycles + 1, between=between, guests={"vm": own} if own else None)
        return seen[1:]
