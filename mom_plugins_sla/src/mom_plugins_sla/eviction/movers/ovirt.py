"""A mover that asks oVirt's engine, by its REST API, to move a virtual machine."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

from pydantic import StringConstraints

from mom_core import ExistingFile, HypervisorError, NotSupported, PluginContext, PluginSettings, printable
from mom_kvm import Destination, MoveJob, MoverAbilities, MoveReport
from mom_plugins_sla.eviction.movers.mover_plugin import MoverPlugin
from mom_plugins_sla.eviction.movers.reports import DONE, RUNNING, UNKNOWN, failed
from mom_plugins_sla.eviction.movers.server_api import ServerApi, WebUrl, credentials, part_of

_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_MAKE: Final = "write USER@PROFILE:PASSWORD into the file, such as mom@internal:SECRET; chmod 600"


class OvirtMover:
    """`Mover` on the engine's API: `POST /vms/ID/migrate` begins, the job that its answer names says how it is, and without one the
    machine's own status; `POST /vms/ID/cancelmigration` gives it up. A machine's id is its UUID.

    :param chooses: whether the engine chooses the host, of the machine's cluster
    """

    def __init__(self, name: str, api: ServerApi, *, chooses: bool, within: str) -> None:
        self.name, self._api = name, api
        self.abilities = MoverAbilities(live=True, chooses=chooses, within=within)

    def why_not(self, destination: Destination) -> str:
        """It knows hosts by their names or ids."""
        if self.abilities.chooses:
            return (
                "" if destination == Destination.ANYWHERE else f"the engine chooses the host for {self.name}: the destination is `anywhere`"
            )
        if destination.driver == "host":
            return ""
        return f"{self.name} moves guests to hosts by their names or ids in the engine, `host://NAME`, not to {destination}"

    def begin(self, job: MoveJob) -> str:
        """Begin the move; return the id of the engine's job, if its answer names one."""
        host = job.destination.host
        action = {"host": {"id" if _UUID.fullmatch(host) else "name": host}} if host else {}
        answer = self._api.ask("POST", f"{self._machine(job)}/migrate", json.dumps(action).encode(), "application/json")
        if answer.get("status") == "failed":
            raise HypervisorError(f"{self.name}: the engine says that it has failed: {printable(str(answer.get('fault', '')), 300)}")
        identity = part_of(answer, "job").get("id")
        return identity if isinstance(identity, str) and _UUID.fullmatch(identity) else ""

    def look(self, job: MoveJob) -> MoveReport:
        """By the job; else by the machine: that it runs on the host that it was to go to. That it runs elsewhere says nothing, as it may
        not have begun to move."""
        if _UUID.fullmatch(job.reference):
            return self._by_job(job)
        machine = self._api.ask("GET", self._machine(job))
        if machine.get("status") == "migrating":
            return RUNNING
        at = part_of(machine, "host").get("id")
        return DONE if machine.get("status") == "up" and at is not None and at == job.destination.host else UNKNOWN

    def _by_job(self, job: MoveJob) -> MoveReport:
        said = self._api.ask("GET", f"/api/jobs/{job.reference}")
        status = said.get("status")
        if status == "started":
            return RUNNING
        if status == "finished":
            return DONE
        if status in ("failed", "aborted"):
            return failed(f"the engine's job {status}: {printable(str(said.get('description', '')), 200)}")
        return UNKNOWN

    def cancel(self, job: MoveJob) -> None:
        """Have the engine stop the migration."""
        self._api.ask("POST", f"{self._machine(job)}/cancelmigration", b"{}", "application/json")

    def check(self) -> str:
        """Its version; raises `MomError` when it does not let mom in."""
        full = part_of(self._api.ask("GET", "/api"), "product_info", "version").get("full_version")
        return f"it lets mom in (version {printable(str(full or 'unknown'), 60)})"

    @staticmethod
    def _machine(job: MoveJob) -> str:
        if _UUID.fullmatch(job.guest.id) is None:
            raise NotSupported(f"the guest's id {printable(job.guest.id, 60)} is no UUID, as which the engine knows it")
        return f"/api/vms/{job.guest.id}"


def _basic(password: Path) -> Mapping[str, str]:
    text = credentials(password, _MAKE)
    return {"Authorization": f"Basic {base64.b64encode(text.encode()).decode()}", "Version": "4"}


class OvirtMoverPlugin(MoverPlugin):
    """Has guests moved by oVirt's engine."""

    class Settings(PluginSettings):
        """Where the engine is, and what mom is called there."""

        url: WebUrl = "https://localhost/ovirt-engine"
        """The engine, such as `https://engine.example.org/ovirt-engine`."""
        password: ExistingFile = Path("/etc/mom/ovirt.password")
        """A file with who mom is there, as `USER@PROFILE:PASSWORD`; other users may not read it. It needs the role UserVmManager for the
        guests, or VmOperator and MIGRATE_VM."""
        ca: ExistingFile | None = None
        """The certificates that the engine's is checked with, as PEM. Unset: those that the system trusts."""
        chooses: bool = True
        """Whether the engine chooses the host: destinations are `anywhere` then. Else the host's name or id in the engine, `host://NAME`."""
        within: Annotated[str, StringConstraints(min_length=1, max_length=64)] = "ovirt"
        """The cluster's name: guests are moved between hosts of a fleet whose movers have the same word here."""

    def __init__(self, settings: Settings, context: PluginContext) -> None:
        api = ServerApi(context.name, settings.url, lambda: _basic(settings.password), settings.ca)
        mover = OvirtMover(context.name, api, chooses=settings.chooses, within=settings.within)
        super().__init__(mover, "oVirt's engine", api.check)
