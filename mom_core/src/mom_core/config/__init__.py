"""The configuration: one YAML file, read whole, with all that is wrong in it said at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mom_core.model import Guest
from mom_core.plugins.discovery import LoadedPlugin
from mom_core.settings import GuestSettings, PluginSettings


@dataclass(frozen=True, slots=True)
class ConfiguredPlugin:
    """A plugin that the configuration enables, loaded, with its settings."""

    name: str
    loaded: LoadedPlugin
    settings: PluginSettings


@dataclass(frozen=True)
class Config:
    """A configuration that was read and found right."""

    file: str | None
    interval: float
    mode: Literal["enforce", "observe"]
    history: int
    root: Path
    state_directory: Path
    run_directory: Path
    log_level: str
    stop_timeout: float  # seconds that a stop may take, putting everything back included; YAML key stop_timeout, default 2s
    plugins: Mapping[str, ConfiguredPlugin]

    def guest_settings(self, plugin: str) -> Callable[[Guest], GuestSettings]:
        """What the YAML section `guests` says for a plugin about a guest."""
        raise NotImplementedError


def load_config(source: Path | str | Mapping[str, object] | None = None) -> Config:
    """Read a configuration. Raises `ConfigError` with all that is wrong."""
    raise NotImplementedError
