"""Build Debian packages from a tree that packaging/tree.py has written: `python packaging/deb/deb.py TREE FOLDER`.

The packages are mom and cockpit-mom (mom's page in Cockpit). Builds are reproducible. The script adds Debian's own files to the tree, so
each tree serves one build. With `--quick`, for tests, packages are larger and take a tenth of the time.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from email import message_from_string
from email.utils import formatdate
from pathlib import Path
from typing import Final

MODULES: Final = "usr/lib/mom/lib/python3/site-packages"
"""Path of Python's modules in the package."""
LICENCE_FILE: Final = re.compile(r"(LICEN[CS]E|COPYING|NOTICE)", re.IGNORECASE)
APACHE_REFERENCE: Final = "On Debian systems, the full text of the Apache License 2.0 is in /usr/share/common-licenses/Apache-2.0."
COPYRIGHT_LINE: Final = re.compile(r"[\s*#]*(copyright\b|\(c\)|©).*\d{4}", re.IGNORECASE)
HERE: Final = Path(__file__).resolve().parent
PROJECT: Final = tomllib.loads((HERE.parents[1] / "mom_core/pyproject.toml").read_text())["project"]
MAINTAINER: Final = "{name} <{email}>".format(**PROJECT["maintainers"][0])

CONTROL: Final = """\
Package: mom
Version: {version}
Architecture: amd64
Maintainer: {maintainer}
Homepage: {homepage}
Installed-Size: {kib}
Depends: python3 (>= 3.11~), python3 (<< 3.15~), init-system-helpers (>= 1.54~), passwd, libc6 (>= 2.36)
Suggests: python3-libvirt, libvirt-daemon-system, qemu-system-x86
Section: admin
Priority: optional
Description: memory overcommitment manager for KVM hosts
 The memory of all guests can add up to more than the host has: mom moves
 memory to the guests that need it. Every few seconds it reads the state of
 the host and all guests, evaluates a policy, and acts. You can replace the
 policy at any time. mom resizes memory balloons, tunes kernel samepage
 merging (KSM), limits CPU, disks and network, and sets control groups and
 NUMA balancing.
 .
 When mom is stopped or removed, it restores everything that it has changed.
 The package has its own Python environment.
"""

COCKPIT_CONTROL: Final = """\
Package: cockpit-mom
Source: mom
Version: {version}
Architecture: all
Maintainer: {maintainer}
Homepage: {homepage}
Installed-Size: {kib}
Depends: mom (= {version}), cockpit-bridge (>= 287)
Recommends: cockpit
Section: admin
Priority: optional
Description: Cockpit user interface for mom
 Shows in Cockpit the memory of a KVM host and its guests, and the actions of
 the memory overcommitment manager mom. Changes mom's policies. The rights are
 those of the logged-in user.
"""

CHANGELOG: Final = """\
mom ({version}) unstable; urgency=medium

  * {summary}

 -- {maintainer}  {date}
"""


def main(arguments: list[str]) -> int:
    """Build the packages, and print their paths."""
    quick, arguments = "--quick" in arguments, [option for option in arguments if option != "--quick"]
    if len(arguments) != 2:
        print(__doc__.splitlines()[0], file=sys.stderr)
        return 2
    tree, folder = Path(arguments[0]).resolve(), Path(arguments[1]).resolve()
    os.umask(0o022)
    epoch = int((tree / "usr").stat().st_mtime)
    upstream = re.findall(
        r"mom_core-([^/]+)\.dist-info", "\n".join(map(str, tree.glob("usr/lib/mom/lib/python3/site-packages/mom_core-*")))
    )[0]
    # The version contains the commit's time: apt then installs packages of later commits as upgrades.
    version = f"{upstream}-{time.strftime('%Y%m%d.%H%M%S', time.gmtime(epoch))}"
    _add_what_debian_asks_for(tree, version, epoch)
    with tempfile.TemporaryDirectory(prefix="mom-deb-") as scratch:
        cockpit = Path(scratch) / "cockpit-mom"
        (cockpit / "usr/share/doc").mkdir(parents=True)
        shutil.move(tree / "usr/share/cockpit", cockpit / "usr/share/cockpit")
        (cockpit / "usr/share/doc/cockpit-mom").symlink_to("mom")
        _write_control(cockpit, COCKPIT_CONTROL, version)
        _build(cockpit, folder / f"cockpit-mom_{version}_all.deb", epoch, quick=quick)
    _write_control(tree, CONTROL, version)
    for name in ("postinst", "prerm", "postrm"):
        (tree / "DEBIAN" / name).write_bytes((HERE / name).read_bytes())
        (tree / "DEBIAN" / name).chmod(0o755)
    _build(tree, folder / f"mom_{version}_amd64.deb", epoch, quick=quick)
    return 0


