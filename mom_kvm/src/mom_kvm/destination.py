"""Where a guest is moved to: the one type in which mom takes the URI of another hypervisor, or the name of a host, wherever it comes from.

libvirt's client runs the programs and reads the files that a URI names (the transport `ext`; `command`, `netcat`, `pkipath`, `socket`),
and some parameters take away that it knows who answers (`no_verify`). A destination may come from a policy or from another host, so that
only what is listed here can be said in one, and what is opened is written anew from the parts that were understood.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

from mom_core import MomError, printable

if TYPE_CHECKING:
    from pydantic_core.core_schema import CoreSchema

_LONGEST: Final = 600
"""Characters: more than twice the longest name of a host."""

_DRIVER: Final = "qemu"
"""The only driver. libvirt's others move no guests of KVM, and some of them read the file that the path names. A hypervisor that simulates
hosts answers to this one, too: what names a host in a simulation is what names it in earnest."""

_NAMED: Final = "host"
"""The driver of a destination that is only the name by which a mover, such as a cluster's own management, knows another host."""

_ANYWHERE: Final = "anywhere"
"""The driver, and the text, of the destination that a mover chooses by itself."""

_PATHS: Final = ("/system", "/session")

_SSH: Final = ("ssh", "libssh", "libssh2")

_TRANSPORTS: Final = ("tls", *_SSH, "tcp")
"""What knows who answers, and lets no other read along. Without any, libvirt takes TLS. `tcp` does neither, so it stays on this host."""

_PARAMETERS: Final[Mapping[str, tuple[str, ...]]] = {"mode": ("auto", "direct", "legacy"), "no_tty": ("1",)}
"""The parameters, with the values that each may have: to which of libvirt's daemons to go, and that ssh asks nothing."""

_FORM: Final = re.compile(
    r"(?P<driver>[a-z]+)(\+(?P<transport>[a-z0-9]+))?://"
    r"((?P<user>[^/?#@]*)@)?(?P<host>\[[^\]/?#@]*\]|[^/?#@:\[\]]*)(:(?P<port>[^/?#@:]*))?"
    r"(?P<path>/[^?#]*)?(\?(?P<query>[^#]*))?"
)

_USER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")

_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")

_PORT: Final = re.compile(r"[1-9][0-9]{0,4}")

_WAY: Final = re.compile(r"(?P<scheme>tcp|rdma)://(?P<host>\[[^\]]*\]|[^:\[\]]*)(:(?P<port>.*))?")

_PATTERN: Final = r"^anywhere$|^[a-z]+(\+[a-z0-9]+)?://[!-~]*( (tcp|rdma)://[!-~]+)?$"
"""Roughly, for editors of YAML."""

_EXAMPLE: Final = "write it like qemu+tls://HOST/system, or qemu+ssh://USER@HOST/system"
_WAY_EXAMPLE: Final = "write the way behind one space, like tcp://10.0.0.2"


