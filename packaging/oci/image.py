"""Build a container image (an OCI archive) from a tree of packaging/tree.py: `python packaging/oci/image.py TREE FILE`.

The image runs commands that need no host: `mom demo`, `mom simulate`, `mom fleet coordinator`. With `--node` before the tree, the image
is for the DaemonSet of a cluster (packaging/kubernetes): mom-node starts in it as root, with libvirt's client library. mmdebstrap makes a
minimal Debian with Python and the tree. This script adds the metadata of the OCI image format
(https://github.com/opencontainers/image-spec), so no container daemon is needed. Builds are reproducible, as long as Debian's packages
are the same.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

PROJECT: Final = tomllib.loads((Path(__file__).resolve().parents[2] / "mom_core/pyproject.toml").read_text())["project"]
SUITE: Final = "bookworm"
PYTHON: Final = "cpython-311"
"""Tag of the image's interpreter in names of C modules."""
SECONDS: Final = 1800
FOLDER: Final = Path(__file__).resolve().parent
NOT_WANTED: Final = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")
WANTED: Final = ("/usr/share/doc/*/copyright", "/usr/share/doc/mom/*")
COMPILE: Final = (
    'chroot "$1" /usr/bin/python3 -I -m compileall -q --invalidation-mode unchecked-hash /usr/lib/mom/lib/python3/site-packages'
)
"""Bytecode without the sources' times. The image's user cannot write bytecode."""


OTHER_PYTHONS: Final = f"find \"$1\"/usr/lib/mom -name '*.cpython-*.so' ! -name '*.{PYTHON}-*' -delete"
"""Modules for other interpreters, which the image does not need."""


@dataclass(frozen=True)
class Variant:
    """Contents of one image.

    :param packages: Debian packages besides a minimal system
    :param without: unneeded files below the root, as shell patterns
    :param programs: files of this folder for /usr/bin
    """

    name: str
    about: str
    packages: tuple[str, ...]
    user: str
    entrypoint: str
    command: tuple[str, ...]
    programs: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    debian: str = "minbase"


PLAIN: Final = Variant(
    name="mom",
    about="memory overcommitment manager for KVM hosts: demo, simulator, coordinator of a fleet",
    packages=("python3-minimal", "python3", "ca-certificates"),
    user="65534:65534",  # none of its commands needs root
    entrypoint="/usr/bin/mom",
    command=("demo",),
)
NODE: Final = Variant(
    name="mom-node",
    about="memory overcommitment manager for KVM hosts: for the nodes of a cluster with KubeVirt",
    packages=("python3-minimal", "python3", "python3-libvirt"),
    user="0:0",  # it manages pods of other users; the DaemonSet limits its rights
    entrypoint="/usr/bin/mom-node",
    command=("run",),
    programs=("mom-node",),
    # Perl is only for XML catalogues, which libvirt's client does not read. The other packages are for installed systems.
    without=("usr/share/perl", "usr/share/perl5", "usr/lib/x86_64-linux-gnu/perl", "usr/lib/x86_64-linux-gnu/libperl.so*", "var/cache/*"),
    debian="essential",
)


def main(arguments: list[str]) -> int:
    """Build the image, and print its digest."""
    variant = NODE if arguments[:1] == ["--node"] else PLAIN
    arguments = arguments[variant is NODE :]
    if len(arguments) != 2:
        print(__doc__.splitlines()[0], file=sys.stderr)
        return 2
    tree, archive = Path(arguments[0]).resolve(), Path(arguments[1]).resolve()
    epoch = int((tree / "usr").stat().st_mtime)
    with tempfile.TemporaryDirectory(prefix="mom-oci-", dir=archive.parent) as scratch:
        root = Path(scratch) / "root.tar"
        _make_root(variant, tree, root, epoch)
        digest = _write_archive(variant, root, archive, epoch, _version(tree))
    print(digest)
    return 0


