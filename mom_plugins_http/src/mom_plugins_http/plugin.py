"""Plugin `http`: hooks between engine and server."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mom_core import Finding, MomError, PluginContext, PluginSettings, Report, Severity, Suggestion, hookimpl
from mom_daemon import RunningMom
from mom_kvm import Address, HostMetrics
from mom_plugins_http.settings import SOCKET, HttpSettings

if TYPE_CHECKING:
    from mom_plugins_http.service import Service


class HttpPlugin:
    """API, metrics and web page of a running mom."""

    Settings = HttpSettings

    def __init__(self, settings: HttpSettings, context: PluginContext) -> None:
        self._settings = settings
        self._context = context
        self._path = settings.socket or context.run_directory / SOCKET
        self._service: Service | None = None

    @staticmethod
    @hookimpl
    def mom_suggest(root: Path) -> Suggestion | None:
        return Suggestion("it serves metrics, and an API for programs and for policy changes at run time", order=80)

    @hookimpl
    def mom_setup(self) -> None:
        if not self._context.serves:
            return
        from mom_plugins_http.service import Service

        self._service = Service(self._settings, self._context, self._path)
        self._service.start()

    @hookimpl
    def mom_services(self) -> Mapping[type, Any]:
        return {HostMetrics: self}

    @property
    def metrics_port(self) -> int | None:
        """TCP port of the metrics; None if only this host can connect."""
        address = None if self._settings.tcp is None else Address.parse(self._settings.tcp.listen)
        return None if address is None or address.is_local else address.port

    @hookimpl
    def mom_reload(self) -> Callable[[], None] | None:
        return None if self._service is None else self._service.prepare_tcp()

    @hookimpl
    def mom_report(self, report: Report) -> None:
        if self._service is not None:
            self._service.take(report)

    @hookimpl
    def mom_teardown(self) -> None:
        if self._service is not None:
            self._service.close()

    @hookimpl
    def mom_check(self) -> Iterable[Finding]:
        """Report unknown groups and unusable files. The caller reports missing files."""
        from mom_plugins_http.server.access import group_id
        from mom_plugins_http.service import tls_of, tokens_of

        settings = self._settings
        checks: list[Callable[[], object]] = [partial(group_id, name) for name in (settings.read_group, settings.change_group) if name]
        if settings.tcp is not None:
            checks += [partial(tls_of, settings.tcp), partial(tokens_of, settings.tcp)]
        for check in checks:
            try:
                check()
            except MomError as error:
                if not isinstance(error.__cause__, FileNotFoundError):
                    unknown = isinstance(error.__cause__, PermissionError)  # mom's user may have access
                    yield Finding(Severity.WARNING if unknown else Severity.ERROR, self._context.name, error.message, error.hint)

    @hookimpl
    def mom_doctor(self) -> Iterable[Finding]:
        from mom_plugins_http.launch_hook.installed import Hook, Platform, longest_wait

        folder = self._path.parent
        if not folder.is_dir() and folder != self._context.run_directory:
            yield Finding(Severity.ERROR, f"control socket {self._path}", f"the folder {folder} is missing", "create it")
        wait = longest_wait(self._context.configuration())
        hooks = [Hook(platform, self._context.root, self._path, wait) for platform in Platform]
        yield from (hook.finding() for hook in hooks if hook.is_needed)

    @staticmethod
    @hookimpl
    def mom_source(
        kind: type, settings: PluginSettings | None, run_directory: Path, state_directory: Path, path: Path | None
    ) -> RunningMom | None:
        if kind is not RunningMom:
            return None
        from mom_plugins_http.cli.client import Client

        socket_path = settings.socket if isinstance(settings, HttpSettings) else None
        return Client(socket_path or run_directory / SOCKET)
