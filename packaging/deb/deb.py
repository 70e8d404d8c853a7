"""Makes mom's Debian packages of a tree that packaging/tree.py has made: `python packaging/deb/deb.py TREE FOLDER`.

They are mom and cockpit-mom, which shows mom in Cockpit. The same tree gives the same bytes. What Debian asks of a package beyond mom's own
files is added to the tree: it is used up. With `--quick` they are larger and made in a tenth of the time, for tests of what is in them.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from email.utils import formatdate
from pathlib import Path
from typing import Final

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
 Sell more memory to guests than the host has, and mom moves it to where it is
 needed: every few seconds it reads the host and all guests, evaluates a policy
 that can be replaced at any time, and acts, with memory balloons and kernel
 samepage merging, with limits on CPU, disks and network, with control groups
 and NUMA.
 .
 Everything that it has changed is put back when it is stopped or removed. It
 comes with a Python environment of its own.
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
 Shows in Cockpit what the memory overcommitment manager mom does with the
 memory of a KVM host and its guests, and changes its policies, with the
 rights of the user who has logged in.
"""

CHANGELOG: Final = """\
mom ({version}) unstable; urgency=medium

  * {summary}

 -- {maintainer}  {date}
"""


def main(arguments: list[str]) -> int:
    """Make them, and print where they are."""
    quick, arguments = "--quick" in arguments, [one for one in arguments if one != "--quick"]
    if len(arguments) != 2:
        print(__doc__.splitlines()[0], file=sys.stderr)
        return 2
    tree, folder = Path(arguments[0]).resolve(), Path(arguments[1]).resolve()
    os.umask(0o022)
    epoch = int((tree / "usr").stat().st_mtime)
    upstream = re.findall(
        r"mom_core-([^/]+)\.dist-info", "\n".join(map(str, tree.glob("usr/lib/mom/lib/python3/site-packages/mom_core-*")))
    )[0]
    # By the commit's time: apt takes a later commit's package for newer, and one commit gives one version.
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
    # One thread: with more, xz cuts the content in other places.
    compressed = ("-Zgzip", "-z1") if quick else ("-Zxz", "-z6", "--threads-max=1")
    options = ("--root-owner-group", *compressed, "--build")
    environment = os.environ | {"SOURCE_DATE_EPOCH": str(epoch)}
    subprocess.run(["dpkg-deb", *options, tree, path], env=environment, stdout=subprocess.DEVNULL, check=True, timeout=600)
    print(path)


def _add_what_debian_asks_for(tree: Path, version: str, epoch: int) -> None:
    documents = tree / "usr/share/doc/mom"
    (documents / "copyright").write_bytes((HERE / "copyright").read_bytes())
    (documents / "CHANGELOG.md.gz").rename(documents / "changelog.gz")
    changes = CHANGELOG.format(version=version, summary="See changelog.gz.", maintainer=MAINTAINER, date=formatdate(epoch))
    (documents / "changelog.Debian.gz").write_bytes(gzip.compress(changes.encode(), 9, mtime=0))
    hook = tree / "usr/share/python3/runtime.d/mom.rtupdate"
    hook.parent.mkdir(parents=True)
    hook.write_bytes((HERE / "mom.rtupdate").read_bytes())
    hook.chmod(0o755)
    overrides = tree / "usr/share/lintian/overrides/mom"
    overrides.parent.mkdir(parents=True)
    overrides.write_bytes((HERE / "lintian-overrides").read_bytes())


def _write_control(tree: Path, text: str, version: str) -> None:
    files = sorted(path for path in tree.rglob("*") if path.is_file() and not path.is_symlink())
    sums = [f"{hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()}  {path.relative_to(tree)}\n" for path in files]
    # As Debian counts: files in whole KiB, and one for each folder and link.
    kib = sum(-(-path.lstat().st_size // 1024) if path.is_file() and not path.is_symlink() else 1 for path in tree.rglob("*"))
    control = tree / "DEBIAN"
    control.mkdir()
    (control / "control").write_text(text.format(version=version, maintainer=MAINTAINER, homepage=PROJECT["urls"]["Homepage"], kib=kib))
    (control / "md5sums").write_text("".join(sums))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
