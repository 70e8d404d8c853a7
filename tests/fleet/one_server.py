"""A real nats-server that asks for no keys, which a test kills, stops and starts again."""

import shutil
import signal
import subprocess
from pathlib import Path

from fleet_world import NATS_SERVER, free_port, listens, port_of

from mom_devkit import wait_until


class OneServer:
    """Keeps its buckets below a folder."""

    def __init__(self, folder: Path) -> None:
        self._store, self._config, self._log = folder / "js", folder / "one.conf", folder / "one.log"
        self._place = free_port()
        self.port = port_of(self._place)
        self._config.write_text(f'listen: "127.0.0.1:{self.port}"\njetstream {{ store_dir: "{self._store}" }}\n')
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        if self._process is None:
            with self._log.open("ab") as log:
                self._process = subprocess.Popen([NATS_SERVER, "-c", str(self._config)], stdout=log, stderr=log)
        wait_until(lambda: listens(self.port), self._log.read_text)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(60)
            self._process = None

    def freeze(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def forget(self) -> None:
        """It loses all that it has, as on a new disk. Only while it does not run."""
        shutil.rmtree(self._store)

    def close(self) -> None:
        self.kill()
        self._place.close()
