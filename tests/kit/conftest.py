"""A daemon on a host of files, whose plugins are the tests' own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mom_devkit import wait_until

BIN = Path(sys.executable).parent


class Daemon:
    """`mom` as a process, a folder of what is installed, a host of files, and a configuration."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.site = directory / "site"
        self.root = directory / "root"
        self.config = directory / "mom.yaml"
        self.log = directory / "mom.log"
        self.process: subprocess.Popen[bytes] | None = None
        for folder in (self.site, self.root / "proc"):
            folder.mkdir(parents=True)
        (self.root / "proc/knob").write_text("60\n")
        self.environment = {**os.environ, "PYTHONPATH": str(self.site), "COLUMNS": "200"}

    def install(self, name: str, source: str) -> None:
        """Put a module with a class `Plugin` and its metadata where pip would."""
        (self.site / f"kit_{name}.py").write_text(source)
        about = self.site / f"kit_{name}-1.0.dist-info"
        about.mkdir(exist_ok=True)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: kit-{name}\nVersion: 1.0\nSummary: For a test.\n")
        (about / "entry_points.txt").write_text(f"[mom.plugins]\n{name} = kit_{name}:Plugin\n")

    def configure(self, *plugins: str) -> None:
        """Write the configuration; each plugin is a line of YAML."""
        folders = "".join(f"{key}: {self.directory / key}\n" for key in ("root", "state_directory", "run_directory"))
        self.config.write_text(f"interval: 100ms\nstop_timeout: 60s\n{folders}\nplugins:\n" + "".join(f"  {line}\n" for line in plugins))

    def start(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([BIN / "mom", "run", "-c", self.config], stdout=log, stderr=log, env=self.environment)
        return self.process

    def mom(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [BIN / "mom", *arguments, "-c", self.config], capture_output=True, text=True, timeout=180, env=self.environment, check=False
        )

    def status(self) -> dict[str, Any]:
        path = self.directory / "run_directory/status.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def state_of(self, plugin: str) -> str:
        return next((row["state"] for row in self.status().get("plugins", []) if row["name"] == plugin), "")

    def logged(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def wait_for(self, what: Callable[[], bool], seconds: float = 120.0) -> None:
        wait_until(what, self.logged, seconds)

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
        if self.process is not None:
            self.process.wait(60)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    one = Daemon(tmp_path)
    yield one
    one.end()
