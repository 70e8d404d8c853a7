"""mom in a thread of another program. The program keeps its threads, logging and signal handlers."""

from __future__ import annotations

import logging
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from mom_core import Engine, MomError, load_config
from mom_devkit import wait_until
from mom_kvm import PolicyState, PolicyTexts

PAGE = Path(__file__).parents[2] / "docs/embedding.md"


def config_in(folder: Path, **more: object) -> dict[str, object]:
    plugins: dict[str, object] = {"sim": {}, "balloon": {}, "ksm": {}, "policy": {}, "xmlrpc": {"listen": str(folder / "rpc.sock")}}
    return {
        "interval": "50ms",
        "stop_timeout": "60s",
        "state_directory": str(folder / "state"),
        "run_directory": str(folder / "run"),
        "mode": "enforce",
        "plugins": plugins,
        **more,
    }


def signal_handlers() -> dict[int, object]:
    return {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGCHLD)}


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def has_done(engine: Engine, cycles: int) -> bool:
    return engine.report is not None and engine.report.number >= cycles


class Program:
    """Program with a running thread and its own log."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.turns = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._work, name="my-own")
        handler = logging.Handler()
        handler.emit = lambda record: self.lines.append(f"{record.name}: {record.getMessage()}")  # type: ignore[method-assign]  # it is one
        self.logger = logging.getLogger()
        self.handler = handler

    def __enter__(self) -> Program:
        self.logger.addHandler(self.handler)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        self.logger.removeHandler(self.handler)

    def is_past(self, turns: int) -> bool:
        return self.turns > turns

    def _work(self) -> None:
        while not self._end.wait(0.005):
            self.turns += 1


@pytest.fixture
def program() -> Iterator[Program]:
    with Program() as program:
        yield program


def test_it_starts_sets_policies_tells_statistics_and_restarts(tmp_path: Path, program: Program, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mom")
    before = ({thread.name for thread in threading.enumerate()}, descriptors(), signal_handlers(), list(logging.getLogger("mom").handlers))
    engine = Engine(load_config(config_in(tmp_path)))
    for _ in range(3):
        engine.start()
        assert engine.is_running
        begun = 0 if engine.report is None else engine.report.number
        wait_until(partial(has_done, engine, begun + 2))
        assert engine.report is not None
        assert isinstance(engine.report.snapshot.host.fields["mem_free"], int)
        assert engine.report.snapshot.guests
        policies = engine.service(PolicyTexts)
        assert policies is not None
        state = policies.change({"99_mine": '(Host.Control "ksm_run" 1)'}, who="my program")
        assert "99_mine" in state.texts
        wait_until(lambda: any(decision.source.name == "99_mine" for decision in engine.report.decisions))  # type: ignore[union-attr]  # it was there
        with pytest.raises(PolicyState.Refused):
            policies.change({"99_mine": "("}, who="my program")
        turns = program.turns
        wait_until(partial(program.is_past, turns))
        engine.stop()
        assert not engine.is_running
        assert not (tmp_path / "rpc.sock").exists()
        assert {thread.name for thread in threading.enumerate()} == before[0]
    assert descriptors() <= before[1]
    assert signal_handlers() == before[2]
    assert logging.getLogger("mom").handlers == before[3]
    assert any("policies changed by my program" in line for line in program.lines)


def test_a_failed_start_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "rpc.sock").write_text("in the way")
    before = {thread.name for thread in threading.enumerate()}, descriptors()
    engine = Engine(load_config(config_in(tmp_path)))
    with pytest.raises(MomError, match="is not a socket"):
        engine.start()
    assert not engine.is_running
    assert ({thread.name for thread in threading.enumerate()}, descriptors()) == before
    (tmp_path / "rpc.sock").unlink()
    engine.start()
    engine.stop()


def test_every_example_of_the_page_runs(tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    assert len(blocks) == 5
    script = f"folder = {str(tmp_path)!r}\n" + "\n".join(blocks) + "\nassert free_kib > 0 and sizes_kib\nengine.stop()\n"
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False, timeout=180)
    assert done.returncode == 0, done.stderr
    assert "10_mine 1 1 syntax" in done.stdout
    assert "they are at 2-" in done.stdout
