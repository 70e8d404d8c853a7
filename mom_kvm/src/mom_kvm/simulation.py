"""Simulations of mom's real engine on a simulated host."""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, Protocol, runtime_checkable

from mom_core import Clock, Engine, MomError, PluginError, Report, Value, load_config

LOOK_SECONDS: Final = 1.0
"""Simulated seconds between two checks for guests that need an early cycle."""

_SIMULATOR: Final = "sim"

_RECORDER: Final = "record"

_EVALUATOR: Final = "policy"

_MEMORY: Final = Path("/dev/shm")  # noqa: S108  # simulations create temporary folders in it


@runtime_checkable
class SimulatedHost(Protocol):
    """Simulated hypervisor that can ask for early cycles."""

    def news(self) -> str:
        """Return why an early cycle is needed; empty if none is."""


@dataclass(frozen=True, slots=True)
class SimulationSetup:
    """Setup of mom for a simulation.

    `policies` are files added to the default policies. `texts`, keyed by name, replaces all policies. `plugins` contains the settings of
    plugins that change guests and host (None: `CONTROLLERS`).
    """

    BEGINS: ClassVar[float] = 1_767_225_600.0
    """Wall-clock start of each simulation, in seconds since the epoch."""
    CONTROLLERS: ClassVar[Sequence[str]] = ("balloon", "ksm")

    name: str
    policies: Sequence[Path] = ()
    acts: bool = True
    plugins: Mapping[str, Mapping[str, Value]] | None = None
    texts: Mapping[str, str] | None = None
    guests: Mapping[str, Value] | None = None

    def run(self, sim: Mapping[str, Value], interval: float, lasts: float, record: Path | None = None) -> Generator[Report, None, None]:
        """Run a reproducible simulation, and yield each cycle's report. Raise `MomError` on failure.

        :param sim: settings of the plugin `sim`
        :param interval: simulated seconds between cycles
        :param lasts: duration in simulated seconds
        :param record: empty or missing folder for a recording
        """
        now = 0.0
        with (
            tempfile.TemporaryDirectory(prefix="mom-simulate-", dir=_MEMORY if _MEMORY.is_dir() else None) as folder,
            _named_as_given(Path(folder) / "policy.d"),
        ):
            config = load_config(_configuration(sim, self, interval, record, Path(folder)))
            with Engine(config, Clock(lambda: now, lambda: self.BEGINS + now), threaded=False) as engine:
                hypervisor = engine.hypervisor
                if not isinstance(hypervisor, SimulatedHost):
                    raise MomError(
                        "the hypervisor of another plugin is in use", hint="remove that plugin: a scenario has its own hypervisor"
                    )
                cycles = math.floor(lasts / interval + 1e-9)
                for number in range(1, cycles + 1):
                    due = number * interval
                    while now + LOOK_SECONDS < due:
                        now += LOOK_SECONDS
                        reason = hypervisor.news()
                        if reason:
                            yield engine.cycle(reason)
                    now = due
                    yield engine.cycle()

    @staticmethod
    @contextmanager
    def quiet(level: int) -> Iterator[None]:
        """Drop log messages below this level within a `with` block or a decorated function."""
        log = logging.getLogger("mom")
        before = log.level
        log.setLevel(level)
        try:
            yield
        finally:
            log.setLevel(before)

    @staticmethod
    def texts_in(paths: Sequence[Path]) -> dict[str, str]:
        """Read policy files, and the *.policy files of folders. Return their texts, keyed by name. Raise `MomError` on failure."""
        texts: dict[str, str] = {}
        for path in paths:
            try:
                files = sorted(file for file in path.glob("*.policy") if file.name[:1] != ".") if path.is_dir() else [path]
                texts |= {file.name.removesuffix(".policy"): file.read_text(encoding="utf-8") for file in files}
            except OSError as error:
                raise MomError(
                    f"{path} cannot be read: {error.strerror}", hint="give the path of a policy file, or of a folder with *.policy files"
                ) from error
            except UnicodeDecodeError as error:
                raise MomError(f"{path} is not UTF-8 text", hint="save the file as UTF-8") from error
            if not files:
                raise MomError(f"there is no *.policy file in {path}")
        return texts


def _configuration(
    sim: Mapping[str, Value], setup: SimulationSetup, interval: float, record: Path | None, folder: Path
) -> dict[str, object]:
    controllers = setup.plugins if setup.plugins is not None else {name: {} for name in setup.CONTROLLERS}
    policy: dict[str, object] = {}
    if setup.policies:
        policy["directory"] = str(_written(setup.texts_in(setup.policies), folder / "policy.d"))
    if setup.texts is not None:
        policy = {"directory": str(_written(setup.texts, folder / "policy.d")), "defaults": False}
    plugins: dict[str, object] = {_SIMULATOR: sim, **controllers, _EVALUATOR: policy}
    if record is not None:
        plugins[_RECORDER] = {"path": str(_must_be_empty(record))}
    return {
        "interval": f"{interval:g}s",
        "mode": "enforce" if setup.acts else "observe",
        "state_directory": str(folder / "state"),
        "run_directory": str(folder / "run"),
        "plugins": plugins,
        "guests": dict(setup.guests or {}),
    }


@contextmanager
def _named_as_given(folder: Path) -> Iterator[None]:
    try:
        yield
    except PluginError as error:
        for problem in (error, *error.errors):
            problem.message = problem.message.replace(f"{folder}/", "")
        raise


def _must_be_empty(folder: Path) -> Path:
    try:
        if folder.exists() and any(folder.iterdir()):
            raise MomError(f"{folder} is not empty; it may contain a recording", hint="give the path of another folder, or delete this one")
    except OSError as error:
        raise MomError(f"cannot record in {folder}: {error.strerror}") from error
    return folder


def _written(texts: Mapping[str, str], folder: Path) -> Path:
    folder.mkdir()
    for name, text in texts.items():
        (folder / f"{name.replace('/', '_')}.policy").write_text(text, encoding="utf-8")
    return folder
