"""Values of a guest after each cycle, under a mom whose configuration changes."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from mom_core import Clock, Declaration, Engine, FieldSpec, Guest, Hypervisor, PluginContext, PluginSettings, Scope, Unit, Value, hookimpl
from mom_devkit import HandClock, config_of, host_of

INTERVAL = 5.0


def world_of(hypervisor: Hypervisor) -> type:
    """Return a plugin with this hypervisor, on a host with 8 CPUs and guests with four vCPUs."""

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
    """Guest `vm` with four vCPUs on a host with 8 CPUs, under qos and policy. `problems` are those of the last cycle.

    :param order: order of qos and policy below `plugins`
    :param look: function that returns the present value
    :param texts: policies of the operator
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
        """Load these settings of the guest and the plugin, and run cycles. Return the value after each."""
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
        """Stop or kill mom. Return the value. `goes_on` starts mom again."""
        if self._engine is not None:
            self._engine.close(put_back=put_back)
            self._engine = None
        return self._look()
