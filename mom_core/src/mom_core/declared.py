"""What plugins declare, for programs that look at policies or configurations without running anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mom_core.config import Config
    from mom_core.context import Declarations


def declarations_of(config: Config | None = None) -> Declarations:
    """All that the plugins of a configuration declare: fields, controls and default policies. None is set up, no host is touched.

    :param config: None: all installed plugins, each with its default settings. Those that cannot be used like that are left out, and where
        two of them declare the same, the first one by name counts.
    :raises PluginError: a plugin of the configuration cannot be constructed, or its declarations are wrong; `PluginErrors` for several
    """
    from mom_core.plugins.registry import declared_together

    return declared_together(_everything_installed(), strict=False) if config is None else declared_together(config)


def _everything_installed() -> Config:
    from mom_core.config import Config, ConfiguredPlugin, load_config
    from mom_core.errors import MomError
    from mom_core.plugins.discovery import available_plugins

    plugins: dict[str, ConfiguredPlugin] = {}
    for name in sorted(available_plugins()):
        try:
            plugins.update(load_config({"plugins": {name: {}}}).plugins)
        except MomError:
            continue  # it is broken, or needs settings: `mom plugin list` is where that is told
    return Config(plugins=plugins)
