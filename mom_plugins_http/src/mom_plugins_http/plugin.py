"""The plugin: settings, and the hooks between the engine and the server. What serves is imported when it is needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mom_cli import RunningMom
from mom_core import Finding, MomError, PluginContext, PluginSettings, Report, Severity, Suggestion, hookimpl
from mom_plugins_http.settings import OPEN_TO_ALL, OPEN_TO_ALL_FIX, SOCKET, HttpSettings
from mom_toolkit import Address, HostMetrics

if TYPE_CHECKING:
    from mom_plugins_http.service import Service


class HttpPlugin:
    """Serves everything that mom knows, takes policies in, and gives metrics to Prometheus."""

    Settings = HttpSettings

    def __init__(self, settings: HttpSettings, context: PluginContext) -> None:
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
        """Listen, unless a command only takes a look. Raises `MomError` when that cannot be."""
        if not self._context.serves:
            return
        from mom_plugins_http.service import Service

        self._service = Service(self._settings, self._context, self._path)
        self._service.start()

    @hookimpl
    def mom_services(self) -> Mapping[type, Any]:
        """Where the metrics are."""
        return {HostMetrics: self}

    @property
    def metrics_port(self) -> int | None:
        """`HostMetrics`: that of `tcp`, unless it is for this host only."""
        address = None if self._settings.tcp is None else Address.parse(self._settings.tcp.listen)
        return None if address is None or address.is_local else address.port

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
        """Findings about the socket, which must be possible to make, and its groups, which must be there."""
        from mom_plugins_http.server.access import group_id, has_access_lists, may_give_to

        subject = f"control socket {self._path}"
        findings = []
        groups = set()
        for group in filter(None, (self._settings.read_group, self._settings.change_group)):
            try:
                groups.add(group_id(group))
            except MomError as error:
                findings.append(Finding(Severity.ERROR, subject, error.message, error.hint))
        if not self._path.parent.is_dir() and self._path.parent != self._context.run_directory:
            findings.append(Finding(Severity.ERROR, subject, f"the folder {self._path.parent} is missing", "make it"))
        by_lists = len({self._settings.read_group, self._settings.change_group} - {None}) > 1 or not may_give_to(groups)
        if not findings and by_lists and not has_access_lists(self._path.parent):
            findings.append(Finding(Severity.WARNING, subject, OPEN_TO_ALL, OPEN_TO_ALL_FIX))
        findings = findings or [Finding(Severity.OK, subject, "can be listened on")]
        return [*findings, *self._hooks()]

    def _hooks(self) -> Iterable[Finding]:
        """Whether the hypervisors of this host ask mom before a guest starts."""
        from mom_plugins_http.launch_hook.installed import Hook, Platform, findings, longest_wait

        wait = longest_wait(self._context.configuration())
        return findings(Hook(platform, self._context.root, self._path, wait) for platform in Platform)

    @staticmethod
    @hookimpl
    def mom_source(
        kind: type, settings: PluginSettings | None, run_directory: Path, state_directory: Path, path: Path | None
    ) -> RunningMom | None:
        """Through the unix socket."""
        if kind is not RunningMom:
            return None
        from mom_plugins_http.cli.running_mom import SocketMom

        socket_path = settings.socket if isinstance(settings, HttpSettings) else None
        return SocketMom(socket_path or run_directory / SOCKET)
