"""The plugin: settings, and the hooks between the engine and the server. What serves is imported when it is needed."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from mom_core import (
    Address,
    Duration,
    ExistingFile,
    Finding,
    MomError,
    PluginContext,
    PluginSettings,
    Report,
    RunningMom,
    Severity,
    Size,
    Suggestion,
    hookimpl,
)

if TYPE_CHECKING:
    from mom_plugins_http.service import Service

SOCKET = "mom.sock"
"""The socket's usual name, in mom's run directory."""


_ANYWHERE = ("0.0.0.0", "::")  # noqa: S104  # compared, not bound


def _a_path(path: Path) -> Path:
    if not Address.parse(str(path)).path:
        raise ValueError("write a path that begins with /")
    return path


def _a_port(text: str) -> str:
    if Address.parse(text).path:
        raise ValueError("write host:port, such as 192.0.2.7:8132 or [::]:8132")
    return text


def _a_name(text: str) -> str:
    from mom_plugins_http.sites import name_of

    found = name_of(text)
    if found is None:
        raise ValueError("write a name or an address as in a URL, without a port and without brackets")
    return found


class TcpSettings(BaseModel):
    """Serving beyond this host: always with TLS, and only who knows a token."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    listen: Annotated[str, AfterValidator(_a_port)]
    """Where, as `host:port`."""
    certificate: ExistingFile
    """The server's certificate with its chain, as PEM. Read again when mom's configuration is reloaded, as the next three."""
    key: ExistingFile
    """Its private key, as PEM."""
    read_token: ExistingFile | None = None
    """A file with the token of those who may read; nobody else may read the file itself."""
    change_token: ExistingFile | None = None
    """A file with the token of those who may also change policies."""
    hosts: list[Annotated[str, AfterValidator(_a_name)]] = Field(default_factory=list)
    """Further names and addresses, without a port, by which clients may call this server: beside the host's own, and where it listens."""


class HttpPlugin:
    """Serves everything that mom knows, takes policies in, and gives metrics to Prometheus."""

    class Settings(PluginSettings):
        """Where to listen, for whom, and how much a client may use."""

        socket: Annotated[Path, AfterValidator(_a_path)] | None = None
        """The path of the unix socket. Unset: `mom.sock` in mom's run directory, usually /run/mom."""
        read_group: Annotated[str, Field(min_length=1)] | None = None
        """Members of this group may read. Unset: root and mom's own user only."""
        change_group: Annotated[str, Field(min_length=1)] | None = None
        """Members of this group may also change policies and reserve memory. Unset: root and mom's own user only."""
        tcp: TcpSettings | None = None
        """Serving beyond this host. Unset: not at all."""
        clients: Annotated[int, Field(ge=8, le=1000)] = 256
        """How many may be connected at once; with more, the one goes that has been silent for longest. A quarter may listen to events."""
        patience: Annotated[Duration, Field(gt=0, le=60)] = 5.0
        """How long a request may take to arrive, and for how long an answer may wait for a client that does not take it."""
        largest: Annotated[Size, Field(ge=1024, le=64 << 20)] = 4 << 20
        """How large the body of a request may be."""
        metrics_guests: Annotated[int, Field(ge=0, le=100_000)] = 10_000
        """How many guests have metrics of their own at most, the first by name; 0: only sums. A guest has some 15 time series."""
        metrics_leave_out: list[str] = Field(default_factory=list)
        """Patterns of names of guests that have no metrics of their own, such as `ci-*`."""

    def __init__(self, settings: Settings, context: PluginContext) -> None:
        self._settings = settings
        self._context = context
        self._path = settings.socket or context.run_directory / SOCKET
        self._service: Service | None = None

    @staticmethod
    @hookimpl
    def mom_suggest(root: Path) -> Suggestion | None:
        """Fits every host: `mom policy set` and Prometheus need it."""
        return Suggestion("it answers programs, takes policies in while mom runs, and gives metrics", order=80)

    @hookimpl
    def mom_setup(self) -> None:
        """Listen, unless somebody only takes a look. Raises `MomError` when that cannot be."""
        if not self._context.serves:
            return
        from mom_plugins_http.service import Service

        self._service = Service(self._settings, self._context, self._path)
        self._service.start()

    @hookimpl
    def mom_reload(self) -> Callable[[], None] | None:
        """Read certificate and tokens again."""
        return None if self._service is None else self._service.prepare_tcp()

    @hookimpl
    def mom_report(self, report: Report) -> None:
        """Answers come from the newest report, so that no client ever waits for a cycle, and no cycle for a client."""
        if self._service is not None:
            self._service.take(report)

    @hookimpl
    def mom_teardown(self) -> None:
        """Stop listening, and end all connections."""
        if self._service is not None:
            self._service.close()

    @hookimpl
    def mom_doctor(self) -> Iterable[Finding]:
        """Whether the socket can be made, and the groups are there."""
        from mom_plugins_http.access import group_id

        subject = f"control socket {self._path}"
        findings = []
        for group in filter(None, (self._settings.read_group, self._settings.change_group)):
            try:
                group_id(group)
            except MomError as error:
                findings.append(Finding(Severity.ERROR, subject, error.message, error.hint))
        if not self._path.parent.is_dir() and self._path.parent != self._context.run_directory:
            findings.append(Finding(Severity.ERROR, subject, f"the folder {self._path.parent} is missing", "make it"))
        return findings or [Finding(Severity.OK, subject, "can be listened on")]

    @staticmethod
    @hookimpl
    def mom_running(settings: PluginSettings, run_directory: Path) -> RunningMom | None:
        """Through the unix socket."""
        from mom_plugins_http.running_mom import SocketMom

        socket_path = settings.socket if isinstance(settings, HttpPlugin.Settings) else None
        return SocketMom(socket_path or run_directory / SOCKET)


def own_names(listen: str) -> list[str]:
    """The names by which clients call a server that listens there: the address, this host's names."""
    from mom_plugins_http.sites import LOCAL_NAMES, name_of

    host = Address.parse(listen).host
    anywhere = host in _ANYWHERE  # which is no name that a client calls it by
    names = [name_of(one) for one in (*(() if anywhere else (host,)), socket.gethostname())]
    if anywhere or names[0] in LOCAL_NAMES:
        names += LOCAL_NAMES
    return [name for name in dict.fromkeys(names) if name is not None]
