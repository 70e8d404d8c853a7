"""The xmlrpc plugin: MOM's RPC server for vdsm and MOM's clients."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from mom_core import Finding, PluginContext, PluginSettings, Problem, Report, Severity, Source, Suggestion, hookimpl
from mom_kvm import Address
from mom_plugins_vdsm.rpc_server import RpcServer
from mom_plugins_vdsm.rpc_verbs import Verbs

VDSM_SOCKET = "/run/vdsm/mom-vdsm.sock"
"""Path at which vdsm expects mom's socket (vdsm's option `[mom] socket_path`)."""


_LOOPBACK = "127.0.0.1"


def _an_address(text: str) -> str:
    Address.parse(text, _LOOPBACK)
    return text


def _permissions(text: str) -> str:
    if not re.fullmatch("0?[0-7]{1,3}", text):
        raise ValueError("write the permissions as in chmod, such as '0600'")
    return text


class XmlRpcPlugin:
    """Server of MOM's XML-RPC verbs. All clients can read statistics and policies. Clients with permission can also change policies."""

    class Settings(PluginSettings):
        """Server's address, and what clients may do."""

        listen: Annotated[str, AfterValidator(_an_address)] = VDSM_SOCKET
        """Address of the server: the path of a unix socket, a port (on 127.0.0.1), or host:port. Every client can read statistics and
        policies."""
        mode: Annotated[str, AfterValidator(_permissions)] = "0600"
        """Permissions of the unix socket. Every user who can connect can change policies. vdsm runs as the same user as mom, so no other
        user needs access."""
        changes_over_tcp: bool = False
        """Also let TCP clients change policies and the log level. XML-RPC has no authentication, so any user of this host can then replace
        all policies. If the address is not a loopback address, other machines can do so, too."""

    def __init__(self, settings: Settings, context: PluginContext) -> None:
        self._settings = settings
        self._context = context
        self._address = Address.parse(settings.listen, _LOOPBACK)
        self._subject = f"XML-RPC on {self._address}"
        by_path = bool(self._address.path)
        self._verbs = Verbs(context, str(self._address), nil=by_path, read_only=not by_path and not settings.changes_over_tcp)
        self._server: RpcServer | None = None

    @staticmethod
    @hookimpl
    def mom_suggest(root: Path) -> Suggestion | None:
        if not (root / "run/vdsm").is_dir():
            return None
        return Suggestion("vdsm asks mom for statistics, and sets policies", {"listen": VDSM_SOCKET}, order=81)

    @hookimpl
    def mom_setup(self) -> None:
        if not self._context.serves:
            return
        settings, log = self._settings, self._context.log
        door = partial(self._address.listen, mode=int(settings.mode, 8))
        self._server = RpcServer(door, self._verbs, log)
        self._server.start(self._context.name)
        for finding in self._exposed():
            log.warning("%s: %s; %s", finding.subject, finding.message, finding.cure)
        log.info("XML-RPC on %s%s", self._address, ", read only" if self._verbs.read_only else "")

    @hookimpl
    def mom_problems(self) -> Iterable[Problem]:
        # vdsm reports to its engine that these policies are in force.
        for problem, in_force in self._verbs.refused():
            yield Problem(Source(self._context.name), problem, severity=Severity.WARNING, hint=in_force)

    @hookimpl
    def mom_report(self, report: Report) -> None:
        self._verbs.note(report)

    @hookimpl
    def mom_teardown(self) -> None:
        if self._server is not None:
            self._server.close()

    @hookimpl
    def mom_doctor(self) -> Iterable[Finding]:
        path = Path(self._address.path)
        if self._address.path and not path.parent.is_dir():
            cure = "create the folder; under oVirt, install and start vdsm"
            return [Finding(Severity.ERROR, self._subject, f"the folder {path.parent} is missing", cure)]
        return self._exposed() or [Finding(Severity.OK, self._subject, "only clients with permission can change policies")]

    def _exposed(self) -> list[Finding]:
        address, cure = self._address, "listen on a unix socket with mode 0600, such as /run/mom/rpc.sock"
        who = "any account of this host" if address.is_local else "any program that reaches this address from another host"
        if address.path:
            exposed = f"the socket's mode {self._settings.mode} lets any account of this host replace all policies"
            if not int(self._settings.mode, 8) & 0o002:
                return []
        elif not self._verbs.read_only:
            exposed = f"{who} can replace all policies: XML-RPC has no authentication"
        elif address.is_local:
            return []
        else:
            exposed = f"{who} can read the statistics of all guests and the policies: XML-RPC has no authentication"
        return [Finding(Severity.WARNING, self._subject, exposed, cure)]
