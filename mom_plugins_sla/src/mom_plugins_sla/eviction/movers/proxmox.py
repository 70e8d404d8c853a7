"""A mover that asks Proxmox VE, by its HTTP API, to move a guest to another node of its cluster."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import quote, urlencode

from pydantic import StringConstraints

from mom_core import ExistingFile, HypervisorError, NotSupported, PluginContext, PluginSettings, printable
from mom_kvm import Destination, MoveJob, MoverAbilities, MoveReport
from mom_plugins_sla.eviction.movers.mover_plugin import MoverPlugin
from mom_plugins_sla.eviction.movers.reports import DONE, RUNNING, UNKNOWN, failed
from mom_plugins_sla.eviction.movers.server_api import ServerApi, UnclearAnswerError, WebUrl, credentials, part_of

NODE: Final = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"

_UPID: Final = re.compile(r"UPID:[A-Za-z0-9.-]{1,63}(:[0-9A-Fa-f]{1,16}){3}:qmigrate:[0-9]{3,9}:[^\s/:]{1,128}:")
"""A task's name: UPID:node:pid:pstart:starttime:type:id:user:, of the type that moves a guest."""

_UUID: Final = re.compile(r"(?:^|,)uuid=([0-9A-Fa-f-]{36})(?:,|$)")

_FORM: Final = "application/x-www-form-urlencoded"

_NO_ANSWER: Final = frozenset({408, 429, 502, 503, 504, 595, 596, 599})
"""595 to 599 are pveproxy's own, of a node that it did not reach, or that did not answer."""

_MAKE: Final = "pveum user token add mom@pve mover; write USER@REALM!TOKENID=SECRET into the file, chmod 600"


