"""Mover with the REST API of oVirt's engine."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

from pydantic import StringConstraints

from mom_core import ExistingFile, HypervisorError, NotSupported, PluginContext, PluginSettings, printable
from mom_kvm import Destination, MoverAbilities
from mom_plugins_sla.eviction.movers.mover import DONE, RUNNING, UNKNOWN, MoveJob, MoveReport, MoverPlugin, failed
from mom_plugins_sla.eviction.movers.server_api import ServerApi, WebUrl, credentials, part_of

_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_MAKE: Final = "write USER@PROFILE:PASSWORD into the file, such as mom@internal:SECRET; chmod 600 the file"


class OvirtMoverPlugin(MoverPlugin):
    """Plugin that moves guests with oVirt's engine."""

    subject = "oVirt's engine"

    class Settings(PluginSettings):
        """Engine and credentials."""

        url: WebUrl = "https://localhost/ovirt-engine"
        """URL of the engine, such as `https://engine.example.org/ovirt-engine`."""
        password: ExistingFile = Path("/etc/mom/ovirt.password")
        """A file with mom's credentials, as `USER@PROFILE:PASSWORD`. Other users must not be able to read it. The user needs the role
        UserVmManager for the guests, or VmOperator and MIGRATE_VM."""
        ca: ExistingFile | None = None
        """Certificates of the engine's authority, as PEM. Unset: the system's certificates."""
        chooses: bool = True
        """Whether the engine chooses the host. If so, destinations are `anywhere`; otherwise, `host://` and the host's name or id."""
        within: Annotated[str, StringConstraints(min_length=1, max_length=64)] = "ovirt"
        """Name of the cluster: in a fleet, guests move between hosts with the same value."""

    def __init__(self, settings: Settings, context: PluginContext) -> None:
        super().__init__(context.name, MoverAbilities(live=True, chooses=settings.chooses, within=settings.within))
        self._api = ServerApi(context.name, settings.url, lambda: _basic(settings.password), settings.ca)

    def ready(self) -> None:
        """Raise `MomError` if the credentials or certificates are unusable."""
        self._api.check()

    def why_not(self, destination: Destination) -> str:
        """Return why the engine cannot move guests there; empty if it can."""
        if self.abilities.chooses:
            return "" if destination == Destination.ANYWHERE else f"for {self.name} the engine chooses the host: use `anywhere`"
        if destination.driver == "host":
            return ""
        return f"{self.name} moves guests only to a host of the engine, written as `host://NAME` or `host://ID`, not to {destination}"

    def begin(self, job: MoveJob) -> str:
        """Start the move. Return the engine's job id, if any."""
        host = job.destination.host
        action = {"host": {"id" if _UUID.fullmatch(host) else "name": host}} if host else {}
        answer = self._api.ask("POST", f"{self._machine(job)}/migrate", json.dumps(action).encode(), "application/json")
        if answer.get("status") == "failed":
            raise HypervisorError(f"{self.name}: the engine reports a failure: {printable(str(answer.get('fault', '')), 300)}")
        identity = part_of(answer, "job").get("id")
        return identity if isinstance(identity, str) and _UUID.fullmatch(identity) else ""

    def look(self, job: MoveJob) -> MoveReport:
        """Return the move's state; unknown without the id of the engine's job."""
        if not _UUID.fullmatch(job.reference):
            return UNKNOWN
        answer = self._api.ask("GET", f"/api/jobs/{job.reference}")
        status = answer.get("status")
        if status == "started":
            return RUNNING
        if status == "finished":
            return DONE
        if status in ("failed", "aborted"):
            return failed(f"the engine's job {status}: {printable(str(answer.get('description', '')), 200)}")
        return UNKNOWN

    def cancel(self, job: MoveJob) -> None:
        """Cancel the migration."""
        self._api.ask("POST", f"{self._machine(job)}/cancelmigration", b"{}", "application/json")

    def check(self) -> str:
        """Return the engine's version. Raise `MomError` if the engine cannot be used."""
        full = part_of(self._api.ask("GET", "/api"), "product_info", "version").get("full_version")
        return f"the engine accepts mom's login (version {printable(str(full or 'unknown'), 60)})"

    @staticmethod
    def _machine(job: MoveJob) -> str:
        if _UUID.fullmatch(job.guest.id) is None:
            raise NotSupported(f"the guest's id {printable(job.guest.id, 60)} is not a UUID, so the engine cannot know it")
        return f"/api/vms/{job.guest.id}"


def _basic(password: Path) -> Mapping[str, str]:
    text = credentials(password, _MAKE)
    return {"Authorization": f"Basic {base64.b64encode(text.encode()).decode()}", "Version": "4"}
