"""Settings of the plugin `http`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from mom_core import ExistingFile, PluginSettings, StrictModel
from mom_kvm import Address

SOCKET: Final = "mom.sock"


def page_path(path: Path) -> Path:
    """Return the page's own socket, beside the API's."""
    return path.with_name(f"{path.stem}-page{path.suffix}")


def _check_path(path: Path) -> Path:
    if not Address.parse(str(page_path(path))).path:
        raise ValueError("write a path that begins with /")
    return path


def _check_port(text: str) -> str:
    if Address.parse(text).path:
        raise ValueError("write host:port, such as 192.0.2.7:8132 or [::]:8132")
    return text


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
    hosts: list[Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]+$|^[0-9A-Fa-f:]+$")]] = Field(default_factory=list)
    """Names and addresses of this server, without a port and brackets, in addition to the host's name and `listen`."""


class HttpSettings(PluginSettings):
    """Sockets and rights."""

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
