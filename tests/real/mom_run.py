"""`mom run` as a process of its own."""

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mom_daemon.cli import frame
from mom_devkit import wait_until


@dataclass
class MomRun:
    """`mom` as an operator uses it, with a configuration of the test's own."""

    folder: Path
    process: subprocess.Popen[bytes] | None = None
    program: Sequence[str | Path] = (Path(sys.executable).parent / "mom",)

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
        """Write its configuration: these plugins beside `host`, and the section `guests`.

        :param policies: texts by name, for the plugin `policy`
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
        self.config.write_text(json.dumps(content))  # which is YAML, too

    def verb(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).parent / "mom"), *words]
        environment = {**os.environ, "MOM_CONFIG": str(self.config)}
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)

    def says(self, *words: str) -> str:
        """What a verb writes on standard output, in this process: another one would import all of mom first, and tests that wait for
        something ask again and again. A failed test shows what it writes on standard error."""
        with redirect_stdout(io.StringIO()) as out:
            frame.run([*words, "-c", str(self.config)])
        return out.getvalue()

    def status(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.says("status", "--json"))
        return content

    def problems(self) -> list[str]:
        """Those of the newest cycle."""
        return [problem["message"] for problem in self.status()["problems"]]

    def is_well(self) -> None:
        """Wait for a cycle without problems: on a busy machine, some are late."""
        wait_until(lambda: not self.problems(), self.problems, 60)

    def start(self) -> None:
        """Start it, and wait for its first cycle; what one before it has left does not count."""
        before = self._written()
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([*self.program, "run", "-c", self.config], stdout=log, stderr=log)
        wait_until(lambda: self._written() != before or self._ended(), "mom has done a cycle", 120)
        assert not self._ended(), self.log

    def _written(self) -> int | None:
        """When the newest cycle was written, in ns; None where there is none."""
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

    def guest_rows(self) -> dict[str, dict[str, Any]]:
        """What `mom guests` knows of each guest, by name."""
        rows: list[dict[str, Any]] = json.loads(self.says("guests", "--json"))
        return {row["name"]: row for row in rows}

    def kill(self) -> None:
        """End it without warning, if it still runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def reload(self) -> None:
        """Have it read its configuration again."""
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)

    def stop(self) -> None:
        """SIGTERM, after which it puts back what it has changed, and ends well, within a minute at most."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) == 0, self.log
