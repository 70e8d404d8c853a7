"""libvirt's Python binding, which has no type annotations, with libvirt's errors and URIs.

See https://libvirt.org/html/libvirt-libvirt-domain.html.
"""

from __future__ import annotations

import errno
import importlib
from collections.abc import Mapping
from typing import Any, Final, TypeAlias
from urllib.parse import SplitResult, urlsplit

from mom_core import GuestBusy, GuestGone, HypervisorError, NotSupported, PermissionDenied, printable

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


# --- URIs; all transports and parameters are allowed -------------------------------------------------------------------------------

_EXAMPLES = "qemu:///system or, for another host, qemu+ssh://root@HOST/system or qemu+tls://HOST/system"


def checked_uri(uri: str) -> str:
    """Return the URI if valid. Otherwise raise `ValueError`, with the mistake and how to correct it."""
    if not uri.isprintable() or " " in uri or "://" not in uri:
        raise ValueError(f"{uri!r:.80} is not a libvirt URI; write {_EXAMPLES}")
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        raise ValueError(f"{uri!r:.80} is not a libvirt URI: {error}") from error
    if parts.scheme.startswith("qemu") and parts.netloc in {"system", "session"} and not parts.path.strip("/"):
        raise ValueError(f"a slash is missing: {parts.scheme}:///{parts.netloc} (libvirt takes a name after two slashes for a host)")
    return uri


def is_local(uri: str) -> bool:
    """Return whether the guests behind this URI run on this host."""
    parts = urlsplit(uri)
    return not parts.netloc and _transport(parts) != "ext"


def without_questions(uri: str) -> str:
    """Return the URI. With transport ssh, add `no_tty=1` to prevent prompts."""
    parts = urlsplit(uri)
    if _transport(parts) != "ssh" or "no_tty=" in parts.query:
        return uri
    return f"{uri}{'&' if parts.query else '?'}no_tty=1"


def _transport(parts: SplitResult) -> str:
    return parts.scheme.partition("+")[2]


# --- errors ---------------------------------------------------------------------------------------------------------------------

# virErrorNumber of libvirt/virterror.h, part of libvirt's stable interface. Copied here so that this module
# does not need the binding.
NO_SUPPORT, NO_CONNECT, SYSTEM_ERROR, NO_DOMAIN, OPERATION_INVALID = 3, 5, 38, 42, 55
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