class DestinationError(MomError, ValueError):
    """A URI to which no guest is moved: it would run programs or read files here, hides who answers, or makes no sense."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Another hypervisor that guests can be moved to, `qemu+tls://h2/system`; or another host by the name that a `Mover` has for it,
    `host://h2`; or `anywhere`, where the mover chooses. It holds nothing but what is allowed, however it is made: `Destination.parse(text)`
    reads one, `str` writes it, and as the type of a setting it is read from YAML.

    :param driver: the kind of hypervisor, `qemu`; or `host` or `anywhere`, which have nothing else but the host, or not even that
    :param path: which one it is on its host, such as `/system`
    :param transport: how it is reached; empty: by TLS
    :param user: who logs in, for ssh
    :param host: a name, an address of IPv4, or one of IPv6 without brackets, in small letters
    :param parameters: names and values, sorted
    :param way: the URI of the way on which the guest's memory goes, such as `tcp://10.0.0.2`; empty: the hypervisors agree on one
    :raises DestinationError: when one of them is not allowed, or they do not fit together
    """

    ANYWHERE: ClassVar[Destination]
    """Wherever the mover likes."""

    driver: str
    path: str
    transport: str = ""
    user: str = ""
    host: str = ""
    port: int | None = None
    parameters: tuple[tuple[str, str], ...] = ()
    way: str = ""

    def __post_init__(self) -> None:
        _check_hypervisor(self)
        _check_parameters(self.parameters)
        if self.way and self.way != _checked_way(self.way):
            raise _refused(f"the way {_quoted(self.way)} is not in its short form", hint=f"write {_checked_way(self.way)}")

    @classmethod
    def parse(cls, text: object) -> Destination:
        """The destination that a text means: `qemu+tls://h2/system`, and behind one space, where it is needed, the way there:
        `qemu+tls://h2/system tcp://10.0.0.2`. Raises `DestinationError`, which says which part of it is refused."""
        if isinstance(text, Destination):
            return text
        if not isinstance(text, str) or not text:
            raise _refused("no destination is given" if text in ("", None) else f"a destination is a text, not a {type(text).__name__}")
        if len(text) > _LONGEST:
            raise _refused(f"a destination has at most {_LONGEST} characters, not {len(text):,}")
        for column, character in enumerate(text, 1):
            if not " " <= character <= "~":
                raise _refused(f"character {column} of the destination is {character!a}, which no URI has")
        if text == _ANYWHERE:
            return cls.ANYWHERE
        uri, space, way = text.partition(" ")
        if not uri or (space and (not way or " " in way)):
            raise _refused("the destination has a space too many", hint=_WAY_EXAMPLE)
        found = _FORM.fullmatch(uri)
        if found is None:
            raise _refused("the destination is no URI of another hypervisor")
        if found["user"] == "":
            raise _refused("the user is empty")
        part = found.groupdict(default="")
        return cls(
            driver=part["driver"],
            path=part["path"],
            transport=part["transport"],
            user=part["user"],
            host=_unbracketed(part["host"]),
            port=_port(found["port"]),
            parameters=_parameters(found["query"]),
            way=_checked_way(way) if way else "",
        )

    @property
    def is_hypervisor(self) -> bool:
        """True if it is the URI of a hypervisor, to which mom itself can go."""
        return self.driver == _DRIVER

    @property
    def uri(self) -> str:
        """The URI of the hypervisor, without the way."""
        if self.driver == _ANYWHERE:
            return _ANYWHERE
        transport = f"+{self.transport}" if self.transport else ""
        user = f"{self.user}@" if self.user else ""
        query = "&".join(f"{name}={value}" for name, value in self.parameters)
        authority = f"{user}{_bracketed(self.host)}" + (f":{self.port}" if self.port is not None else "")
        return f"{self.driver}{transport}://{authority}{self.path}" + (f"?{query}" if query else "")

    def __str__(self) -> str:
        """The text that `parse` makes the same destination of."""
        return f"{self.uri} {self.way}" if self.way else self.uri

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: object) -> CoreSchema:
        """In settings and records it stands as its text."""
        from pydantic_core import core_schema

        written = core_schema.plain_serializer_function_ser_schema(str, return_schema=core_schema.str_schema())
        return core_schema.no_info_plain_validator_function(cls.parse, serialization=written)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: object, handler: object) -> dict[str, Any]:
        """The schema for editors of YAML."""
        return {"type": "string", "pattern": _PATTERN, "examples": ["qemu+tls://HOST/system"]}


