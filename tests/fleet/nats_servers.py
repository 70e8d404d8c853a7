"""Real nats-servers that a test can kill, stop and restart."""

import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Self

from fleet_world import NATS_SERVER, free_port, port_of


class NatsServers:
    """Servers in a folder; several form a cluster. By default, they need no keys.

    :param configured: additional configuration of each server, by number
    """

    def __init__(self, folder: Path, count: int = 1, configured: Callable[[int], str] = lambda _: "") -> None:
        self._folder = folder
        self._places = [free_port() for _ in range(2 * count)]
        clients, routes = [port_of(one) for one in self._places[:count]], [port_of(one) for one in self._places[count:]]
        self.urls = [f"nats://localhost:{port}" for port in clients]
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        named = ", ".join(f'"nats://127.0.0.1:{port}"' for port in routes)
        for number, (client, route) in enumerate(zip(clients, routes, strict=True)):
            cluster = f'cluster {{ name: mom, listen: "127.0.0.1:{route}", routes: [{named}] }}\n' if count > 1 else ""
            (folder / f"s{number}.conf").write_text(
                f'listen: "127.0.0.1:{client}"\nserver_name: s{number}\njetstream {{ store_dir: "{folder}/js{number}" }}\n'
                f"{cluster}{configured(number)}"
            )

    def start(self, number: int = 0) -> None:
        command = [NATS_SERVER, "-c", str(self._folder / f"s{number}.conf")]
        self._processes[number] = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill(self, number: int = 0) -> None:
        process = self._processes.pop(number)
        process.kill()
        process.wait(60)

    def freeze(self, number: int = 0) -> None:
        self._processes[number].send_signal(signal.SIGSTOP)

    def thaw(self, number: int = 0) -> None:
        self._processes[number].send_signal(signal.SIGCONT)

    def forget(self, number: int = 0) -> None:
        """Delete the data of a stopped server, as on a new disk."""
        shutil.rmtree(self._folder / f"js{number}")

    def __enter__(self) -> Self:
        for number in range(len(self.urls)):
            self.start(number)
        return self

    def __exit__(self, *_: object) -> None:
        for number in list(self._processes):
            self.kill(number)
        for place in self._places:
            place.close()
