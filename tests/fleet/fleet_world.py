"""A fleet for tests: a real nats-server, hosts (real moms with simulated guests), and coordinators, all as processes."""

import asyncio
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import chdir
from pathlib import Path
from typing import Any, TypeVar

import pytest
from real_guests import not_here
from shorter_waits import mom_with
from verbs_in_process import run_verb

from mom_core import MomError
from mom_devkit import wait_until
from mom_plugins_fleet.client import Access
from mom_plugins_fleet.link import Store, ask
from mom_plugins_fleet.records import Invitation, read
from mom_plugins_fleet.signatures import Signer

Answer = TypeVar("Answer")
LOG = logging.getLogger("mom.fleet.test")
MOM = str(Path(sys.executable).parent / "mom")
NATS_SERVER = shutil.which("nats-server") or "/usr/sbin/nats-server"

SHORTER: dict[str, float] = {
    "link.AGAIN_SECONDS": 0.2,
    "link.ANSWER_SECONDS": 2.0,
    "host.agent.AGAIN_SECONDS": 1.0,
    "host.agent.PUBLISH_SECONDS": 1.0,
    "host.agent.HEARTBEAT_SECONDS": 3.0,
    "host.agent.RESYNC_SECONDS": 3.0,
    "coordinator.coordinator.LEASE_SECONDS": 4.0,
    "coordinator.coordinator.RENEW_SECONDS": 1.0,
    "coordinator.coordinator.SURE_SECONDS": 2.5,
    "coordinator.coordinator.LOOK_SECONDS": 0.5,
}
"""Waits of hosts and coordinators, shorter than on real hosts."""

START_SECONDS = 120.0
"""Time limit for the start of a process. On a busy machine, mom needs seconds to import all modules."""


def need_a_server() -> None:
    """Skip the test without nats-server. With MOM_REQUIRE_REAL=1, fail it."""
    if not Path(NATS_SERVER).exists():
        not_here("there is no nats-server")


def free_port() -> socket.socket:
    """Return a socket that reserves a port. Servers can listen on the port, but the kernel does not give it to other processes."""
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.bind(("127.0.0.1", 0))
    return one


def port_of(one: socket.socket) -> int:
    return int(one.getsockname()[1])


def listens(port: int) -> bool:
    """Return whether a server accepts connections on this port."""
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


async def patiently(what: Callable[[], Awaitable[object]], seconds: float = START_SECONDS) -> None:
    """Repeat until it works. After a start, and after the loss of a server, servers must first find each other."""
    ends = time.monotonic() + seconds
    while True:
        try:
            await what()
            return
        except MomError:
            assert time.monotonic() < ends
            await asyncio.sleep(0.2)


