"""What pytest gets from mom, in every project in which mom is installed: two fixtures, and nothing that costs time unless they are used."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from mom_core.context import PluginContext


@pytest.fixture
def mom_host(tmp_path: Path) -> Path:
    """An empty folder in the place of `/`: what a plugin under test finds below `context.root`. `host_of` writes files into it."""
    root = tmp_path / "mom-host"
    root.mkdir()
    return root


@pytest.fixture
def mom_context(mom_host: Path, tmp_path: Path) -> PluginContext:
    """A plugin's context on the host of files, with folders for its state that are this test's own."""
    from mom_core.context import PluginContext

    return PluginContext(root=mom_host, state_directory=tmp_path / "mom-state", run_directory=tmp_path / "mom-run")
