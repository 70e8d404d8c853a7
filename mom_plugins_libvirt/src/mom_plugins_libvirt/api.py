"""libvirt's Python binding, which has no type annotations: https://libvirt.org/html/libvirt-libvirt-domain.html."""

from __future__ import annotations

import importlib
from typing import Any, Final, TypeAlias

from mom_core import HypervisorError, NotSupported

_WITHOUT_BINDING: Final = "install python3-libvirt for the system's Python, or libvirt-python with pip for another Python"

Domain: TypeAlias = Any
"""libvirt's handle of a guest. Its methods `name`, `UUIDString` and `ID` do not call libvirtd."""


def binding() -> Any:
    """Return the libvirt module, silenced on stderr. Raise `HypervisorError` if the module is missing."""
    try:
        import libvirt  # type: ignore[import-untyped]  # the binding has no types
    except ImportError as error:
        raise HypervisorError(f"libvirt's Python binding cannot be loaded: {error}", hint=_WITHOUT_BINDING) from error
    libvirt.registerErrorHandler(_silent, None)
    return libvirt


def qemu_binding(doing: str) -> Any:
    """Return the module libvirt_qemu. If missing, raise `NotSupported` with a message that begins with `doing`."""
    try:
        return importlib.import_module("libvirt_qemu")
    except ImportError as error:
        raise NotSupported(f"{doing}: libvirt's Python binding lacks its QEMU module: {error}") from error


def _silent(context: object, error: object) -> None:
    """Do nothing: libvirt also raises the error."""
