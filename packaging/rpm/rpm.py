"""Build RPMs from a tree that packaging/tree.py has written: `python packaging/rpm/rpm.py TREE FOLDER`.

The packages are mom and cockpit-mom (mom's page in Cockpit). Builds are reproducible, and leave the tree unchanged. The packages are for
systems with systemd and Python 3.11 to 3.14: Fedora, and descendants of RHEL whose python3 is one of these.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent
PROJECT: Final = tomllib.loads((HERE.parents[1] / "mom_core/pyproject.toml").read_text())["project"]

ELSEWHERE: Final = {
    "usr/share/zsh/vendor-completions": "usr/share/zsh/site-functions",
    "usr/share/fish/vendor_completions.d": "usr/share/fish/vendor_completions.d",
}
"""Paths on systems with RPM, keyed by Debian's paths."""

COCKPIT: Final = "usr/share/cockpit/mom"
"""Files of the package cockpit-mom."""


def main(arguments: list[str]) -> int:
    """Build the packages, and print their paths."""
    if len(arguments) != 2:
        print(__doc__.splitlines()[0], file=sys.stderr)
        return 2
    tree, folder = Path(arguments[0]).resolve(), Path(arguments[1]).resolve()
    os.umask(0o022)
    epoch = int((tree / "usr").stat().st_mtime)
    (core,) = tree.glob("usr/lib/mom/lib/python3/site-packages/mom_core-*.dist-info")
    version = core.name.removeprefix("mom_core-").removesuffix(".dist-info")
    # The version contains the commit's time: dnf then installs packages of later commits as upgrades.
    revision = time.strftime("%Y%m%d.%H%M%S", time.gmtime(epoch))
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="mom-rpm-") as scratch:
        root = Path(scratch) / "root"
        shutil.copytree(tree, root, symlinks=True)
        _move(root)
        (root / "etc/mom/policy.d").mkdir(parents=True, exist_ok=True)
        listed = list(_listed(root))
        for name, for_cockpit in (("files", False), ("cockpit-files", True)):
            lines = [line for line in listed if (COCKPIT in line) is for_cockpit]
            (Path(scratch) / name).write_text("\n".join(lines) + "\n")
        spec = (HERE / "mom.spec").read_text()
        day = time.strftime("%a %b %d %Y", time.gmtime(epoch))
        values = {"VERSION": version, "REVISION": revision, "ROOT": str(root), "DAY": day}
        values |= {"FILES": f"{scratch}/files", "COCKPIT": f"{scratch}/cockpit-files"}
        values |= {"HOMEPAGE": PROJECT["urls"]["Homepage"], "MAINTAINER": "{name} <{email}>".format(**PROJECT["maintainers"][0])}
        for name, value in values.items():
            spec = spec.replace(f"@{name}@", value)
        (Path(scratch) / "mom.spec").write_text(spec)
        # Data about the build machine and the time would differ from build to build.
        defines = {
            "_topdir": f"{scratch}/top",
            "_rpmdir": str(folder),
            "_rpmfilename": "%%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm",
            "_buildhost": "localhost",
            "use_source_date_epoch_as_buildtime": "1",
            "clamp_mtime_to_source_date_epoch": "1",
            "_binary_payload": "w9.zstdio",
            "_build_id_links": "none",
        }
        options = [word for name, value in defines.items() for word in ("--define", f"{name} {value}")]
        command = ["rpmbuild", "-bb", "--quiet", "--nodeps", "--target", "x86_64", *options, f"{scratch}/mom.spec"]
        environment = os.environ | {"SOURCE_DATE_EPOCH": str(epoch)}
        if code := subprocess.run(command, env=environment, stdout=sys.stderr, timeout=900, check=False).returncode:
            raise SystemExit(f"rpmbuild ended with exit code {code}")
    print(folder / f"mom-{version}-{revision}.x86_64.rpm")
    return 0


def _move(root: Path) -> None:
    for debian, other in ELSEWHERE.items():
        if debian != other and (root / debian).exists():
            (root / other).parent.mkdir(parents=True, exist_ok=True)
            (root / debian).rename(root / other)


def _listed(root: Path) -> Iterator[str]:
    """Return the file list of the specification: all files, and mom's own folders."""
    own = ("usr/lib/mom", "usr/share/doc/mom", "etc/mom", COCKPIT)
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        quoted = f'"/{name}"'
        if path.is_symlink() or path.is_file():
            kind = "%doc " if name.startswith("usr/share/doc/") else ""
            yield kind + quoted
        elif any(name == folder or name.startswith(f"{folder}/") for folder in own):
            yield f"%dir {quoted}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
