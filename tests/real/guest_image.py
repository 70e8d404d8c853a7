"""Small real guest for tests: a Debian kernel, busybox and workloads, built once and cached.

`python tests/real/guest_image.py` builds it and prints its path.
"""

import ctypes
import fcntl
import hashlib
import lzma
import os
import re
import shutil
import stat
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

_META_PACKAGE = "linux-image-cloud-amd64"
_HERE = Path(__file__).resolve().parent

_MODULES = ("virtio_pci", "virtio_balloon", "virtio_mem", "virtio_blk", "evdev", "button", "pvpanic-mmio", "lzo-rle", "zram")

_INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
# What is asked of it becomes variables, which /extra sees, too. No program is started for that: each takes 10 ms and more.
read -r line < /proc/cmdline
set -a
for word in $line; do
    case $word in momtest.*=*) eval "${word#momtest.}" ;; esac
done
set +a
MODULES
echo "GUEST up"
# Its power button ends it at once.
mkdir -p /etc/acpi/PWRF
printf '#!/bin/sh\necho GUEST off\nsync\npoweroff -f\n' > /etc/acpi/PWRF/00000080
chmod +x /etc/acpi/PWRF/00000080
acpid -d >/dev/null 2>&1 &
[ -x /extra ] && /extra
IFS=,
[ -n "$burst" ] && burst $burst &
[ -n "$files" ] && mkdir /files && mount -t ramfs files /files && (cd /files && seq "$files" | xargs touch)
[ -n "$workload" ] && workload $workload
[ -n "$swap" ] && mkswap /dev/vdb >/dev/null && swapon /dev/vdb
[ -n "$zram" ] && echo "${zram}M" > /sys/block/zram0/disksize && mkswap /dev/zram0 >/dev/null && swapon /dev/zram0
[ -n "$growth" ] && growth $growth
[ -n "$demand" ] && demand $demand &
[ -n "$panic" ] && exit
[ -n "$unload" ] && sleep "$unload" && rmmod virtio_balloon && echo "GUEST driver gone"
[ -n "$liar" ] && sleep "${liar%,*}" && rmmod virtio_balloon && liar "${liar#*,}" &
while :; do sleep 3600; done
"""


_PROGRAMS = ("workload", "burst", "demand", "growth", "liar", "insert")
"""C programs of this folder in each guest."""

_LZ4_MOST = 8 << 20
"""Largest unpacked size of a block in the kernel's LZ4 format (`lz4 -l`)."""


class CannotBuild(Exception):
    """This machine lacks a program or package for building a guest."""


@dataclass(frozen=True)
class GuestImage:
    """Kernel and disks of a guest.

    Options on the kernel's command line: `momtest.workload=COLD,WARM,COMMON,FORMER` (MiB), `momtest.panic=1` (crash at once),
    `momtest.unload=SECONDS` (remove the balloon driver), `momtest.liar=SECONDS,SEED` (replace the balloon driver by one with false
    statistics), `momtest.swap=1` (the second disk is swap), `momtest.files=NUMBER` (files in memory: half of their names' memory counts as
    usable, but is not), `momtest.zram=MIB` (compressed swap), and `momtest.burst=`, `momtest.demand=`, `momtest.growth=` (arguments of
    these programs).
    """

    kernel: Path
    initrd: Path
    disk: Path | None = None
    """Root disk (raw). Each guest has an overlay on it."""


def cache_folder() -> Path:
    """Return the folder for downloads and built files."""
    chosen = os.environ.get("MOM_TEST_CACHE")
    return Path(chosen) if chosen else Path.home() / ".cache" / "mom-tests"


def build(cache: Path | None = None) -> GuestImage:
    """Return the guest, from the cache if possible. Raise `CannotBuild` with the missing packages."""
    folder = cache or cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs share one cache
        recipe = hashlib.sha256(b"".join(path.read_bytes() for path in (Path(__file__), *_sources()))).hexdigest()[:12]
        made = folder / f"guest-{recipe}"
        if not made.exists():
            _build_into(folder, made)
    return GuestImage(made / "kernel", made / "initrd")


