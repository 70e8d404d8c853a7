"""The plugin `xmlrpc`: MOM's RPC server, which vdsm and MOM's own clients talk to."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from mom_core import (
    Decision,
    Duration,
    Finding,
    Listener,
    PluginContext,
    PluginSettings,
    Problem,
    Report,
    Severity,
    Size,
    Source,
    Suggestion,
    hookimpl,
    printable,
)
from mom_plugins_vdsm.rpc_listening import Address, listen
from mom_plugins_vdsm.rpc_server import Limits, RpcServer
from mom_plugins_vdsm.rpc_verbs import Verbs

VDSM_SOCKET = "/run/vdsm/mom-vdsm.sock"
"""Where vdsm looks for mom (its option `[mom] socket_path`)."""


def _an_address(text: str) -> str:
    Address.parse(text)
    return text


def _permissions(text: str) -> str:
    try:
        good = 0 <= int(text, 8) <= 0o777
    except ValueError:
        good = False
    if not good:
        raise ValueError("write the permissions as in chmod, such as '0600'")
    return text


class XmlRpcPlugin:
    """Serves MOM's XML-RPC verbs: statistics for whoever asks, and policies from whoever may set them."""

    contract = "1.1"

    class Settings(PluginSettings):
        """Where to listen, and how much a client may use."""

        listen: Annotated[str, AfterValidator(_an_address)] = VDSM_SOCKET
        """The path of a unix socket, a port (on 127.0.0.1), or host:port. Whoever can connect can change the policies."""
        mode: Annotated[str, AfterValidator(_permissions)] = "0600"
        """The permissions of the unix socket. vdsm runs as the same user as mom, so nobody else needs any."""
        clients: Annotated[int, Field(ge=1, le=1000)] = 64
        """How many may be connected at once; with more, the one goes that has been silent for longest."""
        patience: Annotated[Duration, Field(gt=0, le=60)] = 5.0
        """How long a request may take to arrive, and an answer to be taken."""
        largest: Annotated[Size, Field(ge=1024, le=64 << 20)] = 4 << 20
        """How large a request may be."""

    def __init__(self, settings: Settings, context: PluginContext) -> None:
        self._settings = settings
        self._context = context
        self._address = Address.parse(settings.listen)
        self._verbs = Verbs(
            lambda: context.policies, lambda: context.declarations.fields, str(self._address), context.log, nil=bool(self._address.path)
        )
        self._server: RpcServer | None = None

    @classmethod
    def suggest(cls, root: Path) -> Suggestion | None:
        """Fits where vdsm is."""
        if not (root / "run/vdsm").is_dir():
            return None
        return Suggestion("vdsm asks mom for statistics, and sets policies", {"listen": VDSM_SOCKET})

    @hookimpl
    def mom_setup(self) -> None:
        """Listen, unless somebody only takes a look. Raises `MomError` when that cannot be."""
        if not self._context.serves:
            return
        settings = self._settings
        limits = Limits(settings.patience, settings.largest, settings.clients)
        paths = frozenset({"/", "/RPC2"}) if self._address.path else frozenset({"/RPC2"})
        self._server = RpcServer(
            self._listen, self._verbs.answer, self._verbs.too_large, self._verbs.is_slow, paths, limits, self._context.log
        )
        self._server.start(self._context.name)
        if not self._address.is_local:
            self._context.log.warning("%s can be reached from other hosts: whoever reaches it can change the policies", self._address)
        self._context.log.info("XML-RPC on %s", self._address)

    def _listen(self) -> Listener:
        return listen(self._address, int(self._settings.mode, 8))

    @hookimpl
    def mom_evaluate(self) -> Iterable[Decision | Problem]:
        """Decides nothing, but says for as long as it is so that a client's policy is not in force: vdsm tells its engine that it is."""
        for name, wrong in self._verbs.refused():
            what = f"the policy {printable(name)} that was set last" if name else "the policies that were set last are refused"
            message = f"{what} is refused: {wrong}" if name else f"{what}: {wrong}"
            yield Problem(Source(self._context.name), message, severity=Severity.WARNING, hint="what was in force before is in force still")

    @hookimpl
    def mom_report(self, report: Report) -> None:
        """Answers come from the newest report, so that no client ever waits for a cycle."""
        self._verbs.note(report)

    @hookimpl
    def mom_teardown(self) -> None:
        """Stop listening, and end all connections."""
        if self._server is not None:
            self._server.close()

    @hookimpl
    def mom_doctor(self) -> Iterable[Finding]:
        """Whether the socket's folder is there."""
        path = Path(self._address.path)
        subject = f"XML-RPC on {self._address}"
        if not self._address.path or path.parent.is_dir():
            return [Finding(Severity.OK, subject, "can be listened on" if not path.is_socket() else "the socket is there")]
        return [Finding(Severity.ERROR, subject, f"the folder {path.parent} is missing", "make it; under oVirt, install and start vdsm")]
