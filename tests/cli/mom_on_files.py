"""Host of files, plugins for tests, and `mom` as a process."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from everywhere import Shelf
from host_files import ksm_host
from shorter_waits import mom_with
from verbs_in_process import run_verb

from mom_devkit import wait_until

MOM = Path(sys.executable).parent / "mom"

PLUGINS = '''
import ctypes, os, time
from pydantic import SecretStr
from mom_core import Decision, Entity, PluginSettings, Scope, hookimpl

class Base:
    def __init__(self, settings, context):
        pass

class MergeAlways(Base):
    """Wants KSM to run."""
    @hookimpl
    def mom_evaluate(self, snapshot):
        return [Decision(snapshot.host.entity, "ksm_run", 1)]

class Hangs(Base):
    """Never comes back from a cycle."""
    @hookimpl
    def mom_collect_host(self):
        time.sleep(3600)

class HangsInSetup(Base):
    """Never comes back from its setup."""
    @hookimpl
    def mom_setup(self):
        print("in a setup that hangs", flush=True)
        time.sleep(3600)

class Sticks(Base):
    """Stops everything in the process, once there is a certain file: a call into C that holds Python's lock."""
    @hookimpl
    def mom_collect_host(self):
        if os.path.exists(os.environ["STICKS"]):
            ctypes.PyDLL(None).sleep(3600)

class Dies(Base):
    """Takes mom along."""
    @hookimpl
    def mom_setup(self):
        os._exit(1)

class Secretive(Base):
    """Has a secret setting."""
    class Settings(PluginSettings):
        password: SecretStr = SecretStr("")

class Rereads(Base):
    """Reads a file at a reload."""
    @hookimpl
    def mom_reload(self):
        if os.path.exists(os.environ.get("REREADS", "")):
            raise ValueError("line 3 of the rules is wrong")
'''

NAMES = {
    "merge": "MergeAlways", "hangs": "Hangs", "hangs_in_setup": "HangsInSetup", "rereads": "Rereads", "sticks": "Sticks", "dies": "Dies",
    "secretive": "Secretive",
}  # fmt: skip


class Mom:
    """Host of files, with the processes that were started."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.root = directory / "root"
        self.site = directory / "site"
        self.config = directory / "mom.yaml"
        self.log = directory / "mom.log"
        self.started: list[subprocess.Popen[bytes]] = []
        self.waits: dict[str, float] = {}
        """Constants of the daemon with other values."""
        path = filter(None, [str(self.site), os.environ.get("PYTHONPATH")])
        self.environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path), "COLUMNS": "200"}
        ksm_host(self.root)
        (self.root / "proc/pressure").mkdir()
        self.install("plugins", PLUGINS, **NAMES)
        self.configure("merge: {}")

    def install(self, name: str, source: str, **plugins: str) -> None:
        """Install a module with a class `Plugin`, or with these plugins (name to class)."""
        entries = {plugin: f"mom_test_{name}:{made}" for plugin, made in (plugins or {name: "Plugin"}).items()}
        Shelf(self.site).add(f"mom-test-{name}", entries, {f"mom_test_{name}": source})

    def configure(self, *plugins: str, **settings: str) -> None:
        """Write a configuration with host, ksm and these lines of the section `plugins`."""
        top = {
            "interval": "200ms",
            "root": str(self.root),
            "state_directory": str(self.directory / "state"),
            "run_directory": str(self.directory / "run"),
            "mode": "enforce",
            "stop_timeout": "60s",  # so that a slow machine cannot prevent the restore
            **settings,
        }
        lines = [f"{key}: {value}" for key, value in top.items()]
        lines += ["plugins:", *[f"  {plugin}" for plugin in ("host: {}", "ksm: {}", *plugins)]]
        self.config.write_text("\n".join(lines) + "\n")

    def knob(self, name: str = "run") -> int:
        """Return a KSM setting of the host of files. Wait while it is empty: unlike in /sys, a file is empty while it is written."""
        while not (text := (self.root / "sys/kernel/mm/ksm" / name).read_text()):
            time.sleep(0.001)
        return int(text)

    def start(self) -> subprocess.Popen[bytes]:
        """Start the daemon, and append its log to `log`."""
        program = mom_with(self.waits) if self.waits else [str(MOM)]
        with self.log.open("ab") as log:
            process = subprocess.Popen([*program, "run", "-c", self.config], stderr=log, stdout=log, env=self.environment)
        self.started.append(process)
        return process

    def begin(self) -> subprocess.Popen[bytes]:
        """Start the daemon, and wait for a cycle."""
        process = self.start()
        self.wait_for((self.directory / "run/status.json").exists)
        return process

    def act(self) -> subprocess.Popen[bytes]:
        """Start the daemon, and wait until it has changed KSM."""
        process = self.start()
        self.wait_for(lambda: self.knob() == 1)
        return process

    def stop(self) -> None:
        """End the daemon, which restores everything."""
        self.started[-1].terminate()
        assert self.started[-1].wait(60) == 0

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command with this configuration in this process."""
        return run_verb(*arguments, "-c", str(self.config), site=self.site, **self.environment)

    def process(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command in a new process."""
        command = [str(MOM), *arguments, "-c", str(self.config)]
        return subprocess.run(command, capture_output=True, text=True, timeout=180, env=self.environment, check=False)

    def wait_for(self, what: Callable[[], bool], seconds: float = 120.0) -> None:
        """Wait for a condition. If it takes too long, fail with the daemon's state."""
        wait_until(what, self._explain, seconds)

    def _explain(self) -> str:
        ended = [process.poll() for process in self.started]
        log = self.log.read_text() if self.log.exists() else ""
        return f"ended with {ended} (None: runs)\n{json.dumps(self.status())}\n{log}"

    def status(self) -> dict[str, Any]:
        """Return the daemon's status after a cycle."""
        path = self.directory / "run/status.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def state_of(self, plugin: str) -> str:
        return next((row["state"] for row in self.status().get("plugins", []) if row["name"] == plugin), "")

    def logged(self, text: str, times: int = 1) -> bool:
        """Return whether the daemon has logged this text at least `times` times."""
        return self.log.exists() and self.log.read_text().count(text) >= times

    def end(self) -> None:
        """End all processes."""
        for process in self.started:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait(60)


@contextmanager
def ending(directory: Path) -> Iterator[Mom]:
    """Return a host. End its processes after the test."""
    one = Mom(directory)
    try:
        yield one
    finally:
        one.end()
