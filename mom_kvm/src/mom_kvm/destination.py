"""Destinations of moved guests: the one type for the URI of another hypervisor, or the name of another host.

libvirt's client runs programs and reads files that a URI names (the transport `ext`; `command`, `netcat`, `pkipath`, `socket`). `no_verify`
hides who answers. A destination may come from a policy or another host. So mom takes listed parts only, and opens a URI
written anew from them.
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
"""The only driver. libvirt's other drivers move no guests of KVM, and some of them read the file that the path names."""

_NAMED: Final = "host"
"""Driver of a host that a mover, such as a cluster's management, knows by name."""

_ANYWHERE: Final = "anywhere"
"""Driver and text of the destination that a mover chooses."""

_PATHS: Final = ("/system", "/session")
_SSH: Final = ("ssh", "libssh", "libssh2")
_TRANSPORTS: Final = ("", "tls", *_SSH, "tcp")
"""libvirt takes TLS without any. `tcp` is neither encrypted nor authenticated, so it must stay on this host."""

_PARAMETERS: Final = {"mode": ("auto", "direct", "legacy"), "no_tty": ("1",)}
"""Allowed parameters and values: which of libvirt's daemons to use, and that ssh asks nothing."""

_LONGEST: Final = 600
"""Characters: more than twice the longest name of a host."""

_HOST: Final = r"(\[(?P<address>[^\]/?#@]*:[^\]/?#@]*)\]|(?P<host>[^/?#@:\[\]]*))(:(?P<port>[1-9][0-9]{0,4}))?"
_URI: Final = re.compile(
    rf"(?P<driver>[a-z]+)(\+(?P<transport>[a-z0-9]+))?://((?P<user>[^/?#@]+)@)?{_HOST}(?P<path>/[^?#]*)?(\?(?P<query>[^#]*))?"
)
_WAY: Final = re.compile(rf"(?P<scheme>tcp|rdma)://{_HOST}")
_USER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")

_PATTERN: Final = r"^anywhere$|^[a-z]+(\+[a-z0-9]+)?://[!-~]*( (tcp|rdma)://[!-~]+)?$"
"""Rough pattern for editors of YAML."""

_EXAMPLE: Final = "write it like qemu+tls://HOST/system, or qemu+ssh://USER@HOST/system, with a way behind one space, like tcp://10.0.0.2"


class DestinationError(MomError, ValueError):
    """A destination that mom refuses: it would run programs or read files here, hides who answers, or makes no sense."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Another hypervisor, `qemu+tls://h2/system`; another host by the name that a `Mover` has for it, `host://h2`; or `anywhere`.

    However it is made, it holds allowed parts only. `Destination.parse(text)` reads one, `str` writes it, and settings hold its text.

    :param driver: kind of hypervisor, `qemu`; `host` takes a host only, and `anywhere` nothing
    :param path: hypervisor on its host, such as `/system`
    :param transport: how to reach it; empty: by TLS
    :param user: login for ssh
    :param host: name, address of IPv4, or address of IPv6 without brackets, in lower case
    :param parameters: names and values, sorted
    :param way: URI for the guest's memory, such as `tcp://10.0.0.2`; empty: the hypervisors agree on one
    :raises DestinationError: for a part that is not allowed, and for parts that do not fit together
    """

    ANYWHERE: ClassVar[Destination]
    """Destination that the mover chooses."""

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
        """Read a destination: `qemu+tls://h2/system`, or with the way `qemu+tls://h2/system tcp://10.0.0.2`. Raises `DestinationError`."""
        if isinstance(text, Destination):
            return text
        if text == _ANYWHERE:
            return cls.ANYWHERE
        if not isinstance(text, str) or len(text) > _LONGEST:
            raise DestinationError(f"a destination is a text of at most {_LONGEST} characters", hint=_EXAMPLE)
        uri, space, way = text.partition(" ")
        parts = _URI.fullmatch(uri) if text.isascii() else None
        if parts is None or (space and not way):
            raise DestinationError("the destination is no URI of another hypervisor", hint=_EXAMPLE)
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
        """Tell whether it is the URI of a hypervisor, to which mom itself can connect."""
        return self.driver == _HYPERVISOR

    @property
    def uri(self) -> str:
        """URI of the hypervisor, without the way."""
        if self.driver == _ANYWHERE:
            return _ANYWHERE
        transport = f"+{self.transport}" if self.transport else ""
        user = f"{self.user}@" if self.user else ""
        query = "&".join(f"{name}={value}" for name, value in self.parameters)
        return f"{self.driver}{transport}://{user}{_authority(self.host, self.port)}{self.path}" + (f"?{query}" if query else "")

    def __str__(self) -> str:
        """Write the text that `parse` reads."""
        return f"{self.uri} {self.way}" if self.way else self.uri

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: object) -> CoreSchema:
        """Let settings and records hold the text."""
        from pydantic_core import core_schema

        written = core_schema.plain_serializer_function_ser_schema(str, return_schema=core_schema.str_schema())
        return core_schema.no_info_plain_validator_function(cls.parse, serialization=written)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: object, handler: object) -> dict[str, Any]:
        """Describe the text for editors of YAML."""
        return {"type": "string", "pattern": _PATTERN, "examples": ["qemu+tls://HOST/system"]}


