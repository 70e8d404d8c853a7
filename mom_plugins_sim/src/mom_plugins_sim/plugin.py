"""The plugin: a simulated host in the place of a hypervisor, and `mom demo`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import Field, model_validator

from mom_core import (
    Columns,
    Duration,
    FieldSpec,
    Finding,
    Guest,
    Hypervisor,
    PluginContext,
    PluginSettings,
    Scope,
    Severity,
    Size,
    Value,
    hookimpl,
    printable,
)
from mom_plugins_sim.fields import FIELDS
from mom_plugins_sim.hypervisor import SimHypervisor
from mom_plugins_sim.scene import Scene, ScenePlan
from mom_plugins_sim.shelf import Shelf
from mom_plugins_sim.workload import HostLoad
from mom_plugins_sim.world import CLASS, World

if TYPE_CHECKING:
    from mom_cli import StatusPart
    from mom_core import Report


class SimPlugin:
    """A simulated host with guests. Enable it before `host`, so that its fields win over those of the real host."""

    class Settings(PluginSettings):
        """The world to simulate: a mixture of the usual guests, or a scenario or a recording, which say all of it."""

        scenario: str | None = None
        """The name of a scenario that comes with mom, or the path of a YAML file; then only `seed` counts besides."""

        recording: str | None = None
        """A recording, whose host and guests are simulated: guests want what they were seen to use."""

        begins: float | None = None
        """Of the recording, from then on; seconds since the epoch."""

        ends: float | None = None
        """Of the recording, up to then; seconds since the epoch."""

        more: Annotated[int, Field(ge=0, le=10_000)] = 0
        """Guests besides those of the recording, called advised-001 and so on, whose programs do what those of recorded ones did, at
        another time of it; `seed` says which."""

        more_memory: Size | None = None
        """The memory that each of them is sold; unset: as the recorded guest whose programs it runs."""

        guests: Annotated[int, Field(ge=0, le=100_000)] = 24
        """How many guests there are."""

        host_memory: Annotated[Size, Field(ge=1 << 30)] = 32 << 30
        """The host's memory."""

        host_swap: Size = 8 << 30
        """The host's swap, on a disk."""

        host_zram: Size = 0
        """The host's swap that is compressed in its own memory, instead of one on a disk."""

        sold: Annotated[float, Field(gt=0, le=10)] = 1.5
        """The memory of all guests together, as a multiple of the host's."""

        seed: int | None = None
        """The same seed gives the same host, guests and workloads. Unset: the scenario's, or 1."""

        statistics_period: Annotated[Duration, Field(gt=0)] = 5.0
        """How often guests send their statistics."""

        silent: Annotated[float, Field(ge=0, le=1)] = 0.0
        """Share of guests that send no statistics."""

        rigid: Annotated[float, Field(ge=0, le=1)] = 0.0
        """Share of guests without a balloon device."""

        cold: Annotated[float, Field(ge=0, le=1)] = 0.0
        """Share of what guests hold always that they hardly touch: 0.2 to 0.4 in programs of all kinds, by TMO (ASPLOS 2022)."""

        shelf: Path | None = None
        """A folder that several simulated hosts share, so that guests can be moved between them; unset: they cannot."""

        host: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,62}$")] = "host"
        """The name of this host there: it has a folder of that name on the shelf, with a file for each of its guests. The destination of
        a move to it is `qemu+tls://NAME/system`, as to a real host."""

        load: Size = 0
        """How much a program beside the guests takes of the host's memory for a while."""

        load_after: Annotated[Duration, Field(ge=0)] = 60.0
        """When that program begins."""

        load_for: Annotated[Duration, Field(ge=0)] = 240.0
        """How long it runs."""

        load_growth: Annotated[Size, Field(gt=0)] = 150 << 20
        """How much more it takes in each second, until it has all."""

        @model_validator(mode="after")
        def _guests_can_move(self) -> Self:
            if self.shelf is not None and (self.scenario is not None or self.recording is not None):
                raise ValueError("shelf: guests of a scenario or a recording cannot be moved; leave out shelf, or scenario and recording")
            return self

    def __init__(self, settings: Settings, context: PluginContext) -> None:
        self._settings = settings
        self._context = context
        self._made: SimHypervisor | None = None

    @property
    def hypervisor(self) -> SimHypervisor:
        """The simulated hypervisor; the simulation begins when it is first asked for."""
        if self._made is None:
            clock = self._context.monotonic
            settings, shelf = self._settings, None
            if settings.shelf is None:
                scene = scene_of_settings(settings)
            else:
                shelf = Shelf(settings.shelf, settings.host)
                scene = shelf.stocked(plan_of(settings))
            self._made = SimHypervisor(World(scene, clock()), clock, shelf)
        return self._made

    @hookimpl
    def mom_declare(self) -> Iterable[FieldSpec]:
        """Those of a real host and its guests, as far as they are simulated, and what only a simulation knows."""
        return FIELDS

    @hookimpl
    def mom_hypervisor(self) -> Hypervisor:
        """The simulated one."""
        return self.hypervisor

    @hookimpl
    def mom_collect_host(self) -> Mapping[str, Value]:
        """The simulated host."""
        return self.hypervisor.host_fields()

    @hookimpl
    def mom_collect_guests(self, guests: Sequence[Guest]) -> Columns:
        """The simulated guests."""
        return self.hypervisor.guest_columns(guests)

    @staticmethod
    @hookimpl
    def mom_status(report: Report) -> Iterable[StatusPart]:
        """The simulated host's memory."""
        from mom_plugins_sim.overview import host_parts

        return host_parts(report)

    @hookimpl
    def mom_doctor(self) -> Iterable[Finding]:
        """That none of this is real, and that classes which a scenario names are none without the plugin that knows them."""
        what = self._settings.scenario or f"{self._settings.guests} guests"
        message = f"a simulated host with simulated guests ({what}): nothing real is managed"
        yield Finding(Severity.WARNING, "simulation", message, "enable a real hypervisor's plugin, such as libvirt, instead of sim")
        sold = {guest.sold_as for guest in self.hypervisor.world.scene.guests if guest.sold_as is not None}
        if sold and (Scope.GUEST, CLASS) not in self._context.declarations.fields:
            message = f"guests are sold as {', '.join(sorted(sold))}, and no plugin knows classes: nothing is promised to them"
            yield Finding(Severity.WARNING, "simulation", printable(message, 200), "enable the plugin sla")


