"""Build and check a release's files for an index: `python packaging/release.py FOLDER`, in an environment with the group `release`.

FOLDER/dist gets a source distribution and a wheel of each distribution. FOLDER also gets a bill of materials (CycloneDX) of all
distributions that `mom-core[all]` installs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from wheelhouse import distributions, needs_of_others

ROOT: Final = Path(__file__).resolve().parents[1]
SECONDS: Final = 1800


def main(arguments: list[str]) -> int:
    """Build all files, and print their places."""
    if len(arguments) != 1:
        print(__doc__.splitlines()[0], file=sys.stderr)
        return 2
    folder = Path(arguments[0]).resolve()
    dist = folder / "dist"
    dist.mkdir(parents=True, exist_ok=True)
    if any(dist.iterdir()):
        print(f"{dist} is not empty; name another folder", file=sys.stderr)
        return 2
    for path in sorted(ROOT.glob("mom_*/pyproject.toml")):
        _run(sys.executable, "-m", "build", "--no-isolation", "--outdir", dist, path.parent, quiet=True)
    _run(sys.executable, "-m", "twine", "check", "--strict", *sorted(dist.iterdir()), quiet=True)
    _run(Path(sys.executable).with_name("check-wheel-contents"), "--no-config", *sorted(dist.glob("*.whl")))
    materials = _bill_of_materials(folder, dist)
    print(f"{len(list(dist.iterdir()))} files in {dist}, and {materials.name}, which names {_components(materials)} components")
    return 0


def _bill_of_materials(folder: Path, dist: Path) -> Path:
    """List an environment with the built wheels, and their dependencies in the versions that CI tests."""
    (core,) = dist.glob("mom_core-*.whl")
    materials = folder / f"mom-{core.name.split('-')[1]}.cdx.json"
    with tempfile.TemporaryDirectory(prefix="mom-sbom-") as scratch:
        _run(sys.executable, "-m", "venv", scratch)
        python = Path(scratch) / "bin/python"
        names = distributions(["all"])
        pip = (python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
        _run(*pip, "--upgrade", "pip>=25.3")
        _run(*pip, "--constraint", ROOT / "packaging/requirements.lock", *needs_of_others(names))
        _run(*pip, "--no-deps", *(path for name in names for path in dist.glob(f"{name}-*.whl")))  # not from an index
        _run(*pip[:3], "check", quiet=True)
        _run(python, "-m", "pip", "uninstall", "--quiet", "--yes", "pip", "setuptools", quiet=True)  # part of the environment, not of mom
        made = ("--output-reproducible", "--pyproject", ROOT / "mom_core/pyproject.toml", "--output-file", materials)
        _run(Path(sys.executable).with_name("cyclonedx-py"), "environment", *made, python)
    return materials


def _components(materials: Path) -> int:
    return len(json.loads(materials.read_text())["components"])


def _run(*command: str | Path, quiet: bool = False) -> None:
    output = subprocess.DEVNULL if quiet else None
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    subprocess.run(command, stdout=output, env=environment, check=True, timeout=SECONDS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
