"""`mom run` as a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from real_guests import eventually


@dataclass
class MomRun:
    """`mom` as an operator uses it, with a configuration of the test's own."""

    folder: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def config(self) -> Path:
        return self.folder / "mom.yaml"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def verb(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).parent / "mom"), *words]
        environment = {**os.environ, "MOM_CONFIG": str(self.config)}
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)

    def status(self) -> dict[str, Any]:
        done = self.verb("status", "--json")
        assert done.stdout, done.stderr
        content: dict[str, Any] = json.loads(done.stdout)
        return content

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([Path(sys.executable).parent / "mom", "run", "-c", self.config], stdout=log, stderr=log)
        eventually("mom has done a cycle", (self.folder / "run" / "status.json").exists, 120)

    def kill(self) -> None:
        """End it without warning, if it still runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> float:
        """SIGTERM; how long it took to end."""
        assert self.process is not None
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) == 0, self.log
        return time.monotonic() - began
