"""`mom run` as a process."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mom_daemon.cli import frame
from mom_devkit import wait_until


@dataclass
class MomRun:
    """`mom run` with a test's configuration."""

    folder: Path
    process: subprocess.Popen[bytes] | None = None
    program: Sequence[str | Path] = (Path(sys.executable).parent / "mom",)
    _last: tuple[object, float, Any] = (None, 0.0, None)
    """Last command and whether mom had ended, its time, and its answer."""

    @property
    def config(self) -> Path:
        return self.folder / "mom.yaml"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def configure(
        self,
        plugins: Mapping[str, Any],
        guests: Mapping[str, object] | None = None,
        *,
        policies: Mapping[str, str] | None = None,
        **more: object,
    ) -> None:
        """Write the configuration: these plugins and `host`, and the section `guests`.

        :param policies: texts for the plugin `policy`, keyed by name
        """
        configured: dict[str, Any] = {"host": {}, **plugins}
        if policies is not None:
            directory = self.folder / "policy.d"
            directory.mkdir(exist_ok=True)
            for name, text in policies.items():
                (directory / f"{name}.policy").write_text(text)
            configured["policy"] = {"directory": str(directory), **configured.get("policy", {})}
        folders = {f"{name}_directory": str(self.folder / name) for name in ("state", "run")}
        content = {"interval": "1s", **folders, "mode": "enforce", "plugins": configured, "guests": guests or {}, **more}
        self.config.write_text(json.dumps(content))  # JSON is YAML

    def verb(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).parent / "mom"), *words]
        environment = {**os.environ, "MOM_CONFIG": str(self.config)}
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)

    def says(self, *words: str) -> str:
        """Run a command in this process, and return its standard output.

        A new process would import all of mom, and tests run commands often. Failed tests show standard error.
        """
        with redirect_stdout(io.StringIO()) as out:
            frame.run([*words, "-c", str(self.config)])
        return out.getvalue()

    def _read(self, verb: str) -> Any:
        """Return the JSON that a command prints. It runs three times a second at most, because tests ask often."""
        now = time.monotonic()
        asked, at, answer = self._last
        if asked != (verb, self._ended()) or now - at > 0.3:
            answer = json.loads(self.says(verb, "--json"))
            self._last = ((verb, self._ended()), now, answer)
        return answer

    def status(self) -> dict[str, Any]:
        content: dict[str, Any] = self._read("status")
        return content

    def problems(self) -> list[str]:
        """Return the problems of the last cycle."""
        return [problem["message"] for problem in self.status()["problems"]]

    def is_well(self) -> None:
        """Wait for a cycle without problems. On a busy machine, cycles may be late."""
        wait_until(lambda: not self.problems(), self.problems, 60)

    def start(self) -> None:
        """Start mom, and wait for its first cycle."""
        before = self._written()
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([*self.program, "run", "-c", self.config], stdout=log, stderr=log)
        wait_until(lambda: self._written() != before or self._ended(), "mom has done a cycle", 120)
        assert not self._ended(), self.log

    def _written(self) -> int | None:
        """Return the time of the last status file in ns; None without one."""
        try:
            return (self.folder / "run" / "status.json").stat().st_mtime_ns
        except FileNotFoundError:
            return None

    def _ended(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def next_cycle(self) -> None:
        """Wait for one more cycle."""
        before = self._written()
        wait_until(lambda: self._written() != before, lambda: self.log, 60)
        self._last = (None, 0.0, None)

    def guest_rows(self) -> dict[str, dict[str, Any]]:
        """Return the rows of `mom guests`, keyed by name."""
        return {row["name"]: row for row in self._read("guests")}

    def kill(self) -> None:
        """Kill mom if it runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def reload(self) -> None:
        """Reload the configuration."""
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)

    def stop(self) -> None:
        """Stop mom by SIGTERM. It restores everything, and ends within a minute."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) == 0, self.log
