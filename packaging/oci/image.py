"""Makes a container image of mom, as an OCI archive, of a tree that packaging/tree.py has made: `python packaging/oci/image.py TREE FILE`.

It is for what needs no host of its own: `mom demo`, `mom simulate`, `mom fleet coordinator`. No container daemon takes part: mmdebstrap
makes a minimal Debian with Python and the tree in it, and what the OCI image format asks for beside is written here
(https://github.com/opencontainers/image-spec). The same tree and the same packages of Debian's give the same bytes.
"""

from __future__ import annotations

import gzip
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
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

PROJECT: Final = tomllib.loads((Path(__file__).resolve().parents[2] / "mom_core/pyproject.toml").read_text())["project"]
SUITE: Final = "bookworm"
SECONDS: Final = 1800
NOBODY: Final = "65534:65534"
"""Nothing that the image is for needs root."""
NOT_WANTED: Final = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")
WANTED: Final = ("/usr/share/doc/*/copyright", "/usr/share/doc/mom/*")
COMPILE: Final = (
    'chroot "$1" /usr/bin/python3 -I -m compileall -q --invalidation-mode unchecked-hash /usr/lib/mom/lib/python3/site-packages'
)
"""Byte code that does not go by the sources' times; the image's user may not write any."""


def main(arguments: list[str]) -> int:
    """Make it, and print what the archive's image is called by its content."""
    if len(arguments) != 2:
        print(__doc__.splitlines()[0], file=sys.stderr)
        return 2
    tree, archive = Path(arguments[0]).resolve(), Path(arguments[1]).resolve()
    epoch = int((tree / "usr").stat().st_mtime)
    with tempfile.TemporaryDirectory(prefix="mom-oci-", dir=archive.parent) as scratch:
        root = Path(scratch) / "root.tar"
        _make_root(tree, root, epoch)
        digest = _write_archive(root, archive, epoch, _version(tree))
    print(digest)
    return 0


def _version(tree: Path) -> str:
    (core,) = tree.glob("usr/lib/mom/lib/python3/site-packages/mom_core-*.dist-info")
    return core.name.removeprefix("mom_core-").removesuffix(".dist-info")


def _make_root(tree: Path, root: Path, epoch: int) -> None:
    """A Debian with Python and nothing else, and mom in it, as a tar archive."""
    names = [f"--dpkgopt=path-exclude={name}" for name in NOT_WANTED] + [f"--dpkgopt=path-include={name}" for name in WANTED]
    copied = ["--customize-hook=sync-in " + _quoted(tree) + " /", f"--customize-hook={COMPILE}"]
    packages = ("--variant=minbase", "--include=python3-minimal,python3,ca-certificates", "--format=tar", "--quiet")
    command = ["mmdebstrap", *packages, *names, *copied, SUITE, str(root)]
    environment = os.environ | {"SOURCE_DATE_EPOCH": str(epoch)}
    if code := subprocess.run(command, env=environment, timeout=SECONDS, check=False).returncode:
        raise SystemExit(f"mmdebstrap ended with {code}: it needs root, and Debian's packages of {SUITE}")


def _quoted(path: Path) -> str:
    """A path as a word of mmdebstrap's hooks, which are read by a shell."""
    if not re.fullmatch(r"[\w./+-]+", str(path)):
        raise SystemExit(f"{path}: make the tree in a folder whose path has letters, digits, '.', '_', '+' and '-' only")
    return str(path)


def _write_archive(root: Path, archive: Path, epoch: int, version: str) -> str:
    """The image's archive, with the root as its only layer; the digest of its manifest."""
    plain = root.read_bytes()
    layer = gzip.compress(plain, 6, mtime=0)
    created = datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    labels = {
        "org.opencontainers.image.title": "mom",
        "org.opencontainers.image.description": "memory overcommitment manager for KVM hosts: demo, simulator, coordinator of a fleet",
        "org.opencontainers.image.licenses": "Apache-2.0",
        "org.opencontainers.image.source": PROJECT["urls"]["Homepage"],
        "org.opencontainers.image.version": version,
        "org.opencontainers.image.created": created,
    }
    run = {
        "User": NOBODY,
        "Env": ["PATH=/usr/bin:/bin", "LANG=C.UTF-8"],
        "Entrypoint": ["/usr/bin/mom"],
        "Cmd": ["demo"],
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
    named = {**entry, "annotations": {"org.opencontainers.image.ref.name": f"mom:{version}"}}
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
