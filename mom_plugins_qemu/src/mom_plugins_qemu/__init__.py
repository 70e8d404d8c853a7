"""Guests of QEMU without libvirt for mom: plain QEMU, Proxmox VE."""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = ["QemuPlugin", "__version__"]

if TYPE_CHECKING:
    from mom_plugins_qemu.plugin import QemuPlugin


def __getattr__(name: str) -> object:
    if name == "QemuPlugin":
        from mom_plugins_qemu.plugin import QemuPlugin

        return QemuPlugin
    raise AttributeError(f"module 'mom_plugins_qemu' has no attribute {name!r}")
