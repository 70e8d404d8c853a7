"""What every test finds as it should be, and leaves as it found it."""

from __future__ import annotations

import logging
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# How fast a machine draws and tries examples says nothing of the code, and which ones it draws must not differ from run to run.
# Others are tried with `pytest --hypothesis-profile=default`.
settings.register_profile("mom", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("mom")


def pytest_configure() -> None:
    """Refuse an environment that was set up before a distribution came, or changed what it brings: tests would fail without a reason."""
    stale = [str(path.parent.name) for path in sorted(Path(__file__).parent.glob("mom_*/pyproject.toml")) if not _as_installed(path)]
    if stale:
        words = " ".join(f"-e {name}" for name in stale)
        raise pytest.UsageError(
            f".venv is older than {', '.join(stale)}: ./run setup, or .venv/bin/pip install --no-deps --no-build-isolation {words}"
        )


def _as_installed(pyproject: Path) -> bool:
    project = tomllib.loads(pyproject.read_text())["project"]
    groups = {"console_scripts": project.get("scripts", {}), **project.get("entry-points", {})}
    stated = {(group, name, target) for group, entries in groups.items() for name, target in entries.items()}
    try:
        return {(point.group, point.name, point.value) for point in distribution(project["name"]).entry_points} == stated
    except PackageNotFoundError:
        return False


def _levels() -> dict[str, tuple[int, bool, bool]]:
    loggers = {name: logger for name, logger in logging.root.manager.loggerDict.items() if isinstance(logger, logging.Logger)}
    return {name: (one.level, one.propagate, one.disabled) for name, one in loggers.items() if name.split(".")[0] == "mom"}


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """A test that leaves mom's loggers changed fails by itself, instead of one that comes later and reads the log."""
    before = _levels()
    yield
    changed = {name: state for name, state in _levels().items() if state != before.get(name, (logging.NOTSET, True, False))}
    for name in changed:
        logger = logging.getLogger(name)
        level, logger.propagate, logger.disabled = before.get(name, (logging.NOTSET, True, False))
        logger.setLevel(level)  # not `level` itself: loggers below have worked out from it what they log
    if changed:
        pytest.fail(f"loggers left with another (level, propagate, disabled): {changed}")
