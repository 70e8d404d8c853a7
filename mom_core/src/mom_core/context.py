"""What a plugin is given besides its settings: who it is, where its files go, what others declared, and a way to wake the engine."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mom_core.admission import Admissions
from mom_core.model import ControlSpec, FieldSpec, Guest, Scope, Value
from mom_core.policies import PolicyTexts
from mom_core.reservations import Reservations
from mom_core.running import EngineState
from mom_core.settings import GuestSettings
from mom_core.state_files import LARGEST_BYTES, StateFile

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Content = TypeVar("Content")


@dataclass(frozen=True, slots=True)
class Declarations:
    """All that the enabled plugins declared.

    `fields` is keyed by scope and name, as the host and guests may have fields of one name; `controls` by name;
    `control_owners` gives the plugin that applies each control; `policies` are the default policy texts by name, joined in name order;
    `field_owners` gives the first plugin in the YAML order that declares each field.
    """

    fields: Mapping[tuple[Scope, str], FieldSpec] = field(default_factory=dict)
    controls: Mapping[str, ControlSpec] = field(default_factory=dict)
    control_owners: Mapping[str, str] = field(default_factory=dict)
    policies: Mapping[str, str] = field(default_factory=dict)
    field_owners: Mapping[tuple[Scope, str], str] = field(default_factory=dict)


def _no_guest_settings(guest: Guest) -> GuestSettings:
    return GuestSettings()


def _no_wake(reason: str) -> None:
    """Nobody listens: a plugin that is used without an engine, as in a unit test."""


def _no_configuration() -> Mapping[str, Value]:
    return {}


@dataclass(slots=True)
class PluginContext:
    """Given to a plugin's constructor. The core makes it; a test may make one with no arguments at all.

    `declarations` is complete from `mom_setup` on, and replaced when the configuration is reloaded. `guest_settings(guest)`
    gives the plugin's own `GuestSettings` for a guest, from all matching patterns in the YAML section `guests`, in the order of the file.
    `configuration()` gives all settings in force, as they would be written in YAML, with secrets masked: for what shows or records them.
    `policies` is what a plugin that takes policies in from outside changes. `wake(reason)` asks the engine for a cycle now, from any
    thread; the engine limits the rate.
    """

    name: str = "plugin"
    root: Path = Path("/")
    """Where /proc and /sys are found."""
    state_directory: Path = Path("/var/lib/mom")
    """Where the plugin may keep files across restarts, in a folder of its own below this one: `state_file` gives them."""
    run_directory: Path = Path("/run/mom")
    """Where sockets and files go that do not outlive a reboot."""
    interval: float = 5.0
    """Seconds between two scheduled cycles."""
    declarations: Declarations = field(default_factory=Declarations)
    guest_settings: Callable[[Guest], GuestSettings] = _no_guest_settings
    configuration: Callable[[], Mapping[str, Value]] = _no_configuration
    serves: bool = True
    """Whether mom is here to stay. A command that only takes a look, such as `mom doctor`, sets plugins up too: listen on nothing then."""
    policies: PolicyTexts | None = None
    """The evaluator's policies, to be read and changed while mom runs; None when no enabled plugin has any. From `mom_setup` on, and
    replaced when the configuration is reloaded."""
    reservations: Reservations | None = None
    """Who makes room for launches; None when no enabled plugin does. From `mom_setup` on, and replaced with the configuration."""
    engine_state: Callable[[], EngineState] = EngineState
    """What the engine knows besides its reports, now. From any thread."""
    admissions: Admissions | None = None
    """Who knows whether another guest fits; None when no enabled plugin does. From `mom_setup` on, and replaced with the configuration."""
    wake: Callable[[str], None] = _no_wake
    monotonic: Callable[[], float] = time.monotonic
    """The clock that the engine goes by: seconds, never jumping. A simulation runs it faster than the real one."""
    state_files: list[StateFile[Any]] = field(default_factory=list)
    """Those that `state_file` gave: mom reports what is wrong with them."""

    @property
    def log(self) -> logging.Logger:
        """The plugin's own logger, `mom.plugin.NAME`."""
        return logging.getLogger(f"mom.plugin.{self.name}")

    def state_file(
        self,
        name: str,
        what: str,
        form: TypeAdapter[Content] | Callable[[Any], Content],
        *,
        loss: str = "",
        version: int = 1,
        largest: int = LARGEST_BYTES,
        mode: int = 0o640,
    ) -> StateFile[Content]:
        """A file of state of this plugin, in its folder below `state_directory`. What is wrong with it is reported by mom itself: as a
        problem in each cycle, and in `mom doctor`. A command that only takes a look sets nothing aside.

        :param name: of the file, such as `highest.json`; for the other parameters see `StateFile`
        """
        path = self.state_directory / self.name / name
        file = StateFile(path, what, form, loss=loss, version=version, largest=largest, mode=mode, sets_aside=self.serves, log=self.log)
        self.state_files.append(file)
        return file
