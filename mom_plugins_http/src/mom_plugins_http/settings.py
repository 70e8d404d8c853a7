"""The plugin's settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from mom_core import Duration, ExistingFile, PluginSettings, Size, StrictModel
from mom_kvm import Address

SOCKET: Final = "mom.sock"
"""The socket's usual name, in mom's run directory."""


def _a_path(path: Path) -> Path:
    if not Address.parse(str(path)).path:
        raise ValueError("write a path that begins with /")
    return path


def _a_port(text: str) -> str:
    if Address.parse(text).path:
        raise ValueError("write host:port, such as 192.0.2.7:8132 or [::]:8132")
    return text


def _a_name(text: str) -> str:
    from mom_plugins_http.server.sites import name_of

    found = name_of(text)
    if found is None:
        raise ValueError("write a name or an address as in a URL, without a port and without brackets")
    return found


class TcpSettings(StrictModel):
    """Serving beyond this host: always with TLS, and only who knows a token."""

    listen: Annotated[str, AfterValidator(_a_port)]
    """Where, as `host:port`."""
    certificate: ExistingFile
    """The server's certificate with its chain, as PEM. Read again when mom's configuration is reloaded, as the next three."""
    key: ExistingFile
    """Its private key, as PEM."""
    read_token: ExistingFile | None = None
    """A file with the token of those who may read; other users may not read the file itself."""
    change_token: ExistingFile | None = None
    """A file with the token of those who may also change policies."""
    hosts: list[Annotated[str, AfterValidator(_a_name)]] = Field(default_factory=list)
    """Further names and addresses, without a port, by which clients may call this server: beside the host's own, and where it listens."""


OPEN_TO_ALL: Final = "every user may connect, for its file system has no access control lists for groups; mom refuses strangers itself"
OPEN_TO_ALL_FIX: Final = "set `socket` of the plugin http to a path on tmpfs, or only one group, of which mom's user is a member"


class HttpSettings(PluginSettings):
    """Where to listen, for whom, and how much a client may use."""

    socket: Annotated[Path, AfterValidator(_a_path)] | None = None
    """The path of the unix socket. Unset: `mom.sock` in mom's run directory, usually /run/mom."""
    read_group: Annotated[str, Field(min_length=1)] | None = None
    """Members of this group may read. Unset: root and mom's own user only."""
    change_group: Annotated[str, Field(min_length=1)] | None = None
    """Members of this group may also change policies and reserve memory. Unset: root and mom's own user only."""
    tcp: TcpSettings | None = None
    """Serving beyond this host. Unset: not at all."""
    page: bool = True
    """Serve the web page, too, and have a socket of its own for it, to which `mom page` leads."""
    clients: Annotated[int, Field(ge=8, le=1000)] = 256
    """How many may be connected at once. For one more, a connection ends of those who may do least: one without a whole request, or one
    of the user who holds most. A quarter may listen to events, by the same rule."""
    patience: Annotated[Duration, Field(gt=0, le=60)] = 5.0
    """How long a request may take to arrive, and for how long an answer may wait for a client that does not take it."""
    largest: Annotated[Size, Field(ge=1024, le=64 << 20)] = 4 << 20
    """How large the body of a request may be."""
    metrics_guests: Annotated[int, Field(ge=0, le=100_000)] = 10_000
    """How many guests have metrics of their own at most, the first by name; 0: only sums. A guest has some 15 time series."""
    metrics_leave_out: list[str] = Field(default_factory=list)
    """Patterns of names of guests that have no metrics of their own, such as `ci-*`."""
