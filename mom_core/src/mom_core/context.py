"""Context of a plugin."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mom_core.columns import Columns
from mom_core.files import RUN_DIRECTORY, STATE_DIRECTORY
from mom_core.model import ControlSpec, EngineState, FieldSpec, Guest, GuestColumn, Scope, Snapshot, Value
from mom_core.settings import GuestSettings
from mom_core.state_files import StateFile

if TYPE_CHECKING:
    from pydantic import TypeAdapter


Content = TypeVar("Content")
Service = TypeVar("Service")


@dataclass(frozen=True, slots=True)
class Declarations:
    """Declarations of all enabled plugins. If plugins declare the same name, the first in file order wins.

    :param control_owners: name of the declaring plugin, keyed by control
    :param field_owners: name of the declaring plugin, keyed by field
    """

    fields: Mapping[tuple[Scope, str], FieldSpec] = field(default_factory=dict)
    controls: Mapping[str, ControlSpec] = field(default_factory=dict)
    control_owners: Mapping[str, str] = field(default_factory=dict)
    policies: Mapping[str, str] = field(default_factory=dict)
    field_owners: Mapping[tuple[Scope, str], str] = field(default_factory=dict)
    explainers: Mapping[str, Callable[[], object]] = field(default_factory=dict)
    derivations: Sequence[Callable[[Snapshot], Snapshot.Derived]] = ()
    guest_columns: Sequence[GuestColumn] = ()

    def derived(self, snapshot: Snapshot) -> Snapshot:
        """Return a copy of a snapshot with derived fields. Existing fields take precedence."""
        for derive in self.derivations:
            derived = derive(snapshot)
            rows: Sequence[Mapping[str, Value]]
            rows = (
                derived.guests.rows()
                if isinstance(derived.guests, Columns)
                else [derived.guests.get(identity, {}) for identity in snapshot.guests]
            )
            guest_rows = zip(snapshot.guests.items(), rows, strict=False)  # without columns there are no rows
            guests = {identity: replace(guest, fields={**row, **guest.fields}) for (identity, guest), row in guest_rows} or snapshot.guests
            snapshot = replace(snapshot, host=replace(snapshot.host, fields={**derived.host, **snapshot.host.fields}), guests=guests)
        return snapshot


@dataclass(slots=True)
class PluginContext:
    """Argument of a plugin's constructor. Tests may create one without arguments.

    `wake(reason)` requests an early cycle. Any thread may call it; mom limits the rate.
    """

    name: str = "plugin"
    root: Path = Path("/")
    """Folder with /proc and /sys."""
    state_directory: Path = STATE_DIRECTORY
    """Folder for persistent files; see `state_file`."""
    run_directory: Path = RUN_DIRECTORY
    """Folder for sockets and files that need not survive a reboot."""
    declarations: Declarations = field(default_factory=Declarations)
    """Declarations of all plugins, complete from `mom_setup` on. A reload replaces `declarations`, `offers`, `interval`,
    `guest_settings` and `configuration`."""
    offers: Mapping[Any, Sequence[Any]] = field(default_factory=dict)
    """Services keyed by protocol, for `service` and `services`."""
    interval: float = 5.0
    guest_settings: Callable[[Guest], GuestSettings] = lambda _: GuestSettings()
    """Returns a guest's settings for this plugin, merged from all matching patterns in file order."""
    configuration: Callable[[], Mapping[str, Value]] = dict
    """Returns all settings as in the YAML file, with masked secrets."""
    serves: bool = True
    """False in commands that only inspect, such as `mom doctor`. Plugins must then not listen on sockets."""
    engine_state: Callable[[], EngineState] = EngineState
    """Returns the engine's state. Thread-safe."""
    wake: Callable[[str], None] = lambda _: None
    monotonic: Callable[[], float] = time.monotonic
    """Engine's clock in seconds; it runs fast in a simulation."""
    state_files: list[StateFile[Any]] = field(default_factory=list)

    @property
    def observes(self) -> bool:
        """True in observe mode."""
        return self.configuration().get("mode") == "observe"

    @property
    def log(self) -> logging.Logger:
        """The plugin's logger, `mom.plugin.NAME`."""
        return logging.getLogger(f"mom.plugin.{self.name}")

    # Not `type[Service]`: type checkers refuse abstract classes there.
    def service(self, kind: Callable[..., Service]) -> Service | None:
        """Return the first service of this protocol, such as `context.service(PolicyTexts)`; None if no plugin offers one.

        Any thread may call this, from `mom_setup` on. Do not store the service: a reload may replace it. A service raises `MomError` before
        the `mom_setup` of the plugin that offers it.
        """
        return next(iter(self.services(kind)), None)

    def services(self, kind: Callable[..., Service]) -> Sequence[Service]:
        """Return all services of this protocol, in file order."""
        return self.offers.get(kind, ())

    def state_file(self, name: str, what: str, form: TypeAdapter[Content] | Callable[[Any], Content], **how: Any) -> StateFile[Content]:
        """Create a `StateFile`. mom reports its read and write errors.

        :param name: file name, for example `highest.json`
        """
        path = self.state_directory / self.name / name
        file = StateFile(path, what, form, sets_aside=self.serves, log=self.log, **how)
        self.state_files.append(file)
        return file
