"""Fixtures for pytest. Each imports its modules when first used."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mom_core import PluginContext
    from mom_devkit.runs import PluginRun
    from mom_devkit.without_root import MomPower, StandInGuest


@pytest.fixture
def mom_host(tmp_path: Path) -> Path:
    """Return an empty folder that stands for the host's `/`, for `context.root` and `host_of`."""
    root = tmp_path / "mom-host"
    root.mkdir()
    return root


@pytest.fixture(scope="session")
def mom_usual_host(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of this host's usual files of /proc and /sys. Do not change it: tests share it."""
    from mom_devkit.hosts import mirror_host

    return mirror_host(tmp_path_factory.mktemp("mom-usual-host"))


@pytest.fixture
def mom_context(mom_host: Path, tmp_path: Path) -> PluginContext:
    """Return a plugin's context whose host is `mom_host`."""
    from mom_core import PluginContext

    return PluginContext(root=mom_host, state_directory=tmp_path / "mom-state", run_directory=tmp_path / "mom-run")


@pytest.fixture
def mom_open_folder() -> Iterator[Path]:
    """Yield an empty folder that other users can access."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="mom-open-") as path:
        folder = Path(path)
        folder.chmod(0o755)
        yield folder


@pytest.fixture(params=["as root", pytest.param("by mom-helper", marks=pytest.mark.processes)])
def mom_power(request: pytest.FixtureRequest) -> Iterator[MomPower]:
    """Run a test twice: with mom as root, and as another user with a real mom-helper.

    Run mom's code in `with mom_power(declarations):`. `Helper.declaration` of mom_kvm makes declarations. An impossible run is skipped.
    """
    from mom_devkit.without_root import MomPower, why_not_another_user

    by_helper = request.param == "by mom-helper"
    if by_helper and (reason := why_not_another_user()):
        pytest.skip(reason)
    power = MomPower(by_helper=by_helper)
    yield power
    power.close()


@pytest.fixture
def mom_stand_in_guest() -> Iterator[StandInGuest]:
    """Yield a process that stands in for a guest's QEMU. Skip the test if that is impossible."""
    from mom_devkit.without_root import StandInGuest, why_not_another_user

    if reason := why_not_another_user():
        pytest.skip(reason)
    try:
        guest = StandInGuest()
    except OSError as error:
        pytest.skip(f"no control groups can be made here: {error}")
    yield guest
    guest.close()


@pytest.fixture
def mom_run(mom_host: Path, tmp_path: Path) -> Callable[..., PluginRun]:
    """Return a function that calls `run_plugins` on `mom_host`.

    For example: `mom_run(cycles=20, plugins={"sim": {"guests": 8}, "policy": {}})`.
    """
    from itertools import count

    from mom_devkit.runs import run_plugins

    numbers = count(1)

    def run(plugins: object, **options: object) -> PluginRun:
        return run_plugins(tmp_path / f"mom-run-{next(numbers)}", plugins, **{"root": mom_host, **options})  # type: ignore[arg-type]  # it checks them

    return run
