"""The peer as a test sees it: a process that is started, told what to do, asked what happened, and ended."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PEER = Path(__file__).with_name("vdsm_peer.py")


class Vdsm:
    """A vdsm. `do` is one of the peer's commands, by the name of its method."""

    def __init__(self, *options: str) -> None:
        command = [sys.executable, str(PEER), *options]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port: int = self._answer()["port"]

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def do(self, what: str, **arguments: object) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": what, **arguments}) + "\n")
        self.process.stdin.flush()
        answer = self._answer()
        assert "done" in answer, answer
        return answer["done"]

    def add(self, *machines: Mapping[str, object]) -> None:
        """Start guests: fields of `vdsm_host.Machine`."""
        self.do("add", machines=list(machines))

    def change(self, identity: str, **values: object) -> None:
        self.do("change", identity=identity, **values)

    def fault(self, method: str, times: int = 1, **fault: object) -> None:
        """What goes wrong with the next answers to this verb."""
        self.do("fault", method=method, times=times, fault=fault)

    def release(self) -> None:
        """Let the answers go that a fault with `held` keeps back."""
        self.do("release")

    def calls(self, *methods: str) -> list[tuple[str, dict[str, Any]]]:
        """What was called since the last time, of these methods."""
        return [(method, params) for method, params in self.do("calls") if not methods or method in methods]

    def wire(self) -> dict[str, Any]:
        """Connections, frames, and why connections were dropped."""
        found: dict[str, Any] = self.do("wire")
        return found

    def end(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.kill()
        self.process.wait(60)
        self.process.stdin.close()
        self.process.stdout.close()
