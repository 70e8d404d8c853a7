"""Destinations of migrations.

A URI can make libvirt's client run programs, read files, or skip certificate checks. So mom accepts only URIs whose parts it knows.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

from mom_core import MomError

if TYPE_CHECKING:
    from pydantic_core.core_schema import CoreSchema

_ANYWHERE: Final = "anywhere"
"""Destination that leaves the choice of a host to the `Mover`."""

_LONGEST: Final = 600

_HOST: Final = r"(\[(?P<address>[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*)\]|(?P<host>[A-Za-z0-9.-]+))"
_PORT: Final = r"(:(?P<port>[1-9][0-9]{0,4}))?"
_URI: Final = re.compile(
    rf"qemu(\+(?P<transport>tls|ssh|libssh|libssh2|tcp))?://((?P<user>[A-Za-z_][A-Za-z0-9_.-]{{0,31}})@)?{_HOST}{_PORT}"
    r"(?P<end>/(system|session)(\?(mode=(auto|direct|legacy)(&no_tty=1)?|no_tty=1))?)"
)
"""URI of a hypervisor. `mode` selects libvirt's daemon; `no_tty` prevents prompts by ssh."""
_NAME: Final = re.compile(rf"host://{_HOST}")
_WAY: Final = re.compile(rf"(tcp|rdma)://{_HOST}{_PORT}")
_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")

_PATTERN: Final = r"^anywhere$|^[a-z]+(\+[a-z0-9]+)?://[!-~]*( (tcp|rdma)://[!-~]+)?$"
"""Approximate pattern with which YAML editors check a destination."""

_FORMS: Final = (
    "write qemu+tls://HOST/system, qemu+ssh://USER@HOST/system, host://NAME or anywhere, without a password; use qemu+tcp only to this"
    " host; if needed, add a space and a migration URI such as tcp://10.0.0.2"
)


class DestinationError(MomError, ValueError):
    """Unsafe or invalid destination."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Destination of a migration: a hypervisor, a host that a `Mover` knows (`host://h2`), or `anywhere`. Create it with `parse`.

    :param driver: `qemu`, `host` or `anywhere`
    :param uri: URI of the hypervisor, without `way`
    :param host: host name in lower case, or address; IPv6 without brackets
    :param way: URI for the migration stream, such as `tcp://10.0.0.2`
    """

    ANYWHERE: ClassVar[Destination]

    driver: str
    uri: str
    host: str = ""
    way: str = ""

    @classmethod
    def parse(cls, text: object) -> Destination:
        """Parse `qemu+tls://h2/system`, or `qemu+tls://h2/system tcp://10.0.0.2`. Raise `DestinationError` if a part is invalid."""
        if isinstance(text, Destination):
            return text
        if text == _ANYWHERE:
            return cls.ANYWHERE
        if isinstance(text, str) and len(text) <= _LONGEST:
            if named := _NAME.fullmatch(text):
                host = _short_host(named)
                if host:
                    return cls("host", f"host://{_bracketed(host)}", host)
            uri, space, way = text.partition(" ")
            parts, way_parts = _URI.fullmatch(uri), _WAY.fullmatch(way)
            if parts and _is_allowed(parts) and (not space or (way_parts and _authority(way_parts))):
                short_way = f"{way_parts[1]}://{_authority(way_parts)}" if way_parts else ""
                user = f"{parts['user']}@" if parts["user"] else ""
                short = f"{uri.partition('://')[0]}://{user}{_authority(parts)}{parts['end']}"
                return cls("qemu", short, _short_host(parts), short_way)
        raise DestinationError("the destination is invalid", hint=_FORMS)  # does not repeat it: it may contain a password

    @property
    def is_hypervisor(self) -> bool:
        """Whether the destination is a hypervisor to which mom itself can connect."""
        return self.driver == "qemu"

    def __str__(self) -> str:
        return f"{self.uri} {self.way}" if self.way else self.uri

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: object) -> CoreSchema:
        from pydantic_core import core_schema

        written = core_schema.plain_serializer_function_ser_schema(str, return_schema=core_schema.str_schema())
        return core_schema.no_info_plain_validator_function(cls.parse, serialization=written)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: object, handler: object) -> dict[str, Any]:
        return {"type": "string", "pattern": _PATTERN, "examples": ["qemu+tls://HOST/system"]}


Destination.ANYWHERE = Destination(_ANYWHERE, _ANYWHERE)


def _is_allowed(parts: re.Match[str]) -> bool:
    host, transport = _short_host(parts), parts["transport"] or "tls"
    is_this_host = host in ("localhost", "::1") or (host.startswith("127.") and host.rpartition(".")[2].isdigit())
    return bool(_authority(parts)) and (not parts["user"] or "ssh" in transport) and (transport != "tcp" or is_this_host)


def _short_host(parts: re.Match[str]) -> str:
    # Return an empty string if the host is invalid.
    host = (parts["address"] or parts["host"]).lower()
    if parts["address"] or host.rpartition(".")[2].isdigit():
        try:
            return ipaddress.ip_address(host).compressed
        except ValueError:
            return ""
    return host if len(host) <= 253 and all(_LABEL.fullmatch(label) for label in host.split(".")) else ""


def _authority(parts: re.Match[str]) -> str:
    host = _short_host(parts)
    if not host or int(parts["port"] or 1) > 65_535:
        return ""
    return _bracketed(host) + (f":{parts['port']}" if parts["port"] else "")


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
