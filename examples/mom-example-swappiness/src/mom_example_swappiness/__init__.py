"""An example of a plugin for mom, to be copied: one field that it collects, one control that it applies and puts back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated

from pydantic import Field

from mom_core import (
    ControlSpec,
    Decision,
    FieldSpec,
    Finding,
    LedgerEntry,
    Outcome,
    PluginContext,
    PluginSettings,
    Scope,
    Severity,
    Snapshot,
    Source,
    Status,
    Unit,
    Value,
    hookimpl,
)

FIELD = "vm_swappiness"
LOWEST, HIGHEST = 0, 200  # what the kernel accepts since 5.8: Documentation/admin-guide/sysctl/vm.rst


class SwappinessPlugin:
    """Reads and sets /proc/sys/vm/swappiness: how eagerly the host swaps out instead of dropping page cache."""

    contract = "1.0"

    class Settings(PluginSettings):
        """What the YAML section `swappiness:` may say."""

        highest: Annotated[int, Field(ge=LOWEST, le=HIGHEST)] = 100
        """The most that a policy may ask for. 100 means that swapping costs as much as reading a file again."""

        wanted: Annotated[int, Field(ge=LOWEST, le=HIGHEST)] | None = None
        """What to set when no policy decides."""

    def __init__(self, settings: Settings, context: PluginContext) -> None:
        self._settings = settings
        self._path = context.root / "proc/sys/vm/swappiness"

    # What there is.

    @hookimpl
    def mom_fields(self) -> Iterable[FieldSpec]:
        """One field of the host."""
        yield FieldSpec(FIELD, Unit.COUNT, Scope.HOST, "How eagerly the host swaps, 0 to 200", "/proc/sys/vm/swappiness")

    @hookimpl
    def mom_controls(self) -> Iterable[ControlSpec]:
        """One control; the core saves the field's value before the control is first used, and keeps decisions within the bounds."""
        yield ControlSpec(FIELD, Unit.COUNT, Scope.HOST, "How eagerly the host swaps", FIELD, LOWEST, self._settings.highest)

    # What it is now. An exception is fine: it is reported, and the field is unknown in this cycle.

    @hookimpl
    def mom_collect_host(self) -> Mapping[str, Value]:
        """The present value."""
        return {FIELD: self._read()}

    # What should be done. Two evaluators that disagree are no trouble: the plugin that stands first in the YAML file wins.

    @hookimpl
    def mom_evaluate(self, snapshot: Snapshot) -> Iterator[Decision]:
        """The wanted value, where the operator gave one."""
        if self._settings.wanted is not None:
            yield Decision(snapshot.host.entity, FIELD, self._settings.wanted, "wanted by the settings", Source("swappiness"))

    # How it is done. One outcome for each decision, whatever happens.

    @hookimpl
    def mom_control(self, decisions: Sequence[Decision]) -> Iterator[Outcome]:
        """Set what was decided."""
        for decision in decisions:
            yield self._set(decision)

    @hookimpl
    def mom_restore(self, entries: Sequence[LedgerEntry]) -> Iterator[Outcome]:
        """Put back what stood there before mom, unless somebody else has changed it since."""
        for entry in entries:
            decision = Decision(entry.entity, entry.control, entry.before, "as it was before mom")
            yield self._set(decision, entry)

    # What an operator should know before: `mom doctor`.

    @hookimpl
    def mom_doctor(self) -> Iterable[Finding]:
        """Whether the knob is there."""
        if self._path.exists():
            yield Finding(Severity.OK, "swappiness", f"{self._path} holds {self._read()}")
        else:
            yield Finding(
                Severity.ERROR, "swappiness", f"there is no {self._path}", "run mom on the host, not in a container without /proc/sys"
            )

    def _read(self) -> int:
        return int(self._path.read_text())

    def _set(self, decision: Decision, entry: LedgerEntry | None = None) -> Outcome:
        """Write the decision's value, unless an entry is given that does not explain what is found."""
        before: int | None = None
        try:
            before = self._read()
            if entry is not None and not entry.explains(before):
                return Outcome(decision, before, before, Status.LEFT_ALONE)
            if before == decision.value:
                return Outcome(decision, before, before, Status.UNCHANGED)
            self._path.write_text(f"{decision.value}\n")
            return Outcome(decision, before, self._read(), Status.APPLIED)
        except (OSError, ValueError) as error:
            return Outcome(decision, before, before, Status.FAILED, str(error))
