"""Distributions that exist for one test."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from mom_core.plugins import discovery

PLUGIN = '''
from mom_core import PluginSettings, GuestSettings, hookimpl

class Plugin:
    """A plugin for tests."""


    def __init__(self, settings, context):
        self.settings, self.context = settings, context
'''


class Shelf:
    """A folder on the path of imports, into which distributions are put as pip would: modules, and metadata beside them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.modules: set[str] = set()

    def add(
        self,
        distribution: str,
        entries: Mapping[str, str],
        code: Mapping[str, str] | None = None,
        *,
        version: str = "1.0",
        metadata: bool = True,
        requires: Sequence[str] = (),
    ) -> None:
        """Install a distribution with these plugins (name to `module:Class`) and modules (name to source)."""
        folder = self.folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
        folder.mkdir(parents=True)
        if metadata:
            needed = "".join(f"Requires-Dist: {one}\n" for one in requires)
            about = f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\nSummary: A test.\n{needed}"
            (folder / "METADATA").write_text(about + "\nAll about it.\n\nRequires-Dist: mom-core>=99\n")
        lines = "".join(f"{name} = {target}\n" for name, target in entries.items())
        (folder / "entry_points.txt").write_text(f"[mom.plugins]\n{lines}")
        for name, source in (code or {}).items():
            self.modules.add(name)
            (self.folder / f"{name}.py").write_text(textwrap.dedent(source))

    def add_plugin(
        self,
        name: str,
        body: str = "",
        *,
        before: str = "",
        distribution: str = "",
        version: str = "1.0",
        requires: Sequence[str] = (),
    ) -> None:
        """Install a distribution with one plugin, whose class has `body` besides what every plugin has."""
        module = f"shelf_{name}"
        source = PLUGIN.replace("class Plugin:", f"{textwrap.dedent(before)}\nclass Plugin:", 1) + textwrap.indent(
            textwrap.dedent(body), "    "
        )
        self.add(
            distribution or f"acme-{name}",
            {name: f"{module}:Plugin"},
            {module: source},
            version=version,
            requires=requires,
        )


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shelf]:
    """An empty shelf, in front of what is really installed."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    made = Shelf(folder)
    yield made
    for module in made.modules:
        sys.modules.pop(module, None)


@pytest.fixture
def only_shelf(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    """A shelf with nothing installed behind it, so that a test does not depend on this machine."""
    real = discovery.distributions
    monkeypatch.setattr(discovery, "distributions", lambda: [d for d in real() if Path(str(d.locate_file(""))) == shelf.folder])
    return shelf
