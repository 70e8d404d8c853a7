"""Base class of plugins that set each control of the host by one file or call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mom_core import Change, ControlSpec, Declaration, FieldSpec, Finding, HypervisorError, Scope, Severity, Target, Unit, Value, hookimpl
from mom_kvm.hypervisors import set_each
from mom_kvm.kernel_files import read_number, write_file


@dataclass(frozen=True, slots=True)
class Knob:
    """Control of the host, with functions to read and write it. Its field has the same name.

    :param read: returns the value, or None if unknown; raises `HypervisorError`, such as `NotSupported` on a host without the control
    :param write: sets the value, or raises `HypervisorError`
    :param source: source of the value, such as `/proc/sys/vm/swappiness`
    """

    control: ControlSpec
    read: Callable[[], Value]
    write: Callable[[Value], None]
    source: str = ""

    @classmethod
    def of_file(
        cls,
        name: str,
        unit: Unit,
        description: str,
        path: Path,
        minimum: float | None = None,
        maximum: float | None = None,
        choices: Sequence[int] = (),
    ) -> Knob:
        """Return a knob for a file that contains one whole number.

        :param path: path of the file, below the context's `root`
        """

        def write(value: Value) -> None:
            write_file(path, f"{round(value) if isinstance(value, float) else value}\n")

        control = ControlSpec(name, unit, Scope.HOST, description, name, minimum, maximum, tuple(choices), file=str(path))
        return cls(control, lambda: read_number(path), write, str(path))

    @property
    def field(self) -> FieldSpec:
        """Declaration of the field that contains the present value."""
        return FieldSpec(self.control.field, self.control.unit, Scope.HOST, self.control.description, self.source)


class KnobPlugin:
    """Base class of plugins with knobs. Override a hook to extend its result."""

    knobs: Sequence[Knob] = ()
    """Knobs of the plugin. The subclass's constructor sets them."""

    @hookimpl
    def mom_declare(self) -> Iterable[Declaration]:
        return [spec for knob in self.knobs for spec in (knob.field, knob.control)]

    @hookimpl
    def mom_collect_host(self) -> Mapping[str, Value]:
        return {name: value for name, value in self._values().items() if not isinstance(value, HypervisorError)}

    @hookimpl
    def mom_read(self, targets: Sequence[Target]) -> Mapping[Target, Value | HypervisorError]:
        values = self._values()
        return {target: values.get(target.control) for target in targets}

    @hookimpl
    def mom_write(self, changes: Sequence[Change]) -> Mapping[Target, HypervisorError]:
        writers = {knob.control.name: knob.write for knob in self.knobs}
        return set_each(changes, lambda change: writers[change.control](change.value))

    @hookimpl
    def mom_doctor(self) -> Iterable[Finding]:
        for name, value in self._values().items():
            if isinstance(value, HypervisorError):
                yield Finding(Severity.ERROR, name, value.message, value.hint)
            else:
                yield Finding(Severity.OK, name, f"the present value is {value}")

    def _values(self) -> dict[str, Value | HypervisorError]:
        values: dict[str, Value | HypervisorError] = {}
        for knob in self.knobs:
            try:
                values[knob.control.name] = knob.read()
            except HypervisorError as error:
                values[knob.control.name] = error
        return values
