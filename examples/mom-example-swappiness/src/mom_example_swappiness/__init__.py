"""Example of a plugin for mom: a control for one file of the kernel, and an evaluator that can decide its value. Copy it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from mom_core import Decision, PluginContext, PluginSettings, Snapshot, Source, Unit, hookimpl
from mom_kvm import Knob, KnobPlugin

NAME = "vm_swappiness"
LOWEST, HIGHEST = 0, 200  # what the kernel accepts since 5.8: Documentation/admin-guide/sysctl/vm.rst


class SwappinessPlugin(KnobPlugin):
    """Plugin for /proc/sys/vm/swappiness: the host's tendency to swap instead of dropping page cache."""

    class Settings(PluginSettings):
        """Settings of the YAML section `swappiness:`."""

        highest: Annotated[int, Field(ge=LOWEST, le=HIGHEST)] = 100
        """The largest value that a policy may set. 100 means that swapping costs as much as reading a file again."""

        wanted: Annotated[int, Field(ge=LOWEST, le=HIGHEST)] | None = None
        """Value without a decision of a policy."""

    # The control. KnobPlugin derives its field, its line in `mom doctor` and its restoring from this.

    def __init__(self, settings: Settings, context: PluginContext) -> None:
        self._settings = settings
        path = context.root / "proc/sys/vm/swappiness"
        self.knobs = (Knob.of_file(NAME, Unit.COUNT, "The host's tendency to swap, 0 to 200", path, LOWEST, settings.highest),)

    # The evaluator. If several evaluators disagree, the first plugin in the YAML file wins.

    @hookimpl
    def mom_evaluate(self, snapshot: Snapshot) -> Iterator[Decision]:
        """Decide the value of the settings, if there is one."""
        if self._settings.wanted is not None:
            yield Decision(snapshot.host.entity, NAME, self._settings.wanted, "the value of the settings", Source("swappiness"))
