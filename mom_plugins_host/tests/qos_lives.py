"""Lives of a guest under a mom whose configuration changes: what stands after each cycle."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from mom_core import Clock, Declaration, Engine, FieldSpec, Guest, Hypervisor, PluginContext, PluginSettings, Scope, Unit, Value, hookimpl
from mom_devkit import HandClock, config_of, host_of

INTERVAL = 5.0


def world_of(hypervisor: Hypervisor) -> type:
    """A plugin with this hypervisor on a host with 8 CPUs, whose guests have four vCPUs each."""

    class World:
        def __init__(self, settings: PluginSettings, context: PluginContext) -> None:
            pass

        @hookimpl
        def mom_declare(self) -> Iterable[Declaration]:
            yield FieldSpec("cpu_count", Unit.COUNT, Scope.HOST, "CPUs", "the test")
            yield FieldSpec("vcpu_count", Unit.COUNT, Scope.GUEST, "vCPUs", "the test")

        @hookimpl
        def mom_hypervisor(self) -> Hypervisor:
            return hypervisor

        @hookimpl
        def mom_collect_host(self) -> Mapping[str, Value]:
            return {"cpu_count": 8}

        @hookimpl
        def mom_collect_guests(self, guests: Sequence[Guest]) -> Mapping[str, Mapping[str, Value]]:
            return {guest.id: {"vcpu_count": 4} for guest in guests}

    return World


class Life:
    """One guest `vm` of a host with 8 CPUs, which it has four vCPUs for, as plugins and policies have it. `problems` are those of the last
    cycle.

    :param order: in which qos and policy stand below `plugins`
    :param look: gives what stands
    :param texts: the operator's own policies
    """

    def __init__(
        self, folder: Path, hypervisor: Hypervisor, order: Sequence[str], look: Callable[[], object], texts: Mapping[str, str] | None = None
    ) -> None:
        self.problems: list[str] = []
        self._folder, self._order, self._look = folder, order, look
        self._clock = HandClock()
        self._engine: Engine | None = None
        host_of(folder / "policy.d", {"README": "", **{f"{name}.policy": text for name, text in (texts or {}).items()}})

        self._world = world_of(hypervisor)

    def goes_on(self, cycles: int, said: Mapping[str, object] | None = None, **qos: object) -> list[object]:
        """What stands after each of so many cycles, with these settings of the guest and of the plugin, which are read before the first."""
        named: Mapping[str, Mapping[str, object]] = {"qos": qos, "policy": {"directory": str(self._folder / "policy.d")}}
        plugins: dict[str, type | Mapping[str, object]] = {"world": self._world, **{name: named[name] for name in self._order}}
        config = config_of(self._folder, plugins, guests={"vm": said} if said else None, interval=INTERVAL)
        if self._engine is None:
            self._engine = Engine(config, Clock(self._clock, self._clock.wall))
            self._engine.open()
        else:
            self._engine.reload(config)
        seen = []
        for _ in range(cycles):
            self._clock.now += INTERVAL
            self.problems = [problem.message for problem in self._engine.cycle().problems]
            seen.append(self._look())
        return seen

    def ends(self, *, put_back: bool = True) -> object:
        """mom is stopped, or killed; what stands then. It is started again when it goes on."""
        if self._engine is not None:
            self._engine.close(put_back=put_back)
            self._engine = None
        return self._look()