class ProxmoxMover:
    """`Mover` on Proxmox VE's API: `POST /nodes/NODE/qemu/VMID/migrate` makes a task, `GET /nodes/NODE/tasks/UPID/status` says how it is,
    `DELETE /nodes/NODE/tasks/UPID` ends it.

    :param node: this node's name in its cluster
    """

    def __init__(self, name: str, api: ServerApi, node: str, *, local_disks: bool, within: str) -> None:
        self.name, self._api, self._node, self._local_disks = name, api, node, local_disks
        self._guests, self._tasks = f"/api2/json/nodes/{node}/qemu", f"/api2/json/nodes/{node}/tasks"
        self.abilities = MoverAbilities(live=True, within=within)

    def why_not(self, destination: Destination) -> str:
        """It knows nodes by name."""
        if destination.driver != "host" or re.fullmatch(NODE, destination.host) is None:
            return f"{self.name} moves guests to other nodes by their names, `host://NODE`, not to {destination}"
        return "the guest is on that node already" if destination.host == self._node else ""

    def begin(self, job: MoveJob) -> str:
        """Refused by what the cluster says of the guest before, or begun by a task."""
        try:
            vmid = self._vmid(job)
            self._refuse_local(vmid, job)
        except UnclearAnswerError as error:  # nothing but questions so far
            raise HypervisorError(error.message) from None
        parameters = {"target": job.destination.host, "online": "1", **({"with-local-disks": "1"} if self._local_disks else {})}
        answer = self._api.ask("POST", f"{self._guests}/{vmid}/migrate", urlencode(parameters).encode(), _FORM)
        upid = answer.get("data")
        return upid if isinstance(upid, str) and _UPID.fullmatch(upid) else ""

    def look(self, job: MoveJob) -> MoveReport:
        """By its task; where that is not known, by the tasks that this node has begun since."""
        upid = job.reference if _UPID.fullmatch(job.reference) else self._task_of(job)
        if not upid:
            return UNKNOWN
        said = part_of(self._api.ask("GET", f"{self._tasks}/{quote(upid, safe='')}/status"), "data")
        if said.get("status") == "running":
            return RUNNING
        ended = said.get("exitstatus")
        if said.get("status") != "stopped" or not isinstance(ended, str):
            return UNKNOWN
        return DONE if ended == "OK" or ended.startswith("WARNINGS") else failed(f"Proxmox VE: {ended}")

    def cancel(self, job: MoveJob) -> None:
        """End the task: `qm migrate` then lets the guest run on here."""
        upid = job.reference if _UPID.fullmatch(job.reference) else self._task_of(job)
        if upid:
            self._api.ask("DELETE", f"{self._tasks}/{quote(upid, safe='')}")

    def check(self) -> str:
        """Return the API's version; raises `MomError` when it does not let mom in."""
        version = part_of(self._api.ask("GET", "/api2/json/version"), "data").get("version", "unknown")
        return f"its API lets mom in (version {printable(str(version), 40)})"

    # --- which guest it is -------------------------------------------------------------------------------------------------------------

    def _vmid(self, job: MoveJob) -> int:
        """Return the number of the guest of that name whose definition has its UUID: names alone may be those of several."""
        listed = self._api.ask("GET", self._guests).get("data")
        named = (
            [item for item in listed if isinstance(item, dict) and item.get("name") == job.guest.name] if isinstance(listed, list) else []
        )
        for number in (item.get("vmid") for item in named):
            vmid = int(number) if isinstance(number, int | str) and re.fullmatch(r"[0-9]{3,9}", str(number)) else 0
            if not vmid:
                continue
            told = part_of(self._api.ask("GET", f"{self._guests}/{vmid}/config"), "data").get("smbios1")
            uuid = _UUID.search(told) if isinstance(told, str) else None
            if uuid is not None and uuid[1].lower() == job.guest.id.lower():
                return vmid
        raise NotSupported(
            f"{self.name}: no guest {printable(job.guest.name, 100)} on {self._node} has the UUID {printable(job.guest.id, 60)}"
        )

    def _refuse_local(self, vmid: int, job: MoveJob) -> None:
        """Refuse for what the cluster itself says against it: `GET .../migrate` names disks and devices that are on this node only."""
        said = part_of(self._api.ask("GET", f"{self._guests}/{vmid}/migrate?{urlencode({'target': job.destination.host})}"), "data")
        disks, devices = said.get("local_disks"), said.get("local_resources")
        if disks and not self._local_disks:
            raise NotSupported(
                f"{self.name}: the guest has disks on {self._node} only", hint="see `local_disks` of the plugin proxmox_mover"
            )
        if devices:
            raise NotSupported(f"{self.name}: the guest has devices of {self._node}: {printable(str(devices), 200)}")

    def _task_of(self, job: MoveJob) -> str:
        """Return the task that moves it, by this node's tasks since the move was begun; empty: none is known."""
        query = urlencode({"typefilter": "qmigrate", "vmid": self._vmid(job), "since": int(job.time), "source": "all"})
        listed = self._api.ask("GET", f"{self._tasks}?{query}").get("data")
        upids = [item.get("upid") for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
        known = [upid for upid in upids if isinstance(upid, str) and _UPID.fullmatch(upid)]
        return known[0] if len(known) == 1 else ""


def _token(path: Path) -> Mapping[str, str]:
    return {"Authorization": f"PVEAPIToken={credentials(path, _MAKE)}"}


class ProxmoxMoverPlugin(MoverPlugin):
    """Has guests moved within a cluster of Proxmox VE."""

    class Settings(PluginSettings):
        """Where the API is, and what mom is called there."""

        url: WebUrl = "https://localhost:8006"
        """The API's server, this node's own or another one of the cluster."""
        token: ExistingFile = Path("/etc/mom/proxmox.token")
        """A file with an API token, as `USER@REALM!TOKENID=SECRET`; other users may not read it. It needs VM.Migrate and VM.Audit."""
        ca: ExistingFile | None = None
        """The certificates that the server's is checked with, as PEM: /etc/pve/pve-root-ca.pem. Unset: those that the system trusts."""
        node: Annotated[str, StringConstraints(pattern=NODE)] | None = None
        """This node's name. Unset: the system's, up to the first dot."""
        local_disks: bool = False
        """Whether guests with disks on this node only are moved, and their disks copied, which takes long."""
        within: Annotated[str, StringConstraints(min_length=1, max_length=64)] = "proxmox"
        """The cluster's name: guests are moved between hosts of a fleet whose movers have the same word here."""

    def __init__(self, settings: Settings, context: PluginContext) -> None:
        api = ServerApi(context.name, settings.url, lambda: _token(settings.token), settings.ca, _NO_ANSWER)
        node = settings.node or socket.gethostname().partition(".")[0].lower()
        mover = ProxmoxMover(context.name, api, node, local_disks=settings.local_disks, within=settings.within)
        super().__init__(mover, "Proxmox VE", api.check)