def _build(tree: Path, path: Path, epoch: int, *, quick: bool) -> None:
    for each in [*tree.rglob("*"), tree]:
        os.utime(each, (epoch, epoch), follow_symlinks=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    # One thread: the number of threads changes the output of xz.
    compressed = ("-Zgzip", "-z1") if quick else ("-Zxz", "-z6", "--threads-max=1")
    options = ("--root-owner-group", *compressed, "--build")
    environment = os.environ | {"SOURCE_DATE_EPOCH": str(epoch)}
    subprocess.run(["dpkg-deb", *options, tree, path], env=environment, stdout=subprocess.DEVNULL, check=True, timeout=600)
    print(path)


def _add_what_debian_asks_for(tree: Path, version: str, epoch: int) -> None:
    documents = tree / "usr/share/doc/mom"
    (documents / "copyright").write_text((HERE / "copyright").read_text() + embedded_copyrights(tree / MODULES))
    (documents / "CHANGELOG.md.gz").rename(documents / "changelog.gz")
    changes = CHANGELOG.format(version=version, summary="See changelog.gz.", maintainer=MAINTAINER, date=formatdate(epoch))
    (documents / "changelog.Debian").write_text(changes)
    subprocess.run(["gzip", "-9n", documents / "changelog.Debian"], check=True, timeout=60)
    hook = tree / "usr/share/python3/runtime.d/mom.rtupdate"
    hook.parent.mkdir(parents=True)
    hook.write_bytes((HERE / "mom.rtupdate").read_bytes())
    hook.chmod(0o755)
    overrides = tree / "usr/share/lintian/overrides/mom"
    overrides.parent.mkdir(parents=True)
    overrides.write_bytes((HERE / "lintian-overrides").read_bytes())


def embedded_copyrights(packages: Path) -> str:
    """Return a stanza of Debian's copyright format for each bundled distribution of other projects.

    :raises SystemExit: a distribution has no licence file
    """
    stanzas = []
    for about in sorted(packages.glob("*.dist-info")):
        meta = message_from_string((about / "METADATA").read_text(encoding="utf-8"))
        name = str(meta["Name"])
        if about.name.startswith("mom_"):
            continue
        texts = [path.read_text(encoding="utf-8") for path in sorted(about.rglob("*")) if path.is_file() and LICENCE_FILE.match(path.name)]
        if not texts:
            raise SystemExit(f"{about.name} has no licence file: add its licence to packaging/deb/copyright by hand")
        owners = sorted({line.strip(" *#.") for text in texts for line in text.splitlines() if COPYRIGHT_LINE.match(line)})
        modules = (
            (about / "top_level.txt").read_text().split()
            if (about / "top_level.txt").exists()
            else [name.replace("-", "_").lower().removesuffix("_py")]
        )
        files = " ".join(f"{MODULES}/{module}*" for module in [*modules, about.name])
        body = "\n".join(
            f" {line}".rstrip() if line.strip() else " ." for line in "\n\n".join(map(_without_apache_text, texts)).splitlines()
        )
        copyrights = "\n ".join(owners or [f"the authors of {name}"])
        stanzas.append(f"\nFiles: {files}\nCopyright: {copyrights}\nLicense: {name}\n{body}\n")
    return "".join(stanzas)


def _without_apache_text(text: str) -> str:
    """Return a reference in place of the Apache License 2.0, which every Debian has."""
    return APACHE_REFERENCE if "Version 2.0, January 2004" in text else text


def _write_control(tree: Path, text: str, version: str) -> None:
    files = sorted(path for path in tree.rglob("*") if path.is_file() and not path.is_symlink())
    sums = [f"{hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()}  {path.relative_to(tree)}\n" for path in files]
    # Debian counts files in whole KiB, and 1 KiB for each folder and link.
    kib = sum(-(-path.lstat().st_size // 1024) if path.is_file() and not path.is_symlink() else 1 for path in tree.rglob("*"))
    control = tree / "DEBIAN"
    control.mkdir()
    (control / "control").write_text(text.format(version=version, maintainer=MAINTAINER, homepage=PROJECT["urls"]["Homepage"], kib=kib))
    (control / "md5sums").write_text("".join(sums))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
