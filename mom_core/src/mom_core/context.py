"""What a plugin is given besides its settings: who it is, where its files go, what others declared, and a way to wake the engine."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mom_core.columns import Columns
from mom_core.files import RUN_DIRECTORY, STATE_DIRECTORY
from mom_core.model import ControlSpec, Derived, EngineState, FieldSpec, Guest, GuestColumn, Scope, Snapshot, Value
from mom_core.settings import GuestSettings
from mom_core.state_files import StateFile

if TYPE_CHECKING:
    from pydantic import TypeAdapter


Content = TypeVar("Content")
Service = TypeVar("Service")


@dataclass(frozen=True, slots=True)
class Declarations:
    """All that the enabled plugins declared.

    `fields` is keyed by scope and name, as the host and guests may have fields of one name; `controls` by name;
    `control_owners` gives the plugin that applies each control; `policies` are the default policy texts by name, joined in name order;
    `field_owners` gives the first plugin in the YAML order that declares each field; `explainers` makes, by plugin, what says its part of
    explanations; `derivations` are the plugins' `mom_derive`; `guest_columns` are figures of guests, in the YAML order.
    """

    fields: Mapping[tuple[Scope, str], FieldSpec] = field(default_factory=dict)
    controls: Mapping[str, ControlSpec] = field(default_factory=dict)
    control_owners: Mapping[str, str] = field(default_factory=dict)
    policies: Mapping[str, str] = field(default_factory=dict)
    field_owners: Mapping[tuple[Scope, str], str] = field(default_factory=dict)
    explainers: Mapping[str, Callable[[], object]] = field(default_factory=dict)
    derivations: Sequence[Callable[[Snapshot], Derived]] = ()
    guest_columns: Sequence[GuestColumn] = ()

    def derived(self, snapshot: Snapshot) -> Snapshot:
        """A snapshot that was made by hand, with what plugins derive from it; what it says itself stands."""
        for derive in self.derivations:
            found = derive(snapshot)
            rows: Sequence[Mapping[str, Value]]
            rows = found.guests.rows() if isinstance(found.guests, Columns) else [found.guests.get(one, {}) for one in snapshot.guests]
            told = zip(snapshot.guests.items(), rows, strict=False)  # there are no rows where there are no columns
            guests = {identity: replace(guest, fields={**row, **guest.fields}) for (identity, guest), row in told} or snapshot.guests
            snapshot = replace(snapshot, host=replace(snapshot.host, fields={**found.host, **snapshot.host.fields}), guests=guests)
        return snapshot


@dataclass(slots=True)
class PluginContext:
    """Given to a plugin's constructor. The core makes it; a test may make one with no arguments at all.

    `wake(reason)` asks the engine for a cycle now, from any thread; the engine limits the rate.
    """

    name: str = "plugin"
    root: Path = Path("/")
    """Where /proc and /sys are found."""
    state_directory: Path = STATE_DIRECTORY
    """Where the plugin may keep files across restarts, in a folder of its own below this one: `state_file` gives them."""
    run_directory: Path = RUN_DIRECTORY
    """Where sockets and files go that do not outlive a reboot."""
    declarations: Declarations = field(default_factory=Declarations)
    """What the enabled plugins declared. Complete from `mom_setup` on; this and the next four are replaced when the configuration is
    reloaded."""
    offers: Mapping[Any, Sequence[Any]] = field(default_factory=dict)
    """What plugins offer by protocol, in the YAML order: `service` and `services` find it."""
    interval: float = 5.0
    """Seconds between two scheduled cycles."""
    guest_settings: Callable[[Guest], GuestSettings] = lambda _: GuestSettings()
    """`guest_settings(guest)` gives the plugin's own `GuestSettings` for a guest, from all matching patterns in the YAML section `guests`,
    in the order of the file."""
    configuration: Callable[[], Mapping[str, Value]] = dict
    """`configuration()` gives all settings in force, as they would be written in YAML, with secrets masked: for what shows or records
    them."""
    serves: bool = True
    """Whether mom is here to stay. A command that only takes a look, such as `mom doctor`, sets plugins up too: listen on nothing then."""
    engine_state: Callable[[], EngineState] = EngineState
    """What the engine knows besides its reports, now. From any thread."""
    wake: Callable[[str], None] = lambda _: None
    monotonic: Callable[[], float] = time.monotonic
    """The clock that the engine goes by: seconds, never jumping. A simulation runs it faster than the real one."""
    state_files: list[StateFile[Any]] = field(default_factory=list)
    """Those that `state_file` gave: mom reports what is wrong with them."""

    @property
    def observes(self) -> bool:
        """True if mom only observes (`mode: observe`)."""
        return self.configuration().get("mode") == "observe"

    @property
    def log(self) -> logging.Logger:
        """The plugin's own logger, `mom.plugin.NAME`."""
        return logging.getLogger(f"mom.plugin.{self.name}")

    # A protocol is given as what would make one: type checkers take no abstract class for `type[Service]`.
    def service(self, kind: Callable[..., Service]) -> Service | None:
        """The offer of an enabled plugin under this protocol (`mom_services`), such as `context.service(PolicyTexts)`; None: none does.

        Of several plugins, the first in the YAML order. From `mom_setup` on, from any thread; ask again rather than keep it, as a reload
        may bring another one. Calls that come before the `mom_setup` of the plugin that offers it raise `MomError`.
        """
        return next(iter(self.services(kind)), None)

    def services(self, kind: Callable[..., Service]) -> Sequence[Service]:
        """The offers of all enabled plugins under this protocol, in the YAML order; see `service`."""
        return self.offers.get(kind, ())

    def state_file(self, name: str, what: str, form: TypeAdapter[Content] | Callable[[Any], Content], **how: Any) -> StateFile[Content]:
        """A file of state of this plugin, in its folder below `state_directory`. What is wrong with it is reported by mom itself: as a
        problem in each cycle, and in `mom doctor`. A command that only takes a look sets nothing aside.

        :param name: of the file, such as `highest.json`; for the other parameters see `StateFile`
        """
        path = self.state_directory / self.name / name
        file = StateFile(path, what, form, sets_aside=self.serves, log=self.log, **how)
        self.state_files.append(file)
        return file