def scene_of_settings(settings: SimPlugin.Settings) -> Scene:
    """The scene of these settings. Raises `MomError` for a scenario that cannot be used."""
    if settings.recording is not None:
        from mom_plugins_sim.scenario.recorded import recording_at, scene_of_recording

        begins = float("-inf") if settings.begins is None else settings.begins
        ends = float("inf") if settings.ends is None else settings.ends
        scene = scene_of_recording(recording_at(Path(settings.recording)), begins, ends)
        if not settings.more:
            return scene
        from mom_plugins_sim.scenario.newcomers import with_newcomers

        memory = None if settings.more_memory is None else settings.more_memory / 1024
        return with_newcomers(scene, settings.more, memory, 1 if settings.seed is None else settings.seed)
    if settings.scenario is None:
        return plan_of(settings).scene()
    from mom_plugins_sim.scenario.library import find_scenario, read_scenario
    from mom_plugins_sim.scenario.scene import scene_of

    path = find_scenario(settings.scenario)
    return scene_of(read_scenario(path), path.parent, settings.seed)


def plan_of(settings: SimPlugin.Settings) -> ScenePlan:
    """The world that these settings describe."""
    return ScenePlan(
        guests=settings.guests,
        host_memory=settings.host_memory // 1024,
        seed=1 if settings.seed is None else settings.seed,
        sold=settings.sold,
        host_swap=settings.host_swap // 1024,
        host_zram=settings.host_zram // 1024,
        statistics_period=settings.statistics_period,
        silent=settings.silent,
        rigid=settings.rigid,
        load=HostLoad(settings.load / 1024, settings.load_after, settings.load_for, settings.load_growth / 1024),
        cold=settings.cold,
    )
