"""Destinations of migrations. A URI can make libvirt's client run programs, read files, or skip checks of certificates, so mom accepts only
listed parts."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

from mom_core import MomError, printable

if TYPE_CHECKING:
    from pydantic_core.core_schema import CoreSchema

_HYPERVISOR: Final = "qemu"
"""Other drivers do not migrate KVM guests, and some read the path's file."""

_NAMED: Final = "host"
"""Driver of a host known to a `Mover`."""

_ANYWHERE: Final = "anywhere"
"""The mover chooses the destination."""

_PATHS: Final = ("/system", "/session")
_SSH: Final = ("ssh", "libssh", "libssh2")
_TRANSPORTS: Final = ("", "tls", *_SSH, "tcp")
"""The empty string means TLS. `tcp` is unencrypted, and allowed only to this host."""

_PARAMETERS: Final = {"mode": ("auto", "direct", "legacy"), "no_tty": ("1",)}
"""`mode` selects libvirt's daemon; `no_tty` prevents prompts by ssh."""

_LONGEST: Final = 600
"""In characters: more than twice the longest host name."""

_HOST: Final = r"(\[(?P<address>[^\]/?#@]*:[^\]/?#@]*)\]|(?P<host>[^/?#@:\[\]]*))(:(?P<port>[1-9][0-9]{0,4}))?"
_URI: Final = re.compile(
    rf"(?P<driver>[a-z]+)(\+(?P<transport>[a-z0-9]+))?://((?P<user>[^/?#@]+)@)?{_HOST}(?P<path>/[^?#]*)?(\?(?P<query>[^#]*))?"
)
_WAY: Final = re.compile(rf"(?P<scheme>tcp|rdma)://{_HOST}")
_USER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")

_PATTERN: Final = r"^anywhere$|^[a-z]+(\+[a-z0-9]+)?://[!-~]*( (tcp|rdma)://[!-~]+)?$"
"""Approximate pattern for YAML editors."""

_EXAMPLE: Final = (
    "examples: qemu+tls://HOST/system, qemu+ssh://USER@HOST/system; then, if needed, a space and a migration URI like tcp://10.0.0.2"
)


class DestinationError(MomError, ValueError):
    """Unsafe or invalid destination."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Destination of a migration: a hypervisor (`qemu+tls://h2/system`), a host known to a `Mover` (`host://h2`), or `anywhere`.

    :param driver: `qemu`, `host` or `anywhere`
    :param path: such as `/system`
    :param transport: empty for TLS
    :param user: login for ssh
    :param host: in lower case; IPv6 without brackets
    :param parameters: sorted
    :param way: URI for the migration stream, such as `tcp://10.0.0.2`
    :raises DestinationError: a part is not allowed
    """

    ANYWHERE: ClassVar[Destination]

    driver: str
    path: str
    transport: str = ""
    user: str = ""
    host: str = ""
    port: int | None = None
    parameters: tuple[tuple[str, str], ...] = ()
    way: str = ""

    def __post_init__(self) -> None:
        problem = _problem_of_name(self) if self.driver in (_NAMED, _ANYWHERE) else _problem_of_hypervisor(self)
        if problem:
            raise DestinationError(problem, hint=_EXAMPLE)

    @classmethod
    def parse(cls, text: object) -> Destination:
        """Parse `qemu+tls://h2/system`, or `qemu+tls://h2/system tcp://10.0.0.2`."""
        if isinstance(text, Destination):
            return text
        if text == _ANYWHERE:
            return cls.ANYWHERE
        if not isinstance(text, str) or len(text) > _LONGEST:
            raise DestinationError(f"a destination must be a string of at most {_LONGEST} characters", hint=_EXAMPLE)
        uri, space, way = text.partition(" ")
        parts = _URI.fullmatch(uri) if text.isascii() else None
        if parts is None or (space and not way):
            raise DestinationError("the destination is not the URI of another hypervisor", hint=_EXAMPLE)
        query = parts["query"]
        return cls(
            driver=parts["driver"],
            path=parts["path"] or "",
            transport=parts["transport"] or "",
            user=parts["user"] or "",
            host=_short_host((parts["address"] or parts["host"]).lower()),
            port=int(parts["port"]) if parts["port"] else None,
            parameters=()
            if query is None
            else tuple(sorted((part.partition("=")[0], part.partition("=")[2]) for part in query.split("&"))),
            way=_short_way(way) or way,
        )

    @property
    def is_hypervisor(self) -> bool:
        """Whether mom itself can connect to it."""
        return self.driver == _HYPERVISOR

    @property
    def uri(self) -> str:
        """URI of the hypervisor, without `way`."""
        if self.driver == _ANYWHERE:
            return _ANYWHERE
        transport = f"+{self.transport}" if self.transport else ""
        user = f"{self.user}@" if self.user else ""
        query = "&".join(f"{name}={value}" for name, value in self.parameters)
        return f"{self.driver}{transport}://{user}{_authority(self.host, self.port)}{self.path}" + (f"?{query}" if query else "")

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


