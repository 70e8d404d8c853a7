"""An example of a plugin for mom, to be copied: a control that is one file of the kernel, and an evaluator that may decide it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from mom_core import Decision, PluginContext, PluginSettings, Snapshot, Source, Unit, hookimpl
from mom_kvm import Knob, KnobPlugin

NAME = "vm_swappiness"
LOWEST, HIGHEST = 0, 200  # what the kernel accepts since 5.8: Documentation/admin-guide/sysctl/vm.rst


class SwappinessPlugin(KnobPlugin):
    """Reads and sets /proc/sys/vm/swappiness: how eagerly the host swaps out instead of dropping page cache."""

    class Settings(PluginSettings):
        """What the YAML section `swappiness:` may say."""

        highest: Annotated[int, Field(ge=LOWEST, le=HIGHEST)] = 100
        """The most that a policy may ask for. 100 means that swapping costs as much as reading a file again."""

        wanted: Annotated[int, Field(ge=LOWEST, le=HIGHEST)] | None = None
        """What to set when no policy decides."""

    # The control. Its field, what `mom doctor` says of it, and that it is put back follow from this.

    def __init__(self, settings: Settings, context: PluginContext) -> None:
        self._settings = settings
        path = context.root / "proc/sys/vm/swappiness"
        self.knobs = (Knob.of_file(NAME, Unit.COUNT, "How eagerly the host swaps, 0 to 200", path, LOWEST, settings.highest),)

    # What should be done. Two evaluators that disagree are no trouble: the plugin that stands first in the YAML file wins.

    @hookimpl
    def mom_evaluate(self, snapshot: Snapshot) -> Iterator[Decision]:
        """The wanted value, where the operator gave one."""
        if self._settings.wanted is not None:
            yield Decision(snapshot.host.entity, NAME, self._settings.wanted, "wanted by the settings", Source("swappiness"))
