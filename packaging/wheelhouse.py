"""Fill a folder with the wheels of mom and its dependencies, for hosts without internet.

`.venv/bin/python packaging/wheelhouse.py FOLDER [EXTRA…]`. The extras are those of mom-core (kvm, ovirt, demo, all); the default is all.
The wheels are for this interpreter and this kind of machine, so run the script on a machine like the hosts. On a host, install mom with
`pip install --no-index --find-links FOLDER 'mom-core[kvm]'`.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
SECONDS: Final = 1800


def main(arguments: list[str]) -> int:
    """Fill the folder, and print its size."""
    if not arguments or arguments[0].startswith("-"):
        print(__doc__.splitlines()[0], file=sys.stderr)
        return 2
    folder, extras = Path(arguments[0]).resolve(), arguments[1:] or ["all"]
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        print(f"{folder} is not empty; name another folder", file=sys.stderr)
        return 2
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--wheel-dir", str(folder))
    own = distributions(extras)
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", *(str(ROOT / name) for name in own)], check=True, timeout=SECONDS)
    # mom's own wheels have no hash. They never come from an index, where another project may use the name.
    subprocess.run([*pip, "--constraint", str(ROOT / "packaging/requirements.lock"), *needs_of_others(own)], check=True, timeout=SECONDS)
    wheels = sorted(folder.glob("*.whl"))
    sums = "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in wheels)
    (folder / "SHA256SUMS").write_text(sums)
    size = sum(path.stat().st_size for path in wheels) >> 20
    print(f"{len(wheels)} wheels, {size} MiB, in {folder}; pip install --no-index --find-links {folder} 'mom-core[{extras[0]}]'")
    return 0


def distributions(extras: Sequence[str]) -> list[str]:
    """Return the folders of mom's distributions that extras of mom-core need."""
    offered = _project("mom_core")["optional-dependencies"]
    for extra in extras:
        if extra not in offered:
            raise SystemExit(f"mom-core has no extra {extra!r}: use one of {', '.join(offered)}")
    found: set[str] = set()
    left = ["mom_core", *_own(requirement for extra in extras for requirement in offered[extra])]
    while left:
        folder = left.pop()
        if folder not in found:
            found.add(folder)
            left += _own(_project(folder)["dependencies"])
    return sorted(found)


def needs_of_others(folders: Iterable[str]) -> list[str]:
    """Return the requirements of these distributions on other projects."""
    return sorted(
        {requirement for folder in folders for requirement in _project(folder)["dependencies"] if not requirement.startswith("mom-")}
    )


def _project(folder: str) -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]
    return project


def _own(requirements: Iterable[str]) -> Iterator[str]:
    return (requirement.partition("==")[0].replace("-", "_") for requirement in requirements if requirement.startswith("mom-"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
