"""Who manages the guests while they are squeezed: nobody, the laws of others, or mom."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from guest_hosts import GuestHost
from ksm import ksm_restored
from processes import cpu_seconds

HERE = Path(__file__).resolve().parent

STOP_SECONDS = 15.0
ASK_SECONDS = 2.0

REFUSED = "refused"
REFUSES = ("hard", "low", REFUSED)
"""What mom says when it wants no more memory to be taken: states of the host, and that a launch would be refused."""

LEAST_ROOM_MIB = 64.0
"""With less to be had, nothing that is worth launching can be launched."""


@dataclass(frozen=True)
class Where:
    """What a manager needs to know: how its guests are started, and a folder for what the manager writes."""

    host: GuestHost
    folder: Path

    @property
    def socket(self) -> Path:
        """Return mom's control socket, if it has one."""
        return self.folder / "mom.sock"


def mom_command(where: Where, **plugins: object) -> list[str]:
    """Return the command of mom with these plugins' settings besides its defaults. Write its configuration."""
    (where.folder / "policy.d").mkdir(exist_ok=True)
    defaults = {"host": {}, **where.host.plugin, "balloon": {}, "ksm": {}, "policy": {"directory": str(where.folder / "policy.d")}}
    config = {
        "state_directory": str(where.folder / "state"),
        "run_directory": str(where.folder / "run"),
        "mode": "enforce",
        "plugins": defaults | plugins,
    }
    path = where.folder / "mom.yaml"
    path.write_text(json.dumps(config, indent=1))
    return [str(Path(sys.executable).parent / "mom"), "run", "-c", str(path)]


def _peer(law: str) -> Callable[[Where], list[str]]:
    return lambda where: [sys.executable, str(HERE / "peer_loop.py"), law, where.host.uri, str(where.host.pid_folder)]


@dataclass(frozen=True)
class Manager:
    """One of those that are compared: a name for files, one for people, and its command."""

    name: str
    title: str
    command: Callable[[Where], list[str]] | None = None


MANAGERS = {
    one.name: one
    for one in (
        Manager("nothing", "no manager"),
        Manager("mom-original", "oVirt MOM's laws", _peer("mom")),
        Manager("pve", "Proxmox VE's law", _peer("pve")),
        Manager("ksm", "KSM alone (ksmtuned's law)", _peer("ksm")),
        Manager("mom", "mom", mom_command),
        Manager("mom-truthful", "mom, goal truthful", partial(mom_command, balloon={"goal": "truthful"})),
        Manager("mom-offload", "mom with offload", partial(mom_command, offload={})),
        Manager("mom-asked", "mom, asked before more is taken", lambda where: mom_command(where, http={"socket": str(where.socket)})),
    )
}


@dataclass
class Running:
    """A manager at work."""

    manager: Manager
    where: Where
    process: subprocess.Popen[bytes] | None

    @property
    def cpu_seconds(self) -> float:
        """Return the CPU time that it has used."""
        return 0.0 if self.process is None else cpu_seconds(self.process.pid)

    @property
    def ended(self) -> bool:
        """Return whether it has ended, which it should not."""
        return self.process is not None and self.process.poll() is not None

    def status(self) -> Mapping[str, Any]:
        """Return what mom reports about itself; nothing for other managers."""
        with suppress(OSError, ValueError):
            content: dict[str, Any] = json.loads((self.where.folder / "run" / "status.json").read_text())
            return content
        return {}

    @property
    def says(self) -> str:
        """Return what mom reports about the host's state. `refused` if it was asked whether more memory can be taken, and answered no."""
        if self.manager.name == "mom-asked":
            room = could_be_reserved(self.where.socket)
            if room is not None and room < LEAST_ROOM_MIB:
                return REFUSED
        return state_in(self.status())


def could_be_reserved(socket: Path) -> float | None:
    """Return how many MiB mom would promise to a launch now; `None` without an answer."""
    if not socket.exists():
        return None
    try:
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket)), base_url="http://mom", timeout=ASK_SECONDS) as client:
            room = client.get("/v1/reservations").raise_for_status().json()["room"]
            return float(room["most_kib"]) / 1024
    except (httpx.HTTPError, KeyError, TypeError, ValueError):
        return None


def state_in(status: Mapping[str, Any]) -> str:
    """Return the host's state in mom's status; empty if there is none."""
    fields = status.get("host", {}).get("fields", {})
    state = fields.get("host_memory_state")
    return state if isinstance(state, str) else ""


@contextmanager
def at_work(manager: Manager, where: Where) -> Iterator[Running]:
    """Run a manager until the end of the block. KSM is off before and after it."""
    process = None
    with ksm_restored():
        try:
            if manager.command is not None:
                process = started(manager.command(where), where)
            yield Running(manager, where, process)
        finally:
            stop(process)


def started(command: list[str], where: Where) -> subprocess.Popen[bytes]:
    """Start a program that writes its log where logs belong."""
    with (where.folder / "manager.log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log)


def stop(process: subprocess.Popen[bytes] | None) -> None:
    """Send SIGTERM, and SIGKILL if that is not enough."""
    if process is None or process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