def _check_hypervisor(one: Destination) -> None:
    if one.driver in (_NAMED, _ANYWHERE):
        _check_name(one)
        return
    if one.driver != _DRIVER:
        raise _refused(f"guests cannot be moved to the driver {_quoted(one.driver)}")
    if one.transport and one.transport not in _TRANSPORTS:
        why = "runs a program on this host" if one.transport == "ext" else f"is none of {', '.join(_TRANSPORTS)}"
        raise _refused(f"the transport {_quoted(one.transport)} {why}")
    if one.path not in _PATHS:
        raise _refused(f"the path {_quoted(one.path)} leads nowhere: {one.driver} has {' or '.join(_PATHS)}")
    if not one.host:
        raise _refused("the destination names no other host")
    if one.host != _checked_host(one.host):
        raise _refused(f"the host {_quoted(one.host)} is not in its short form", hint=f"write {_checked_host(one.host)}")
    if one.user and one.transport not in _SSH:
        raise _refused("only ssh takes a user", hint=_EXAMPLE)
    if one.user and _USER.fullmatch(one.user) is None:
        # What stands there may be a password, too, and is not repeated.
        raise _refused(
            "the user in the destination is no plain name", hint="a password has no place in it; let mom's user log in with a key"
        )
    if one.port is not None and not 1 <= one.port <= 65_535:
        raise _refused(f"the port {one.port} is none")
    if one.transport == "tcp" and not _is_this_host(one.host):
        raise _refused("tcp does not say who answers, and every machine on the way can read along, so that it is for this host only")


def _check_name(one: Destination) -> None:
    if any((one.path, one.transport, one.user, one.port, one.parameters, one.way)) or (one.host and one.driver == _ANYWHERE):
        raise _refused(f"a destination of the driver {one.driver} has a host's name at most", hint="write it like host://NAME, or anywhere")
    if one.driver == _NAMED and (not one.host or one.host != _checked_host(one.host)):
        raise _refused("the destination names no other host" if not one.host else f"the host {_quoted(one.host)} is not in its short form")


def _port(text: str | None) -> int | None:
    if text is None:
        return None
    if _PORT.fullmatch(text) is None or int(text) > 65_535:
        raise _refused(f"the port {_quoted(text)} is none", hint="leave the colon out for the usual one")
    return int(text)


def _parameters(query: str | None) -> tuple[tuple[str, str], ...]:
    if query is None:
        return ()
    pairs = [tuple(part.partition("=")[::2]) for part in query.split("&")]
    return tuple(sorted((name, value) for name, value in pairs))


def _check_parameters(parameters: tuple[tuple[str, str], ...]) -> None:
    for name, value in parameters:
        if name not in _PARAMETERS:
            raise _refused(
                f"a destination takes no parameter {_quoted(name)}, only {' and '.join(_PARAMETERS)}",
                hint="keys and certificates belong where the hypervisor's client, or ssh, of mom's user looks for them",
            )
        if value not in _PARAMETERS[name]:
            raise _refused(f"the parameter {name} is {_quoted(value)}", hint=f"write {' or '.join(_PARAMETERS[name])}")
    if len(dict(parameters)) < len(parameters) or tuple(sorted(parameters)) != parameters:
        raise _refused("a parameter stands there twice")


def _checked_way(way: str) -> str:
    """The way in its short form. Programs, files and sockets are none."""
    found = _WAY.fullmatch(way)
    if found is None:
        raise _refused(f"the way {_quoted(way)} is none of tcp and rdma to a host", hint=_WAY_EXAMPLE)
    host = _checked_host(_unbracketed(found["host"]))
    port = _port(found["port"])
    return f"{found['scheme']}://{_bracketed(host)}" + ("" if port is None else f":{port}")


def _checked_host(host: str) -> str:
    """A host's name or address in its short form."""
    labels = host.split(".")
    if ":" in host or labels[-1].isdigit():
        try:
            if "%" in host:  # behind it may stand anything
                raise ValueError
            return ipaddress.ip_address(host).compressed
        except ValueError:
            raise _refused(f"the host {_quoted(host)} is no address") from None
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise _refused(f"the host {_quoted(host)} is no name that a host can have")
    return host


def _is_this_host(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _unbracketed(host: str) -> str:
    if host.startswith("[") and ":" not in host:
        raise _refused(f"the host {_quoted(host)} is no address of IPv6, which brackets are for")
    return host.removeprefix("[").removesuffix("]").lower()


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _quoted(text: str) -> str:
    return f"'{printable(text, 40)}'"


def _refused(message: str, hint: str = _EXAMPLE) -> DestinationError:
    return DestinationError(message, hint=hint)


Destination.ANYWHERE = Destination(_ANYWHERE, "")