def require(**packages: str) -> None:
    """Raise `CannotBuild` with the Debian package of the first missing program; packages are keyed by program."""
    for program, package in packages.items():
        if shutil.which(program) is None:
            raise CannotBuild(f"{program} is missing: apt-get install {package}")


def _build_into(cache: Path, made: Path) -> None:
    require(busybox="busybox-static", cpio="cpio", modinfo="kmod", gcc="gcc libc6-dev", **{"dpkg-deb": "dpkg"})
    with tempfile.TemporaryDirectory(dir=cache, prefix="building-") as name:
        work = Path(name)
        _unpack_kernel(cache, work / "kernel")
        out = work / "guest"
        out.mkdir()
        packed = next(path for pattern in ("boot/vmlinuz-*", "usr/lib/modules/*/vmlinuz") for path in (work / "kernel").glob(pattern))
        (out / "kernel").write_bytes(unpacked(packed.read_bytes()))
        _pack_initrd(cache, work, out / "initrd")
        out.rename(made)


def _unpack_kernel(cache: Path, folder: Path) -> None:
    """Unpack the kernel and its modules. Debian 14 has them in other packages."""
    package = _kernel_package(cache)
    depends = _run("dpkg-deb", "-f", str(package), "Depends").replace(",", " ").split()
    parts = [word for word in depends if word.startswith(("linux-base-", "linux-binary-", "linux-modules-"))]
    for path in (package, *(downloaded(cache, name) for name in parts)):
        _run("dpkg-deb", "-x", str(path), str(folder))


def _kernel_package(cache: Path) -> Path:
    kept = sorted(cache.glob("linux-image-*-cloud-amd64_*.deb"))
    if kept:
        return kept[-1]
    depends = _run("apt-cache", "depends", _META_PACKAGE).split()
    names = [word for word in depends if word.startswith("linux-image-") and word != _META_PACKAGE]
    if not names:
        raise CannotBuild(f"apt knows no {_META_PACKAGE}: apt-get update")
    return downloaded(cache, names[0])


def downloaded(cache: Path, name: str) -> Path:
    """Return the file of a Debian package, from the cache if possible."""
    kept = sorted(cache.glob(f"{name}_*.deb"))
    if kept:
        return kept[-1]
    with tempfile.TemporaryDirectory(dir=cache, prefix="downloading-") as folder:
        _run("apt-get", "-o", "APT::Sandbox::User=root", "download", name, cwd=Path(folder))
        package = next(Path(folder).glob("*.deb"))
        return package.rename(cache / package.name)


def kernel_modules(cache: Path, work: Path, names: Sequence[str]) -> list[Path]:
    """Unpack modules of the guest's kernel and their dependencies to `work`. Return them in the order of insertion.

    Built-in modules are left out. Debian 13 has more of them than Debian 12, and compresses modules.
    """
    kernel = work / "kernel"
    if not kernel.exists():
        _unpack_kernel(cache, kernel)
    folder = next(path for below in ("lib", "usr/lib") for path in (kernel / below / "modules").glob("*"))
    files = {_named(path): path for path in folder.rglob("*.ko*")}
    built_in = {_named(Path(line)) for line in (folder / "modules.builtin").read_text().splitlines()}
    wanted: dict[str, Path] = {}

    def want(name: str) -> None:
        if name in built_in or name in wanted:
            return
        if name not in files:
            raise CannotBuild(f"the guest's kernel in {cache} has no module {name}: remove it, so that another one is downloaded")
        for needed in _run("modinfo", "-F", "depends", str(files[name])).strip().split(","):
            if needed:
                want(needed.replace("-", "_"))
        wanted[name] = _uncompressed(files[name])

    for name in names:
        want(name.replace("-", "_"))
    return list(wanted.values())


def _named(path: Path) -> str:
    """Return the kernel's name of a module file."""
    return path.name.partition(".")[0].replace("-", "_")


