"""Build the root disk of a Debian guest with PostgreSQL, Redis and xz, once, by mmdebstrap. It is kept in the cache folder of the tests."""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

from guest_hosts import REAL  # puts the tests' folder on the path

sys.path.insert(0, str(REAL))

from guest_image import CannotBuild, GuestImage, cache_folder, require, unpacked

SUITE = "bookworm"
PACKAGES = ("systemd-sysv", "udev", "kmod", "linux-image-cloud-amd64", "postgresql", "redis-server", "xz-utils", "python3-minimal")
PROGRAMS = Path(__file__).resolve().with_name("guest_programs.py")
DISK_GIB = 4
BUILD_SECONDS = 1800

_CUSTOMIZE = """set -eux
cd "$1"
install -m 755 PROGRAMS usr/local/bin/programs
cat > etc/systemd/system/programs.service <<END
[Service]
ExecStart=/usr/local/bin/programs
StandardOutput=tty
TTYPath=/dev/ttyS0
# The squeeze counts what the kernel kills; systemd stops nothing for it.
OOMPolicy=continue
[Install]
WantedBy=multi-user.target
END
echo 00000000000000000000000000000001 > etc/machine-id
: > etc/fstab
echo 'save ""' >> etc/redis/redis.conf
chroot . systemctl enable programs.service
chroot . systemctl disable postgresql.service redis-server.service
chroot . systemctl mask serial-getty@ttyS0.service getty@tty1.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \\
    e2scrub_all.timer e2scrub_reap.service fstrim.timer logrotate.timer
chroot . pg_ctlcluster 15 main start
chroot . runuser -u postgres -- pgbench -i -q -s SCALE postgres
chroot . runuser -u postgres -- psql -q postgres -c 'CREATE EXTENSION pg_prewarm'
chroot . pg_ctlcluster 15 main stop
# gzip, as this file unpacks it: an emulated CPU would take seconds for that.
printf 'MODULES=list\\nCOMPRESS=gzip\\n' > etc/initramfs-tools/conf.d/squeeze
printf '%s\\n' virtio_pci virtio_blk ext4 crc32c_generic > etc/initramfs-tools/modules
chroot . update-initramfs -u
"""

SCALE = 10
"""pgbench's: a million accounts, 150 MiB."""


def build(cache: Path | None = None) -> GuestImage:
    """Return the guest, from the cache if it is there. Raise `CannotBuild` with what to install."""
    folder = cache or cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    recipe = hashlib.sha256(Path(__file__).read_bytes() + PROGRAMS.read_bytes()).hexdigest()[:12]
    made = folder / f"debian-{recipe}"
    with (folder / "debian-lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            _build_into(folder, made)
    return GuestImage(made / "kernel", made / "initrd", made / "disk")


def _build_into(cache: Path, made: Path) -> None:
    require(mmdebstrap="mmdebstrap", mke2fs="e2fsprogs", **{"qemu-img": "qemu-utils"})
    with tempfile.TemporaryDirectory(dir=cache, prefix="building-") as name:
        root, out, hook = Path(name) / "root", Path(name) / "out", Path(name) / "hook"
        out.mkdir()
        hook.write_text("#!/bin/sh\n" + _CUSTOMIZE.replace("PROGRAMS", str(PROGRAMS), 1).replace("SCALE", str(SCALE)))
        hook.chmod(0o755)
        packages = ["--variant=minbase", f"--include={','.join(PACKAGES)}"]
        _run("mmdebstrap", "--mode=root", "--format=directory", *packages, f"--customize-hook={hook}", SUITE, str(root))
        (out / "kernel").write_bytes(unpacked(next(root.glob("boot/vmlinuz-*")).read_bytes()))
        (out / "initrd").write_bytes(gzip.decompress(next(root.glob("boot/initrd.img-*")).read_bytes()))
        _run("mke2fs", "-q", "-t", "ext4", "-d", str(root), str(out / "disk"), f"{DISK_GIB}G")
        out.rename(made)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False)
    if done.returncode:
        raise CannotBuild(f"{command[0]} failed; it needs root, and access to Debian's packages:\n{done.stderr[-2000:]}")
