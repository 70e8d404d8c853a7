"""Mover with the API of Proxmox VE, between nodes of a cluster."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import quote, urlencode

from pydantic import StringConstraints

from mom_core import ExistingFile, HypervisorError, NotSupported, PluginContext, PluginSettings, printable
from mom_kvm import Destination, MoverAbilities
from mom_plugins_sla.eviction.movers.mover import DONE, RUNNING, UNKNOWN, MoveJob, MoveReport, MoverPlugin, failed
from mom_plugins_sla.eviction.movers.server_api import ServerApi, UnclearAnswerError, WebUrl, credentials, part_of

NODE: Final = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"

_UPID: Final = re.compile(r"UPID:[A-Za-z0-9.-]{1,63}(:[0-9A-Fa-f]{1,16}){3}:qmigrate:[0-9]{3,9}:[^\s/:]{1,128}:")
"""Id of a migration task: UPID:node:pid:pstart:starttime:type:id:user:."""

_UUID: Final = re.compile(r"(?:^|,)uuid=([0-9A-Fa-f-]{36})(?:,|$)")

_FORM: Final = "application/x-www-form-urlencoded"

_MAKE: Final = "pveum user token add mom@pve mover; write USER@REALM!TOKENID=SECRET into the file; chmod 600 the file"


class ProxmoxMoverPlugin(MoverPlugin):
    """Plugin that moves guests within a cluster of Proxmox VE."""

    subject = "Proxmox VE"

    class Settings(PluginSettings):
        """API and credentials."""

        url: WebUrl = "https://localhost:8006"
        """Server of the API: this node or another node of the cluster."""
        token: ExistingFile = Path("/etc/mom/proxmox.token")
        """A file with an API token, as `USER@REALM!TOKENID=SECRET`. Other users must not be able to read it. The token needs VM.Migrate and
        VM.Audit."""
        ca: ExistingFile | None = None
        """File with the certificates of the server's authority, such as /etc/pve/pve-root-ca.pem. Unset: the system's certificates."""
        node: Annotated[str, StringConstraints(pattern=NODE)] | None = None
        """This node's name. Unset: the system's name, up to the first dot."""
        local_disks: bool = False
        """Whether to move guests with disks that exist only on this node: copying their disks takes long."""
        within: Annotated[str, StringConstraints(min_length=1, max_length=64)] = "proxmox"
        """Name of the cluster: in a fleet, guests move between hosts with the same value."""

    def __init__(self, settings: Settings, context: PluginContext) -> None:
        super().__init__(context.name, MoverAbilities(live=True, within=settings.within))
        self._api = ServerApi(context.name, settings.url, lambda: _token(settings.token), settings.ca)
        self._node = settings.node or socket.gethostname().partition(".")[0].lower()
        self._local_disks = settings.local_disks
        self._guests, self._tasks = (f"/api2/json/nodes/{self._node}/{part}" for part in ("qemu", "tasks"))

    def ready(self) -> None:
        """Raise `MomError` if the credentials or certificates are unusable."""
        self._api.check()

    def why_not(self, destination: Destination) -> str:
        """Return why the destination is not another node's name; empty if it is."""
        if destination.driver != "host" or re.fullmatch(NODE, destination.host) is None:
            return f"{self.name} moves guests only to another node, written as `host://NODE`, not to {destination}"
        return "the guest is on that node already" if destination.host == self._node else ""

    def begin(self, job: MoveJob) -> str:
        """Create a task; return its id, if any."""
        try:
            vmid = self._vmid(job)
        except UnclearAnswerError as error:  # nothing has started yet
            raise HypervisorError(error.message) from None
        parameters = {"target": job.destination.host, "online": "1", **({"with-local-disks": "1"} if self._local_disks else {})}
        answer = self._api.ask("POST", f"{self._guests}/{vmid}/migrate", urlencode(parameters).encode(), _FORM)
        upid = answer.get("data")
        return upid if isinstance(upid, str) and _UPID.fullmatch(upid) else ""

    def look(self, job: MoveJob) -> MoveReport:
        """Return the task's state; unknown without the task's id."""
        upid = job.reference
        if not _UPID.fullmatch(upid):
            return UNKNOWN
        task = part_of(self._api.ask("GET", f"{self._tasks}/{quote(upid, safe='')}/status"), "data")
        if task.get("status") == "running":
            return RUNNING
        result = task.get("exitstatus")
        if task.get("status") != "stopped" or not isinstance(result, str):
            return UNKNOWN
        return DONE if result == "OK" or result.startswith("WARNINGS") else failed(f"Proxmox VE: {result}")

    def cancel(self, job: MoveJob) -> None:
        """End the task. The guest continues to run here."""
        if _UPID.fullmatch(job.reference):
            self._api.ask("DELETE", f"{self._tasks}/{quote(job.reference, safe='')}")

    def check(self) -> str:
        """Return the API's version. Raise `MomError` if the API cannot be used."""
        version = part_of(self._api.ask("GET", "/api2/json/version"), "data").get("version", "unknown")
        return f"its API accepts mom's token (version {printable(str(version), 40)})"

    # --- identification of the guest ------------------------------------------------------------------------------------------------------

    def _vmid(self, job: MoveJob) -> int:
        listed = self._api.ask("GET", self._guests).get("data")
        named = (
            [item for item in listed if isinstance(item, dict) and item.get("name") == job.guest.name] if isinstance(listed, list) else []
        )
        for number in (item.get("vmid") for item in named):
            vmid = int(number) if isinstance(number, int | str) and re.fullmatch(r"[0-9]{3,9}", str(number)) else 0
            if not vmid:
                continue
            smbios = part_of(self._api.ask("GET", f"{self._guests}/{vmid}/config"), "data").get("smbios1")
            uuid = _UUID.search(smbios) if isinstance(smbios, str) else None
            if uuid is not None and uuid[1].lower() == job.guest.id.lower():
                return vmid
        raise NotSupported(
            f"{self.name}: no guest {printable(job.guest.name, 100)} on {self._node} has the UUID {printable(job.guest.id, 60)}"
        )


def _token(path: Path) -> Mapping[str, str]:
    return {"Authorization": f"PVEAPIToken={credentials(path, _MAKE)}"}
