"""A vdsm for tests, as a process of its own: `python vdsm_peer.py OPTIONS`, then one JSON command a line on stdin, one answer on stdout.

It speaks vdsm's protocol with all of vdsm's peculiarities that are known, over TCP or TLS, to any client; and it does wrong what it is
told to do wrong.
"""

import argparse
import asyncio
import json
import socket
import ssl
import sys
import time
from pathlib import Path
from typing import Any

from vdsm_host import Disk, Machine, VdsmHost
from vdsm_manager import Manager
from vdsm_wire import Vdsm


class Peer:
    """The process: a listening vdsm, and what is done on command."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.host = VdsmHost(options.ksm, Manager(str(options.mom)) if options.mom else None)
        self.host.sample_every = options.sample_every
        self.vdsm = Vdsm(self.host, self.context())
        self.port: int = options.port
        self.server: asyncio.Server | None = None
        self.place: socket.socket | None = None
        """Never listens: it keeps others from the port while nobody does."""

    def context(self) -> ssl.SSLContext | None:
        pki: Path | None = self.options.pki
        if pki is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pki / "certs/vdsmcert.pem", pki / "keys/vdsmkey.pem")
        context.load_verify_locations(pki / "certs/cacert.pem")
        context.verify_mode = ssl.CERT_REQUIRED
        if self.options.tls12:
            context.maximum_version = ssl.TLSVersion.TLSv1_2
        return context

    async def listen(self) -> None:
        if self.place is None:
            self.place = socket.socket()
            self.place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.place.bind(("127.0.0.1", self.port))
            self.port = self.place.getsockname()[1]
        self.server = await asyncio.start_server(self.vdsm.accept, "127.0.0.1", self.port)

    async def do(self, command: dict[str, Any]) -> object:
        """Carry out one command, by the name of the method."""
        done = getattr(self, f"do_{command.pop('do')}")(**command)
        return await done if asyncio.iscoroutine(done) else done

    # --- guests ------------------------------------------------------------------------------------------------------------------

    def do_add(self, machines: list[dict[str, Any]]) -> None:
        for told in machines:
            disks = [Disk(**disk) for disk in told.pop("disks", [])]
            self.host.machines[told["id"]] = Machine(**told, disks=disks)

    def do_change(self, identity: str, **values: object) -> None:
        for name, value in values.items():
            setattr(self.host.machines[identity], name, value)

    def do_age(self, identity: str, seconds: float) -> None:
        self.host.machines[identity].started -= seconds

    def do_start_anew(self, identity: str) -> None:
        self.host.machines[identity].started = time.monotonic()

    def do_remove(self, identity: str) -> None:
        del self.host.machines[identity]

    def do_sample(self) -> None:
        for machine in self.host.machines.values():
            machine.sample()

    def do_machines(self) -> object:
        return {
            m.id: {"target": m.target, "actual": m.actual, "seen": m.seen, "quota": m.quota, "period": m.period}
            | {"disks": {disk.name: disk.current for disk in m.disks}}
            for m in self.host.machines.values()
        }

    async def do_call(self, method: str, params: dict[str, Any]) -> object:
        """As the engine calls vdsm."""
        return await self.vdsm.called(method, params)

    def do_calls(self) -> object:
        calls, self.host.calls = self.host.calls, []
        return calls

    def do_event(self, identity: str, status: str) -> int:
        params = {identity: {"status": status}, "notify_time": 4711}
        body = json.dumps({"jsonrpc": "2.0", "method": f"|virt|VM_status|{identity}", "params": params}).encode()
        return self.vdsm.publish("jms.queue.events", body)

    # --- faults ------------------------------------------------------------------------------------------------------------------

    def do_fault(self, method: str, fault: dict[str, object], times: int = 1) -> None:
        self.vdsm.faults.answers[method].extend([fault] * times)

    def do_faults(self, **values: object) -> None:
        for name, value in values.items():
            setattr(self.vdsm.faults, name, value)

    def do_release(self) -> None:
        self.vdsm.faults.released.set()

    def do_recovering(self, value: bool) -> None:
        self.host.recovering = value

    def do_send(self, text: str) -> None:
        for client in list(self.vdsm.clients):
            client.write(text.encode("latin-1"))

    def do_error(self, text: str) -> None:
        for client in list(self.vdsm.clients):
            client.error(text)

    # --- connections -------------------------------------------------------------------------------------------------------------

    def do_wire(self) -> object:
        vdsm = self.vdsm
        return {
            "connections": vdsm.connections,
            "clients": len(vdsm.clients),
            "drops": vdsm.drops,
            "frames": vdsm.frames,
            "dead": vdsm.dead,
            "subscriptions": [sorted(client.subscriptions.values()) for client in vdsm.clients],
        }

    def do_drop(self) -> None:
        self.vdsm.drop_all()

    async def do_stop(self) -> None:
        if self.server is not None:
            self.server.close()
            self.server = None
        self.vdsm.drop_all()

    async def do_start(self) -> None:
        self.vdsm.dead = False
        await self.listen()

    async def run(self) -> None:
        await self.listen()
        print(json.dumps({"port": self.port}), flush=True)  # noqa: T201  # this is how it answers
        loop = asyncio.get_running_loop()
        lines = asyncio.StreamReader(limit=64 << 20)
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
        while line := await lines.readline():
            try:
                answer: object = {"done": await self.do(json.loads(line))}
            except Exception as error:  # noqa: BLE001  # the test that commands is told
                answer = {"failed": f"{type(error).__name__}: {error}"}
            print(json.dumps(answer), flush=True)  # noqa: T201  # as above


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--pki", type=Path, help="the folder with keys and certificates; without it there is no TLS")
    parser.add_argument("--tls12", action="store_true", help="no newer TLS than 1.2")
    parser.add_argument("--ksm", type=Path, help="the folder that stands for /sys/kernel/mm/ksm")
    parser.add_argument("--mom", type=Path, help="the socket on which vdsm asks mom")
    parser.add_argument("--sample-every", type=float, default=15.0, help="seconds between two looks at the guests")
    asyncio.run(Peer(parser.parse_args()).run())


if __name__ == "__main__":
    main()
