"""OpenStack nova for mom: flavor and project of its guests."""

from mom_plugins_nova.plugin import NovaPlugin as NovaPlugin