def _problem_of_hypervisor(to: Destination) -> str:
    # Omit the user, which may contain a password.
    transports = ", ".join(_TRANSPORTS[1:])
    wrong_parameters = [f"{name}={value}" for name, value in to.parameters if value not in _PARAMETERS.get(name, ())]
    checks = (
        (to.driver != _HYPERVISOR, f"mom cannot move guests to a hypervisor with the driver {_quoted(to.driver)}"),
        (to.transport == "ext", "the transport 'ext' runs a program on this host"),
        (to.transport not in _TRANSPORTS, f"the transport {_quoted(to.transport)} is not supported; use one of {transports}"),
        (to.path not in _PATHS, f"the path {_quoted(to.path)} is not supported; use one of {', '.join(_PATHS)}"),
        (not to.host or to.host != _short_host(to.host), "the host name or address in the destination is missing or invalid"),
        (to.user and to.transport not in _SSH, "a user is allowed only with ssh"),
        (to.user and not _USER.fullmatch(to.user), "the user name is invalid; a destination must not contain a password"),
        (to.port is not None and not 1 <= to.port <= 65_535, f"the port {to.port} is out of range"),
        (to.transport == "tcp" and not _is_this_host(to.host), "tcp is neither encrypted nor authenticated; use it on this host only"),
        (wrong_parameters, f"a destination cannot have the parameter {_quoted(' '.join(wrong_parameters))}, only mode and no_tty=1"),
        (tuple(sorted(dict(to.parameters).items())) != to.parameters, "a parameter is given twice, or parameters are not sorted"),
        (
            to.way and to.way != _short_way(to.way),
            f"the migration URI {_quoted(to.way)} must be tcp:// or rdma:// with a valid host and port",
        ),
    )
    return next((message for wrong, message in checks if wrong), "")


def _problem_of_name(to: Destination) -> str:
    more = (to.path, to.transport, to.user, to.port, to.parameters, to.way, to.driver == _ANYWHERE and to.host)
    if any(more):
        return f"a destination of the driver {to.driver} can contain only a host's name"
    unnamed = to.driver == _NAMED and (not to.host or to.host != _short_host(to.host))
    return "the host name in the destination is missing or invalid" if unnamed else ""


def _short_host(host: str) -> str:
    if ":" in host or host.rpartition(".")[2].isdigit():
        try:
            return "" if "%" in host else ipaddress.ip_address(host).compressed  # any text may follow the %
        except ValueError:
            return ""
    return host if len(host) <= 253 and all(_LABEL.fullmatch(label) for label in host.split(".")) else ""


def _short_way(way: str) -> str:
    parts = _WAY.fullmatch(way)
    host = "" if parts is None else _short_host((parts["address"] or parts["host"]).lower())
    if parts is None or not host or int(parts["port"] or 1) > 65_535:
        return ""
    return f"{parts['scheme']}://{_authority(host, int(parts['port']) if parts['port'] else None)}"


def _authority(host: str, port: int | None) -> str:
    return (f"[{host}]" if ":" in host else host) + ("" if port is None else f":{port}")


def _is_this_host(host: str) -> bool:
    return host in ("localhost", "::1") or (host.startswith("127.") and host.rpartition(".")[2].isdigit())


def _quoted(text: str) -> str:
    return f"'{printable(text, 40)}'"


Destination.ANYWHERE = Destination(_ANYWHERE, "")
