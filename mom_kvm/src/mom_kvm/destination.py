"""Destinations of migrations.

A URI can make libvirt's client run programs, read files, or skip certificate checks. So mom accepts only URIs whose parts it knows.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

from mom_core import MomError, printable

if TYPE_CHECKING:
    from pydantic_core.core_schema import CoreSchema

_HYPERVISOR: Final = "qemu"
"""Only accepted hypervisor driver. Others do not migrate KVM guests, and some read the file at the URI's path."""

_NAMED: Final = "host"
"""Scheme of a destination that is a host's name, for a `Mover` that knows the host."""

_ANYWHERE: Final = "anywhere"
"""Destination that leaves the choice of a host to the `Mover`."""

_PATHS: Final = ("/system", "/session")
_SSH: Final = ("ssh", "libssh", "libssh2")
_TRANSPORTS: Final = ("tls", *_SSH, "tcp")
"""Accepted transports; the first is the default. `tcp` is unencrypted, and allowed only to this host."""

_PARAMETERS: Final = frozenset({"mode=auto", "mode=direct", "mode=legacy", "no_tty=1"})
"""Accepted URI parameters. `mode` selects libvirt's daemon; `no_tty` prevents prompts by ssh."""

_LONGEST: Final = 600

_HOST: Final = r"(\[(?P<address>[^\]/?#@]*:[^\]/?#@]*)\]|(?P<host>[^/?#@:\[\]]*))(:(?P<port>[1-9][0-9]{0,4}))?"
_URI: Final = re.compile(
    rf"(?P<driver>[a-z]+)(\+(?P<transport>[a-z0-9]+))?://((?P<user>[^/?#@]+)@)?{_HOST}(?P<path>/[^?#]*)?(\?(?P<query>[^#]+))?"
)
_WAY: Final = re.compile(rf"(?P<scheme>tcp|rdma)://{_HOST}")
_USER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")

_PATTERN: Final = r"^anywhere$|^[a-z]+(\+[a-z0-9]+)?://[!-~]*( (tcp|rdma)://[!-~]+)?$"
"""Approximate pattern with which YAML editors check a destination."""

_EXAMPLE: Final = (
    "examples: qemu+tls://HOST/system, qemu+ssh://USER@HOST/system; then, if needed, a space and a migration URI like tcp://10.0.0.2"
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
        if not isinstance(text, str) or len(text) > _LONGEST:
            raise DestinationError(f"a destination must be a string of at most {_LONGEST} characters", hint=_EXAMPLE)
        uri, space, way = text.partition(" ")
        parts = _URI.fullmatch(uri) if text.isascii() else None
        if parts is None or (space and not way):
            raise DestinationError("the destination is not a valid URI", hint=_EXAMPLE)
        problem = _problem_of_name(parts, way) if parts["driver"] == _NAMED else _problem_of_hypervisor(parts, way)
        if problem:
            raise DestinationError(problem, hint=_EXAMPLE)
        user = f"{parts['user']}@" if parts["user"] else ""
        query = "?" + "&".join(sorted(parts["query"].split("&"))) if parts["query"] else ""
        short = f"{uri.partition('://')[0]}://{user}{_authority(parts)}{parts['path'] or ''}{query}"
        return cls(parts["driver"], short, _short_host(parts), _short_way(way))

    @property
    def is_hypervisor(self) -> bool:
        """Whether the destination is a hypervisor to which mom itself can connect."""
        return self.driver == _HYPERVISOR

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


def _problem_of_hypervisor(parts: re.Match[str], way: str) -> str:
    # Omit the user, which may contain a password.
    transport, user, path, host = parts["transport"] or "tls", parts["user"], parts["path"] or "", _short_host(parts)
    parameters = parts["query"].split("&") if parts["query"] else []
    names = {parameter.partition("=")[0] for parameter in parameters}
    checks = (
        (parts["driver"] != _HYPERVISOR, f"mom cannot move guests to a hypervisor with the driver {_quoted(parts['driver'])}"),
        (transport not in _TRANSPORTS, f"the transport {_quoted(transport)} is not supported; use one of {', '.join(_TRANSPORTS)}"),
        (path not in _PATHS, f"the path {_quoted(path)} is not supported; use one of {', '.join(_PATHS)}"),
        (not host, "the host name or address in the destination is missing or invalid"),
        (user and transport not in _SSH, "a user is allowed only with ssh"),
        (user and not _USER.fullmatch(user), "the user name is invalid; a destination must not contain a password"),
        (int(parts["port"] or 1) > 65_535, f"the port {parts['port']} is out of range"),
        (transport == "tcp" and not _is_this_host(host), "tcp is neither encrypted nor authenticated; use it on this host only"),
        (
            not _PARAMETERS.issuperset(parameters) or len(names) < len(parameters),
            f"a destination cannot have the parameter {_quoted('&'.join(parameters))}; use only mode and no_tty=1, once each",
        ),
        (way and not _short_way(way), f"the migration URI {_quoted(way)} must be tcp:// or rdma:// with a valid host and port"),
    )
    return next((message for wrong, message in checks if wrong), "")


def _problem_of_name(parts: re.Match[str], way: str) -> str:
    if way or any(parts[name] for name in ("transport", "user", "port", "path", "query")):
        return f"after {_NAMED}://, a destination can contain only a host's name"
    return "" if _short_host(parts) else "the host name in the destination is missing or invalid"


def _short_host(parts: re.Match[str]) -> str:
    host = (parts["address"] or parts["host"]).lower()
    if ":" in host or host.rpartition(".")[2].isdigit():
        try:
            return "" if "%" in host else ipaddress.ip_address(host).compressed  # any text may follow the %
        except ValueError:
            return ""
    return host if len(host) <= 253 and all(_LABEL.fullmatch(label) for label in host.split(".")) else ""


def _short_way(way: str) -> str:
    parts = _WAY.fullmatch(way)
    if parts is None or not _short_host(parts) or int(parts["port"] or 1) > 65_535:
        return ""
    return f"{parts['scheme']}://{_authority(parts)}"


def _authority(parts: re.Match[str]) -> str:
    host = _short_host(parts)
    return (f"[{host}]" if ":" in host else host) + (f":{parts['port']}" if parts["port"] else "")


def _is_this_host(host: str) -> bool:
    return host in ("localhost", "::1") or (host.startswith("127.") and host.rpartition(".")[2].isdigit())


def _quoted(text: str) -> str:
    return f"'{printable(text, 40)}'"
