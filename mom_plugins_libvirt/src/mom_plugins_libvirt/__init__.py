"""Guests on libvirt for mom: statistics, balloons."""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = ["LibvirtPlugin", "__version__"]

if TYPE_CHECKING:
    from mom_plugins_libvirt.plugin import LibvirtPlugin


def __getattr__(name: str) -> object:
    if name == "LibvirtPlugin":
        from mom_plugins_libvirt.plugin import LibvirtPlugin

        return LibvirtPlugin
    raise AttributeError(f"module 'mom_plugins_libvirt' has no attribute {name!r}")