def _version(tree: Path) -> str:
    (core,) = tree.glob("usr/lib/mom/lib/python3/site-packages/mom_core-*.dist-info")
    return core.name.removeprefix("mom_core-").removesuffix(".dist-info")


def _make_root(variant: Variant, tree: Path, root: Path, epoch: int) -> None:
    """Build a Debian with Python and mom, as a tar archive."""
    names = [f"--dpkgopt=path-exclude={name}" for name in NOT_WANTED] + [f"--dpkgopt=path-include={name}" for name in WANTED]
    hooks = [f"sync-in {_quoted(tree)} /", OTHER_PYTHONS, COMPILE]
    hooks += [f"upload {_quoted(FOLDER / name)} /usr/bin/{name}" for name in variant.programs]
    hooks += [f'chmod 755 "$1"/usr/bin/{name}' for name in variant.programs]
    hooks += [f'rm -rf "$1"/{name}' for name in variant.without]
    packages = (f"--variant={variant.debian}", f"--include={','.join(variant.packages)}", "--format=tar", "--quiet")
    command = ["mmdebstrap", *packages, *names, *(f"--customize-hook={hook}" for hook in hooks), SUITE, str(root)]
    environment = os.environ | {"SOURCE_DATE_EPOCH": str(epoch)}
    if code := subprocess.run(command, env=environment, timeout=SECONDS, check=False).returncode:
        raise SystemExit(f"mmdebstrap ended with exit code {code}: it needs root, and access to Debian's packages of {SUITE}")


def _quoted(path: Path) -> str:
    """Quote a path for mmdebstrap's hooks, which run in a shell."""
    if not re.fullmatch(r"[\w./+-]+", str(path)):
        raise SystemExit(f"unsuitable path {path}: make the tree in a folder whose path has only letters, digits, '.', '_', '+' and '-'")
    return str(path)


def _write_archive(variant: Variant, root: Path, archive: Path, epoch: int, version: str) -> str:
    """Write the image's archive with the root as its only layer; return the digest of its manifest."""
    plain = root.read_bytes()
    layer = subprocess.run(["gzip", "-6n"], input=plain, stdout=subprocess.PIPE, check=True, timeout=SECONDS).stdout
    created = datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    labels = {
        "org.opencontainers.image.title": variant.name,
        "org.opencontainers.image.description": variant.about,
        "org.opencontainers.image.licenses": "Apache-2.0",
        "org.opencontainers.image.source": PROJECT["urls"]["Homepage"],
        "org.opencontainers.image.version": version,
        "org.opencontainers.image.created": created,
    }
    run = {
        "User": variant.user,
        "Env": ["PATH=/usr/bin:/bin", "LANG=C.UTF-8"],
        "Entrypoint": [variant.entrypoint],
        "Cmd": [*variant.command],
        "Labels": labels,
        "StopSignal": "SIGTERM",
    }
    blobs: dict[str, bytes] = {}

    def stored(kind: str, content: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        blobs[digest] = content
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(content)}

    layers = [stored("layer.v1.tar+gzip", layer)]
    history = [{"created": created, "created_by": f"packaging/oci/image.py: Debian {SUITE} with Python, and mom {version}"}]
    config = {
        "created": created,
        "architecture": "amd64",
        "os": "linux",
        "config": run,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(plain).hexdigest()}"]},
        "history": history,
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": stored("config.v1+json", _json(config)),
        "layers": layers,
        "annotations": labels,
    }
    entry = stored("manifest.v1+json", _json(manifest))
    named = {**entry, "annotations": {"org.opencontainers.image.ref.name": f"{variant.name}:{version}"}}
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [named]}
    files = {"oci-layout": _json({"imageLayoutVersion": "1.0.0"}), "index.json": _json(index)}
    files |= {f"blobs/sha256/{digest}": content for digest, content in blobs.items()}
    partial = archive.with_name(f"{archive.name}.partial")
    with tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.mode = len(content), epoch, 0o644
            tar.addfile(member, io.BytesIO(content))
    partial.replace(archive)
    return str(entry["digest"])


def _json(content: object) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
