"""libvirt's URIs: which make sense, whose guests run on this host, and how they are opened by a daemon, which answers no questions.

These are the plugin's own setting, written by the operator who could as well run the program that such a URI names, so that all of
libvirt's transports and parameters are open to it. Where guests are moved to may be said by others: that is `mom_toolkit.Destination`,
which holds much less.
"""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

DRIVERS = ("qemu", "test", "xen", "ch", "lxc", "bhyve", "vz")
TRANSPORTS = ("unix", "ssh", "tls", "tcp", "libssh", "libssh2", "ext")
QEMU_PATHS = ("/system", "/session")

_EXAMPLES = "qemu:///system, or qemu+ssh://root@HOST/system and qemu+tls://HOST/system for another host"


def checked(uri: str) -> str:
    """The URI, if libvirt could make sense of it. Raises `ValueError` with what is wrong with it, and how it could be meant."""
    if not uri.isprintable() or " " in uri or "://" not in uri:
        raise ValueError(f"{uri!r:.80} is no libvirt URI; write {_EXAMPLES}")
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{uri!r:.80} is no libvirt URI: {error}") from error
    driver, plus, transport = uri.partition("://")[0].partition("+")
    if driver not in DRIVERS:
        raise ValueError(f"{driver!r:.40} is no driver of libvirt that mom can use; write {_EXAMPLES}")
    if plus and transport not in TRANSPORTS:
        raise ValueError(f"{transport!r:.40} is no transport; there are {', '.join(TRANSPORTS)}")
    if port == 0:
        raise ValueError("0 is no port; leave it out for the usual one")
    if parts.netloc and transport == "unix":
        raise ValueError(f"the transport unix stays on this host; for another host write {driver}+ssh:// or {driver}+tls://")
    if driver == "qemu" and parts.path not in QEMU_PATHS:
        if not parts.path.strip("/") and parts.netloc in {"system", "session"}:
            raise ValueError(f"a slash is missing: {uri.partition('://')[0]}:///{parts.netloc} (a host would stand there)")
        raise ValueError(f"the path {parts.path!r:.40} leads nowhere: qemu has /system and /session, as in {_EXAMPLES}")
    if (parts.hostname or "").startswith("-"):
        raise ValueError("a host's name does not begin with a hyphen")
    return uri


def is_local(uri: str) -> bool:
    """Tell whether the guests behind this libvirt URI run on this host, so that their processes are in its /proc."""
    parts = _parts(uri)
    return parts is not None and not parts.netloc and _transport(parts) != "ext"


def without_questions(uri: str) -> str:
    """The URI to open in place of this one: with ssh forbidden to ask for passwords or about unknown hosts, as no person would answer."""
    parts = _parts(uri)
    if parts is None or _transport(parts) != "ssh" or "no_tty=" in parts.query:
        return uri
    return f"{uri}{'&' if parts.query else '?'}no_tty=1"


def cure_for_transport(uri: str) -> str:
    """An operator's cure when libvirt on another host cannot be reached; empty for this host."""
    parts = _parts(uri)
    transport = _transport(parts) if parts is not None else ""
    if parts is None or not parts.netloc:
        return ""
    if transport in {"ssh", "libssh", "libssh2"}:
        return f"mom's user must be able to log in there without being asked anything; try: ssh {parts.netloc} true"
    if transport in {"", "tls"}:
        return "libvirtd there must listen for TLS, and this host needs a certificate that it trusts"
    return "look whether libvirtd listens there"


def _parts(uri: str) -> SplitResult | None:
    try:
        return urlsplit(uri)
    except ValueError:
        return None


def _transport(parts: SplitResult) -> str:
    return parts.scheme.partition("+")[2]