def _problem_of_hypervisor(to: Destination) -> str:
    """Return the first mistake; empty: none. The user may be a password, so the text does not repeat it."""
    transports = ", ".join(_TRANSPORTS[1:])
    wrong_parameters = [f"{name}={value}" for name, value in to.parameters if value not in _PARAMETERS.get(name, ())]
    checks = (
        (to.driver != _HYPERVISOR, f"guests cannot be moved to the driver {_quoted(to.driver)}"),
        (to.transport == "ext", "the transport 'ext' runs a program on this host"),
        (to.transport not in _TRANSPORTS, f"the transport {_quoted(to.transport)} is none of {transports}"),
        (to.path not in _PATHS, f"the path {_quoted(to.path)} is none of {', '.join(_PATHS)}"),
        (not to.host or to.host != _short_host(to.host), "the destination names no other host by a valid name or address"),
        (to.user and to.transport not in _SSH, "only ssh takes a user"),
        (to.user and not _USER.fullmatch(to.user), "the user is no plain name; a password has no place in a destination"),
        (to.port is not None and not 1 <= to.port <= 65_535, f"the port {to.port} is out of range"),
        (to.transport == "tcp" and not _is_this_host(to.host), "tcp is neither encrypted nor authenticated; use it on this host only"),
        (wrong_parameters, f"a destination takes no parameter {_quoted(' '.join(wrong_parameters))}, only mode and no_tty=1"),
        (tuple(sorted(dict(to.parameters).items())) != to.parameters, "a parameter is given twice, or parameters are not sorted"),
        (to.way and to.way != _short_way(to.way), f"the way {_quoted(to.way)} is no short tcp:// or rdma:// with a valid host and port"),
    )
    return next((message for wrong, message in checks if wrong), "")


def _problem_of_name(to: Destination) -> str:
    more = (to.path, to.transport, to.user, to.port, to.parameters, to.way, to.driver == _ANYWHERE and to.host)
    if any(more):
        return f"a destination of the driver {to.driver} has a host's name at most"
    unnamed = to.driver == _NAMED and (not to.host or to.host != _short_host(to.host))
    return "the destination names no other host by a valid name" if unnamed else ""


def _short_host(host: str) -> str:
    """Return a host's name or address in its short form; empty for an invalid one."""
    if ":" in host or host.rpartition(".")[2].isdigit():
        try:
            return "" if "%" in host else ipaddress.ip_address(host).compressed  # behind % may stand anything
        except ValueError:
            return ""
    return host if len(host) <= 253 and all(_LABEL.fullmatch(label) for label in host.split(".")) else ""


def _short_way(way: str) -> str:
    """Return the way in its short form; empty for an invalid one, such as a program, a file or a socket."""
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
