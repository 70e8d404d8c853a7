"""The plugin's settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from mom_core import Duration, ExistingFile, PluginSettings, Size, StrictModel
from mom_kvm import Address

SOCKET: Final = "mom.sock"


def _check_path(path: Path) -> Path:
    if not Address.parse(str(path)).path:
        raise ValueError("write a path that begins with /")
    return path


def _check_port(text: str) -> str:
    if Address.parse(text).path:
        raise ValueError("write host:port, such as 192.0.2.7:8132 or [::]:8132")
    return text


def _canonical_name(text: str) -> str:
    from mom_plugins_http.server.sites import name_of

    name = name_of(text)
    if name is None:
        raise ValueError("write a name or an address as in a URL, without a port and without brackets")
    return name


class TcpSettings(StrictModel):
    """API over TCP, with TLS and tokens."""

    listen: Annotated[str, AfterValidator(_check_port)]
    """Listening address, as `host:port`."""
    certificate: ExistingFile
    """Certificate with its chain, as PEM. A reload reads certificate, key and tokens again."""
    key: ExistingFile
    """Private key, as PEM."""
    read_token: ExistingFile | None = None
    """File with the token for reading. Other users must not have access to the file."""
    change_token: ExistingFile | None = None
    """File with the token for reading and changing."""
    hosts: list[Annotated[str, AfterValidator(_canonical_name)]] = Field(default_factory=list)
    """Names and addresses of this server, without a port, in addition to the host's name and `listen`."""


OPEN_TO_ALL: Final = (
    "every user can connect, because the socket's file system has no access control lists; mom itself rejects users without a right"
)
OPEN_TO_ALL_FIX: Final = "set `socket` of the http plugin to a path on tmpfs, or set only one group, of which mom's user is a member"


class HttpSettings(PluginSettings):
    """Sockets, rights and limits."""

    socket: Annotated[Path, AfterValidator(_check_path)] | None = None
    """Path of the unix socket. Unset: `mom.sock` in mom's run directory, usually /run/mom."""
    read_group: Annotated[str, Field(min_length=1)] | None = None
    """Group that may read. Unset: only root and mom's user."""
    change_group: Annotated[str, Field(min_length=1)] | None = None
    """Group that may read, change policies and reserve memory. Unset: only root and mom's user."""
    tcp: TcpSettings | None = None
    """API over TCP. Unset: none."""
    page: bool = True
    """Serve the web page, with its own socket for `mom page`."""
    clients: Annotated[int, Field(ge=8, le=1000)] = 256
    """Maximum number of connections. At this limit, a new connection replaces one with the lowest right: with an incomplete request, or of
    the user with most connections. At most a quarter may be event streams, which replace each other by the same rule."""
    patience: Annotated[Duration, Field(gt=0, le=60)] = 5.0
    """Longest time for a request to arrive, and for a client to read an answer."""
    largest: Annotated[Size, Field(ge=1024, le=64 << 20)] = 4 << 20
    """Largest body of a request."""
    metrics_guests: Annotated[int, Field(ge=0, le=100_000)] = 10_000
    """Maximum number of guests with their own metrics, in name order. 0: only sums. A guest has some 15 time series."""
    metrics_leave_out: list[str] = Field(default_factory=list)
    """Guests whose names match these patterns, such as `ci-*`, get no metrics of their own."""
