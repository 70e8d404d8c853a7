"""Checks of libvirt URIs. All transports and parameters are allowed."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

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
