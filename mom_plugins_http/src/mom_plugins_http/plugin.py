"""The plugin: settings, and the hooks between the engine and the server. What serves is imported when it is needed."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mom_core import Finding, MomError, PluginContext, PluginSettings, Problem, Report, Severity, Source, Suggestion, hookimpl
from mom_daemon import RunningMom
from mom_kvm import Address, HostMetrics, listen
from mom_plugins_http.settings import OPEN_TO_ALL, OPEN_TO_ALL_FIX, SOCKET, HttpSettings

if TYPE_CHECKING:
    from mom_plugins_http.service import Service

_KNOCK_SECONDS: Final = 1.0
"""The kernel accepts for a mom that hangs, too."""


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
    def mom_problems(self) -> Iterable[Problem]:
        """Report services of other plugins that fail or do not answer: answers and events lack their part."""
        wrong = {} if self._service is None else self._service.wrong_services()
        cure = "tell the authors of that plugin; without it in `plugins`, another one's is asked, if there is one"
        return [Problem(Source(self._context.name), f"the service {one} {why}", hint=cure) for one, why in wrong.items()]

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
    def mom_check(self) -> Iterable[Finding]:
        """What `mom_setup` would refuse of groups and of the files of `tcp`. A file that is missing is said by who calls this, or by
        `mom_doctor`."""
        subject = f"control socket {self._path}"
        yield from (Finding(Severity.ERROR, subject, error.message, error.hint) for error in self._groups()[1])
        for error in self._wrong_files():
            if not isinstance(error.__cause__, FileNotFoundError):
                unknown = isinstance(error.__cause__, PermissionError) and not self._is_moms_user
                yield Finding(Severity.WARNING if unknown else Severity.ERROR, "tcp", error.message, error.hint)

    def _groups(self) -> tuple[set[int], list[MomError]]:
        """The numbers of the groups of the socket; and of those that this host lacks, why not."""
        from mom_plugins_http.server.access import group_id

        found, wrong = set(), []
        for group in filter(None, (self._settings.read_group, self._settings.change_group)):
            try:
                found.add(group_id(group))
            except MomError as error:
                wrong.append(error)
        return found, wrong

    def _wrong_files(self) -> list[MomError]:
        """Why certificate and key, and the tokens, could not be used: what `mom_setup` would raise."""
        tcp, wrong = self._settings.tcp, []
        if tcp is not None:
            from mom_plugins_http.service import tls_of, tokens_of

            for read in (tls_of, tokens_of):
                try:
                    read(tcp)
                except MomError as error:
                    wrong.append(error)
        return wrong

    @property
    def _is_moms_user(self) -> bool:
        """Whether what this process cannot read, mom cannot read either."""
        try:
            return self._context.state_directory.stat().st_uid == os.geteuid()
        except OSError:
            return False

    @hookimpl
    def mom_doctor(self) -> Iterable[Finding]:
        """Findings about the socket, which must be possible to make, and about `tcp`."""
        from mom_plugins_http.server.access import has_access_lists, may_give_to

        subject = f"control socket {self._path}"
        groups, wrong = self._groups()
        by_lists = len({self._settings.read_group, self._settings.change_group} - {None}) > 1 or not may_give_to(groups)
        if not self._path.parent.is_dir() and self._path.parent != self._context.run_directory:
            yield Finding(Severity.ERROR, subject, f"the folder {self._path.parent} is missing", "make it")
        elif by_lists and not has_access_lists(self._path.parent):
            yield Finding(Severity.WARNING, subject, OPEN_TO_ALL, OPEN_TO_ALL_FIX)
        elif not wrong:
            yield Finding(Severity.OK, subject, "can be listened on")
        yield from self._over_tcp()
        yield from self._hooks()

    def _over_tcp(self) -> Iterable[Finding]:
        """Whether `tcp` can be served, beside what `mom_check` says."""
        if self._settings.tcp is None:
            return
        subject = f"tcp {self._settings.tcp.listen}"
        wrong = self._wrong_files()
        for error in wrong:
            if isinstance(error.__cause__, FileNotFoundError):
                yield Finding(Severity.ERROR, subject, error.message, error.hint)
        if self._is_served():  # then it is that mom which listens there
            if not wrong:
                yield Finding(Severity.OK, subject, "certificate, key and tokens can be used")
            return
        try:
            listen(Address.parse(self._settings.tcp.listen)).close()
        except MomError as error:
            yield Finding(Severity.ERROR, subject, error.message, error.hint)
        else:
            if not wrong:
                yield Finding(Severity.OK, subject, "can be listened on, and certificate, key and tokens can be used")

    def _is_served(self) -> bool:
        """Whether a mom serves the control socket, as far as this process may know."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knock:
            knock.settimeout(_KNOCK_SECONDS)
            try:
                knock.connect(str(self._path))
            except (FileNotFoundError, ConnectionRefusedError):
                return False
            except OSError:  # a full queue, or not for this user
                return True
        return True

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
