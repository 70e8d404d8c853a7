"""Conversion of libvirt's errors to mom's."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from mom_core import GuestBusy, GuestGone, HypervisorError, NotSupported, PermissionDenied, printable

# virErrorNumber of libvirt/virterror.h, part of libvirt's stable interface. Copied here so that neither this
# module nor its tests need the binding.
NO_SUPPORT, NO_CONNECT, INVALID_ARGUMENT, SYSTEM_ERROR, NO_DOMAIN, OPERATION_INVALID = 3, 5, 8, 38, 42, 55
CONFIG_UNSUPPORTED, ARGUMENT_UNSUPPORTED, OPERATION_UNSUPPORTED, DEVICE_MISSING = 67, 74, 84, 99
OPERATION_TIMEOUT, AGENT_UNRESPONSIVE, RESOURCE_BUSY, AGENT_UNSYNCED, AGENT_COMMAND_TIMEOUT = 68, 86, 87, 97, 112
OPERATION_DENIED, AUTH_FAILED, AUTH_CANCELLED, ACCESS_DENIED, AUTH_UNAVAILABLE = 29, 45, 79, 88, 94

_KINDS: Final[Mapping[int, type[HypervisorError]]] = {
    NO_DOMAIN: GuestGone,
    **dict.fromkeys((OPERATION_TIMEOUT, AGENT_UNRESPONSIVE, RESOURCE_BUSY, AGENT_UNSYNCED, AGENT_COMMAND_TIMEOUT), GuestBusy),
    **dict.fromkeys((NO_SUPPORT, CONFIG_UNSUPPORTED, ARGUMENT_UNSUPPORTED, OPERATION_UNSUPPORTED, DEVICE_MISSING), NotSupported),
    **dict.fromkeys((OPERATION_DENIED, AUTH_FAILED, AUTH_CANCELLED, ACCESS_DENIED, AUTH_UNAVAILABLE), PermissionDenied),
}

_DENIED = (errno.EACCES, errno.EPERM)


def kind_of(code: int, system_error: int = 0, *, running: bool | None = None) -> type[HypervisorError]:
    """Return the class of mom's error for libvirt's error `code`.

    :param running: whether the guest runs; None if unknown. libvirt's `operation invalid` can mean a missing device or a stopped guest
    """
    if code == OPERATION_INVALID and running is not None:
        return NotSupported if running else GuestGone
    if code == SYSTEM_ERROR and system_error in _DENIED:
        return PermissionDenied
    return _KINDS.get(code, HypervisorError)


def translated(error: Exception, doing: str, *, running: bool | None = None, hint: str = "") -> HypervisorError:
    """Return libvirt's error as mom's error. The message begins with `doing`."""
    code, number = error_numbers(error)
    kind = kind_of(code, number, running=running)
    return kind(f"{doing}: {printable(str(error), 300)}", hint=hint)


def error_numbers(error: Exception) -> tuple[int, int]:
    """Return libvirt's code and the `errno` of an error; 0 if missing."""
    code = getattr(error, "get_error_code", lambda: 0)()
    number = getattr(error, "get_int1", lambda: 0)()
    return code if isinstance(code, int) else 0, number if isinstance(number, int) else 0


_START_LIBVIRT: Final = "start libvirt: systemctl start libvirtd, or virtqemud.socket for modular daemons"


def cure_for(code: int, system_error: int = 0, uri: str = "") -> str:
    """Return how to mend a failed connection; an empty string if unknown."""
    if urlsplit(uri).netloc:
        return f"check as mom's user, which cannot answer prompts: virsh -c '{uri}' list"
    kind = kind_of(code, system_error)
    if kind is PermissionDenied:
        return "run mom as root, or give its user read access: unix_sock_ro_perms and auth_unix_ro in libvirtd.conf or virtqemud.conf"
    if system_error in {errno.ENOENT, errno.ECONNREFUSED}:
        return _START_LIBVIRT
    if kind is NotSupported or code == NO_CONNECT:
        return "check the setting uri; usually it is qemu:///system"
    return ""
