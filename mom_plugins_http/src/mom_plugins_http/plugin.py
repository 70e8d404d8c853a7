"""Plugin `http`: hooks between engine and server."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mom_core import Finding, MomError, PluginContext, PluginSettings, Report, Severity, Suggestion, hookimpl
from mom_daemon import RunningMom
from mom_kvm import Address, HostMetrics
from mom_plugins_http.settings import OPEN_TO_ALL, OPEN_TO_ALL_FIX, SOCKET, HttpSettings

if TYPE_CHECKING:
    from mom_plugins_http.service import Service

_KNOCK_SECONDS: Final = 1.0
"""Time limit for connecting to mom. A mom that has hung passes, because the kernel accepts the connection."""


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
        """Report unknown groups and unusable files. The caller and `mom_doctor` report missing files."""
        subject = f"control socket {self._path}"
        yield from (Finding(Severity.ERROR, subject, error.message, error.hint) for error in self._groups()[1])
        for error in self._file_errors():
            if not isinstance(error.__cause__, FileNotFoundError):
                unknown = isinstance(error.__cause__, PermissionError) and not self._is_moms_user
                yield Finding(Severity.WARNING if unknown else Severity.ERROR, "tcp", error.message, error.hint)

    def _groups(self) -> tuple[set[int], list[MomError]]:
        from mom_plugins_http.server.access import group_id

        numbers, errors = set(), []
        for group in filter(None, (self._settings.read_group, self._settings.change_group)):
            try:
                numbers.add(group_id(group))
            except MomError as error:
                errors.append(error)
        return numbers, errors

    def _file_errors(self) -> list[MomError]:
        tcp, errors = self._settings.tcp, []
        if tcp is not None:
            from mom_plugins_http.service import tls_of, tokens_of

            for read in (tls_of, tokens_of):
                try:
                    read(tcp)
                except MomError as error:
                    errors.append(error)
        return errors

    @property
    def _is_moms_user(self) -> bool:
        try:
            return self._context.state_directory.stat().st_uid == os.geteuid()
        except OSError:
            return False

    @hookimpl
    def mom_doctor(self) -> Iterable[Finding]:
        from mom_plugins_http.server.access import has_access_lists, may_give_to

        subject = f"control socket {self._path}"
        groups, errors = self._groups()
        by_lists = len({self._settings.read_group, self._settings.change_group} - {None}) > 1 or not may_give_to(groups)
        if not self._path.parent.is_dir() and self._path.parent != self._context.run_directory:
            yield Finding(Severity.ERROR, subject, f"the folder {self._path.parent} is missing", "create it")
        elif by_lists and not has_access_lists(self._path.parent):
            yield Finding(Severity.WARNING, subject, OPEN_TO_ALL, OPEN_TO_ALL_FIX)
        elif not errors:
            yield Finding(Severity.OK, subject, "mom can listen on this socket")
        yield from self._over_tcp()
        yield from self._hooks()

    def _over_tcp(self) -> Iterable[Finding]:
        if self._settings.tcp is None:
            return
        subject, errors, text = f"tcp {self._settings.tcp.listen}", self._file_errors(), "certificate, key and tokens are valid"
        missing = [error for error in errors if isinstance(error.__cause__, FileNotFoundError)]
        if not self._is_served():  # otherwise the running mom listens there
            text = f"mom can listen on this address; {text}"
            try:
                Address.parse(self._settings.tcp.listen).listen().close()
            except MomError as error:
                errors, missing = [*errors, error], [*missing, error]
        yield from (Finding(Severity.ERROR, subject, error.message, error.hint) for error in missing)
        if not errors:
            yield Finding(Severity.OK, subject, text)

    def _is_served(self) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knock:
            knock.settimeout(_KNOCK_SECONDS)
            try:
                knock.connect(str(self._path))
            except (FileNotFoundError, ConnectionRefusedError):
                return False
            except OSError:  # the queue is full, or this user has no access
                return True
        return True

    def _hooks(self) -> Iterable[Finding]:
        from mom_plugins_http.launch_hook.installed import Hook, Platform, longest_wait

        wait = longest_wait(self._context.configuration())
        hooks = [Hook(platform, self._context.root, self._path, wait) for platform in Platform]
        return [hook.finding() for hook in hooks if hook.is_needed]

    @staticmethod
    @hookimpl
    def mom_source(
        kind: type, settings: PluginSettings | None, run_directory: Path, state_directory: Path, path: Path | None
    ) -> RunningMom | None:
        if kind is not RunningMom:
            return None
        from mom_plugins_http.cli.running_mom import SocketMom

        socket_path = settings.socket if isinstance(settings, HttpSettings) else None
        return SocketMom(socket_path or run_directory / SOCKET)
