"""The test guest with agents: Debian's qemu-guest-agent, this host's Python, and mom-guestd, in a second initramfs.

The kernel unpacks initramfs archives one after the other. The guest of `guest_image` starts `/extra` of the second one.
"""

import fcntl
import hashlib
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

from guest_image import CannotBuild, GuestImage, build, cache_folder, downloaded, inserted, kernel_modules, libraries, packed

from mom_plugins_guestagent import guestd

PYTHON = Path("/usr/bin/python3")

_MODULES = ("virtio_console",)

_LIBRARY = ("encodings", "collections", "importlib", "pathlib", "re", "urllib")
"""Packages of Python's library that mom-guestd needs, besides plain modules. Newer Pythons have more."""

_EXTRA = """#!/bin/busybox sh
MODULES
[ -n "$noagents" ] && exit
[ -n "$block" ] && block="-b guest-file-open"
[ -n "$trim" ] && mount -t cgroup2 cgroup2 /sys/fs/cgroup
[ -n "$hasty" ] && sed -i 's/^LEAST_TRIM_SECONDS, USUAL_TRIM_SECONDS = 60,/LEAST_TRIM_SECONDS, USUAL_TRIM_SECONDS = 5,/;
    s/^TRIM_REST_SECONDS = 60.0/TRIM_REST_SECONDS = 5.0/' /bin/mom-guestd
# Ports come after their driver, and their names after them.
for look in 1 2 3 4 5 6 7 8 9 10; do
    for port in /sys/class/virtio-ports/*; do
        name= device=/dev/${port##*/}
        case " $begun " in *" $port "*) continue ;; esac
        [ ! -e $port/name ] || read -r name < $port/name
        case $name in
            org.qemu.guest_agent.*) qemu-ga -m virtio-serial -p $device -t /tmp -f /tmp/${port##*/}.pid $block & ;;
            org.mom.guestd.0) python3 -I -S /bin/mom-guestd ${order:+--reporting-order $order} ${trim:+--trim $trim} & ;;
            *) continue ;;
        esac
        begun="$begun $port"
    done
    sleep 0.5
done &
"""

_RELEASE = 'PRETTY_NAME="mom test guest"\nNAME="mom test guest"\nID=momtest\n'


def build_with_agents(cache: Path | None = None) -> GuestImage:
    """Return the guest, from the cache if possible. Raise `CannotBuild` with the missing packages.

    Options on the kernel's command line: `momtest.block=1` (agents may not open files), `momtest.noagents=1` (no agents), `momtest.order=`
    and `momtest.trim=` (actions that mom-guestd's owner allows while the host is short of memory), and `momtest.hasty=1` (mom-guestd drops
    page cache, and tries again, in less than a minute).
    """
    plain = build(cache)
    folder = cache or cache_folder()
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        recipe = hashlib.sha256(Path(__file__).read_bytes() + Path(guestd.__file__).read_bytes()).hexdigest()[:12]
        initrd = plain.initrd.with_name(f"initrd-agents-{recipe}")
        if not initrd.exists():
            with tempfile.TemporaryDirectory(dir=folder, prefix="building-") as name:
                work = Path(name)
                _fill(folder, work, work / "tree")
                whole = work / "initrd"
                whole.write_bytes(plain.initrd.read_bytes() + packed(work / "tree"))
                whole.rename(initrd)
    return GuestImage(plain.kernel, initrd)


def _fill(cache: Path, work: Path, tree: Path) -> None:
    for path in ("bin", "lib", "etc", "usr"):
        (tree / path).mkdir(parents=True)
    modules = kernel_modules(cache, work, _MODULES)
    for module in modules:
        shutil.copy(module, tree / "lib")
    subprocess.run(["dpkg-deb", "-x", downloaded(cache, "qemu-guest-agent"), work / "agent"], check=True)
    if not PYTHON.exists():
        raise CannotBuild(f"{PYTHON} is missing: apt-get install python3")
    for program, name in ((work / "agent/usr/sbin/qemu-ga", "qemu-ga"), (PYTHON, "python3")):
        shutil.copy(program, tree / "bin" / name)
        for library in libraries(program):
            target = tree / str(library).lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library, target)
    asked = [str(PYTHON), "-I", "-S", "-c", "import os; print(os.path.dirname(os.__file__))"]
    library = Path(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip())
    target = tree / str(library).lstrip("/")
    target.mkdir(parents=True)
    for module in library.glob("*.py"):
        shutil.copy(module, target)
    for package in _LIBRARY:
        if (library / package).is_dir():
            shutil.copytree(library / package, target / package, ignore=shutil.ignore_patterns("__pycache__"))
    # Like on any machine. The emulated CPU would need ten times longer to compile modules, at each start.
    compiled = [str(PYTHON), "-I", "-S", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", str(target)]
    subprocess.run(compiled, check=True)
    (target / "lib-dynload").mkdir(exist_ok=True)
    _script(tree / "bin/mom-guestd", Path(guestd.__file__).read_text())
    _script(tree / "extra", _EXTRA.replace("MODULES", inserted(modules)))
    (tree / "etc/os-release").write_text(_RELEASE)


def _script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
