"""What libvirt's errors mean to mom."""

from __future__ import annotations

import errno
from typing import Final

from mom_core import GuestBusy, GuestGone, HypervisorError, NotSupported, PermissionDenied, printable
from mom_plugins_libvirt.uri import cure_for_transport

# Numbers of virErrorNumber in libvirt/virterror.h, which are part of libvirt's stable interface. They stand here so that neither this
# module nor its tests need the binding.
NO_SUPPORT = 3
NO_CONNECT = 5
INVALID_ARGUMENT = 8
OPERATION_DENIED = 29
SYSTEM_ERROR = 38
NO_DOMAIN = 42
AUTH_FAILED = 45
OPERATION_INVALID = 55
CONFIG_UNSUPPORTED = 67
OPERATION_TIMEOUT = 68
ARGUMENT_UNSUPPORTED = 74
AUTH_CANCELLED = 79
AUTH_UNAVAILABLE = 94
OPERATION_UNSUPPORTED = 84
AGENT_UNRESPONSIVE = 86
RESOURCE_BUSY = 87
ACCESS_DENIED = 88
AGENT_UNSYNCED = 97
DEVICE_MISSING = 99

_KINDS: dict[int, type[HypervisorError]] = {
    NO_DOMAIN: GuestGone,
    OPERATION_TIMEOUT: GuestBusy,
    AGENT_UNRESPONSIVE: GuestBusy,
    AGENT_UNSYNCED: GuestBusy,
    RESOURCE_BUSY: GuestBusy,
    NO_SUPPORT: NotSupported,
    CONFIG_UNSUPPORTED: NotSupported,
    ARGUMENT_UNSUPPORTED: NotSupported,
    OPERATION_UNSUPPORTED: NotSupported,
    DEVICE_MISSING: NotSupported,
    OPERATION_DENIED: PermissionDenied,
    AUTH_FAILED: PermissionDenied,
    AUTH_CANCELLED: PermissionDenied,
    AUTH_UNAVAILABLE: PermissionDenied,
    ACCESS_DENIED: PermissionDenied,
}

_DENIED = (errno.EACCES, errno.EPERM)


def kind_of(code: int, system_error: int = 0, *, running: bool | None = None) -> type[HypervisorError]:
    """The kind of error that a libvirt error stands for.

    :param code: libvirt's error number
    :param system_error: the `errno` behind it, where there is one
    :param running: whether the guest that the call was about runs (None: not asked, or no guest). libvirt says `operation invalid` both
        when a guest has stopped and when it has no such device.
    """
    if code == OPERATION_INVALID and running is not None:
        return NotSupported if running else GuestGone
    if code == SYSTEM_ERROR and system_error in _DENIED:
        return PermissionDenied
    return _KINDS.get(code, HypervisorError)


def translated(error: Exception, doing: str, *, running: bool | None = None, hint: str = "") -> HypervisorError:
    """The mom error for an exception of libvirt's binding, with what was being done when it came."""
    code, number = error_numbers(error)
    kind = kind_of(code, number, running=running)
    return kind(f"{doing}: {printable(str(error), 300)}", hint=hint)


def error_numbers(error: Exception) -> tuple[int, int]:
    """libvirt's error number and the `errno` behind it (0 where there is none) of an exception of its binding."""
    code = getattr(error, "get_error_code", lambda: 0)()
    number = getattr(error, "get_int1", lambda: 0)()
    return code if isinstance(code, int) else 0, number if isinstance(number, int) else 0


START_LIBVIRT: Final = "start libvirt: systemctl start libvirtd, or virtqemud.socket where libvirt is split up"


def cure_for(code: int, system_error: int = 0, uri: str = "") -> str:
    """What an operator can do when libvirt cannot be reached with this error; empty when there is nothing better to say than the error."""
    elsewhere = cure_for_transport(uri)
    if elsewhere:
        return elsewhere
    kind = kind_of(code, system_error)
    if kind is PermissionDenied:
        return "run mom as root, or add its user to the group libvirt"
    if system_error in {errno.ENOENT, errno.ECONNREFUSED}:
        return START_LIBVIRT
    if kind is NotSupported or code == NO_CONNECT:
        return "look at the plugin's uri; qemu:///system is the usual one"
    return ""