def _uncompressed(module: Path) -> Path:
    if module.suffix != ".xz":
        return module
    plain = module.with_suffix("")
    plain.write_bytes(lzma.decompress(module.read_bytes()))
    return plain


def unpacked(kernel: bytes) -> bytes:
    """Return the unpacked kernel of a boot image; the image itself in another format than Debian 12's.

    QEMU can start the unpacked kernel (PVH), a second faster than an emulated CPU unpacks it. See `setup_sects`, `version`,
    `payload_offset` and `payload_length` in Linux' Documentation/arch/x86/boot.rst.
    """
    version, offset, length = struct.unpack_from("<H", kernel, 0x206) + struct.unpack_from("<II", kernel, 0x248)
    begin = (kernel[0x1F1] + 1) * 512 + offset
    payload, (size,) = kernel[begin : begin + length - 4], struct.unpack_from("<I", kernel, begin + length - 4)
    if version < 0x208 or payload[:4] != bytes.fromhex("02214c18"):
        return kernel
    lz4, room, plain, at = ctypes.CDLL("liblz4.so.1"), ctypes.create_string_buffer(_LZ4_MOST), bytearray(), 4
    while at < len(payload):
        (packed_size,) = struct.unpack_from("<I", payload, at)
        block = payload[at + 4 : at + 4 + packed_size]
        unpacked_size = lz4.LZ4_decompress_safe(block, room, len(block), _LZ4_MOST)
        plain += room.raw[:unpacked_size]
        at += 4 + packed_size
    if len(plain) != size:
        raise CannotBuild(f"the guest's kernel unpacks to {len(plain)} bytes and not to {size}")
    return bytes(plain)


def inserted(modules: Iterable[Path]) -> str:
    """Return the line of a guest's script that inserts these modules from /lib."""
    return " ".join(["insert", *(f"/lib/{module.name}" for module in modules)])


def _pack_initrd(cache: Path, work: Path, initrd: Path) -> None:
    tree = work / "initrd"
    for folder in ("bin", "lib", "proc", "sys", "dev", "tmp"):
        (tree / folder).mkdir(parents=True)
    modules = kernel_modules(cache, work, _MODULES)
    for module in modules:
        shutil.copy(module, tree / "lib")
    busybox = shutil.which("busybox") or ""
    if b"/lib64/ld-linux" in Path(busybox).read_bytes():
        raise CannotBuild("busybox needs shared libraries: apt-get install busybox-static")
    shutil.copy(busybox, tree / "bin" / "busybox")
    for source in _sources():
        _run("gcc", "-O2", "-Wall", "-static", "-s", "-o", str(tree / "bin" / source.stem), str(source))
    init = tree / "init"
    init.write_text(_INIT.replace("MODULES", inserted(modules)))
    init.chmod(init.stat().st_mode | stat.S_IXUSR)
    initrd.write_bytes(packed(tree))


def packed(tree: Path) -> bytes:
    """Return a folder as an initramfs archive, uncompressed: an emulated CPU needs half a second to unpack 3 MB."""
    names = "\n".join(sorted(str(path.relative_to(tree)) for path in tree.rglob("*")))
    command = ["cpio", "-o", "-H", "newc", "--quiet"]
    archive = subprocess.run(command, cwd=tree, input=names.encode(), capture_output=True, check=True).stdout
    return archive + b"\0" * (-len(archive) % 4)  # alignment for a following archive


def libraries(program: Path) -> list[Path]:
    """Return the shared libraries of a program, and their loader."""
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    missing = re.findall(r"(\S+) => not found", listed)
    if missing:
        raise CannotBuild(f"{program.name} needs {', '.join(missing)}, which come with qemu-system-x86 and libvirt")
    return [Path(path) for path in re.findall(r"(/\S+) \(0x", listed)]


def _sources() -> list[Path]:
    return [_HERE / f"{program}.c" for program in _PROGRAMS]


def _run(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotBuild(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


if __name__ == "__main__":
    sys.stdout.write(f"{build().kernel.parent}\n")