class FleetWorld:
    """One fleet in a folder, with TLS. Its processes are killed at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, folder / "fleet"
        self.shorter = dict(SHORTER)
        self._place = free_port()
        self.port = port_of(self._place)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.ca = self.home / "ca.pem"
        with pytest.MonkeyPatch.context() as here:
            here.setattr("mom_plugins_fleet.verbs.server_setup.STORE", folder)
            self.fleet("init", f"localhost:{self.port}", "--no-start")
        self.operator = self.signer.public
        try:
            self.start_server()
            self.fleet("init")
        except BaseException:  # not yet owned by an object that closes it
            self.close()
            raise

    # --- the server ----------------------------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        return f"tls://localhost:{self.port}"

    def start_server(self) -> None:
        self.start_program("server", [NATS_SERVER, "-c", str(self.home / "nats.conf")])
        self.until(lambda: listens(self.port), "the server answers")

    def new_home(self, name: str) -> Path:
        """Return the folder of another operator or coordinator with valid credentials."""
        self.fleet("key", str(self.folder / name))
        return self.folder / name

    # --- hosts -----------------------------------------------------------------------------------------------------------------------

    def enroll(self, host: str, group: str = "g1", *more: str) -> None:
        with chdir(self.folder):
            self.fleet("enroll", host, "--group", group, "--address", f"qemu://{host}/system", *more)
        if (self.folder / f"{host}.join").exists():
            self.keep_key(host)

    def keep_key(self, host: str) -> Path:
        """Keep the key in a host's file."""
        file, key = self.folder / f"{host}.join", self.folder / f"{host}.key"
        key.touch(0o600)
        key.write_text(read(Invitation, file.read_bytes()).credentials)
        file.unlink()
        return key

    def start_host(
        self, host: str, seed: int, *, guests: int = 3, sla: Mapping[str, Any] | None = None, operators: list[str] | None = None
    ) -> None:
        own = self.folder / host
        own.mkdir(exist_ok=True)
        simulated = {"shelf": str(self.folder / "shelf"), "host": host, "seed": seed, "guests": guests, "host_memory": "16GiB", "sold": 0.4}
        settings: dict[str, Any] = {
            "interval": "1s",
            "state_directory": str(own / "state"),
            "run_directory": str(own / "run"),
            "mode": "enforce",
            "plugins": {
                "sim": simulated,
                "policy": {},
                "eviction": {"move_unclassed": True},
                "fleet": {
                    "servers": [self.url],
                    "host": host,
                    "key": str(self.folder / f"{host}.key"),
                    "ca": str(self.ca),
                    "operators": [self.operator] if operators is None else operators,
                },
            },
        }
        if sla is not None:
            settings["plugins"]["sla"] = {"classes_file": str(own / "state" / "fleet" / "classes.yaml"), **sla}
        (own / "mom.yaml").write_text(json.dumps(settings))
        self.start_mom(host, "run", "-c", str(own / "mom.yaml"))

    def start_coordinator(self, name: str) -> None:
        self.start_mom(name, *self._access(), "coordinator")

    def guests(self) -> dict[str, list[str]]:
        """Return the hosts of all guests, keyed by ID, from the file that the simulated hosts share."""
        found: dict[str, list[str]] = {}
        for path in (self.folder / "shelf").glob("*/*.json"):
            found.setdefault(path.stem, []).append(path.parent.name)
        return found

    def where(self, host: str) -> set[str]:
        return {guest for guest, hosts in self.guests().items() if host in hosts}

    def classes_on(self, host: str) -> set[str | None]:
        """Return the classes of a host's guests, as its mom reports them."""
        told = json.loads(self._plain("guests", "--json", "-c", str(self.folder / host / "mom.yaml")))
        return {guest.get("sla_class") for guest in told}

    # --- commands of an operator --------------------------------------------------------------------------------------------------------

    def _access(self) -> list[str]:
        return ["fleet", "--home", str(self.home)]

    def fleet(self, *arguments: str) -> str:
        return self._plain(*self._access(), *arguments)

    def status(self) -> Any:
        return json.loads(self.fleet("status", "--json"))

    def host(self, name: str) -> dict[str, Any]:
        return next(row for row in self.status()["hosts"] if row["host"] == name)

    def set_policy(self, text: str, *, group: str = "g1", name: str = "60_fleet_a") -> None:
        file = self.folder / "a.policy"
        file.write_text(text)
        self.fleet("policy", "set", group, name, str(file))

    def tried(self, *arguments: str, home: Path | None = None) -> tuple[int, str]:
        """Run a command with the operator's folder, or with another. Return its exit code and standard error."""
        code, _, err = self._run("fleet", "--home", str(home or self.home), *arguments)
        return code, " ".join(err.split())

    def refused(self, *arguments: str, home: Path | None = None) -> str:
        code, said = self.tried(*arguments, home=home)
        assert code, "it was done"
        return said

    def _plain(self, *arguments: str) -> str:
        code, out, err = self._run(*arguments)
        assert code == 0, err
        return out

    @staticmethod
    def _run(*arguments: str) -> tuple[int, str, str]:
        done = run_verb(*arguments)
        return done.returncode, done.stdout, done.stderr

    # --- content of the servers ----------------------------------------------------------------------------------------------------

    @property
    def signer(self) -> Signer:
        """Return the operator's signer."""
        return Signer((self.home / "sign.key").read_text().strip())

    def new_signer(self, name: str) -> Signer:
        """Return the connection of another operator or coordinator."""
        return Signer((self.new_home(name) / "sign.key").read_text().strip())

    def access(self, credentials: Path | None = None) -> Access:
        return Access([self.url], self.ca, credentials or self.home / "connect.creds")

    def asked(self, what: Callable[[Store], Awaitable[Answer]]) -> Answer:
        """Return a connection with a key that may do everything."""
        return ask(self.access(), "operator", LOG, what)

    def read(self, bucket: str, key: str) -> bytes:
        return self.asked(lambda store: store.read(bucket, key)).data or b""

    def put(self, bucket: str, key: str, data: bytes) -> None:
        self.asked(lambda store: store.put(bucket, key, data))

    def hide(self, bucket: str, key: str) -> None:
        self.asked(lambda store: store.remove(bucket, key))

    # --- processes ---------------------------------------------------------------------------------------------------------------------

    def start_mom(self, name: str, *arguments: str) -> None:
        waits = {f"mom_plugins_fleet.{wait}": seconds for wait, seconds in self.shorter.items()}
        self.start_program(name, [*mom_with(waits), *arguments])

    def start_program(self, name: str, command: list[str]) -> None:
        log = (self.folder / f"{name}.log").open("ab")
        environment = {key: value for key, value in os.environ.items() if not key.startswith("MOM_")}
        self.processes[name] = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment)
        log.close()

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def kill(self, name: str, how: signal.Signals = signal.SIGKILL) -> None:
        process = self.processes.pop(name)
        process.send_signal(how)
        process.wait(60)

    def close(self) -> None:
        for process in self.processes.values():
            process.kill()
        for process in self.processes.values():
            process.wait(60)
        self._place.close()

    def until(self, holds: Callable[[], object], what: str, seconds: float = START_SECONDS) -> None:
        """Wait for a condition. If it takes too long, fail with the ends of all logs."""
        wait_until(holds, lambda: "\n".join([what, *(f"--- {name}\n{self.log(name)[-1500:]}" for name in self.processes)]), seconds)
