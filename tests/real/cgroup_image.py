"""The tiny guest with cgroups v2 to itself: the tests' own Python, the plugin and `cgroup_driver`, packed behind its initramfs."""

import os
import shutil
import stat
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from guest_image import CannotBuild, GuestImage, build, cache_folder, kernel_modules, libraries, packed

_HERE = Path(__file__).resolve().parent
_RULES = _HERE.parents[1] / "mom_plugins_cgroup" / "tests" / "cgroup_rules.json"

_EXTRA = """#!/bin/busybox sh
insmod /lib/brd.ko rd_nr=2 rd_size=262144
export PYTHONPATH={path}
{python} -S /bin/cgroup_driver.py 2>&1 || echo "FACT {{\\"failed\\": true}}"
poweroff -f
"""
_SECONDS = 1800.0
"""The guest's processor is emulated: importing alone takes a quarter of a minute, and several times that on a host that is slow or busy."""


def facts(work: Path) -> Iterator[str]:
    """Boot it, and give what it prints, line by line. Raises `CannotBuild` with what to install."""
    plain = build()
    image = _with_driver(plain, work)
    command = ["qemu-system-x86_64", "-machine", "pc", "-accel", "tcg,thread=multi", "-smp", "2", "-m", "768", "-nographic", "-no-reboot"]
    command += ["-kernel", str(image.kernel), "-initrd", str(image.initrd), "-append", "console=ttyS0 quiet psi=1 panic=-1"]
    process = subprocess.run(["timeout", str(_SECONDS), *command], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    yield from process.stdout.splitlines()


def _with_driver(plain: GuestImage, work: Path) -> GuestImage:
    tree = work / "tree"
    (tree / "bin").mkdir(parents=True)
    (tree / "lib").mkdir()
    for module in kernel_modules(cache_folder(), work, ("brd",)):
        shutil.copy(module, tree / "lib")
    python = Path(sys.base_prefix) / "bin" / f"python{sysconfig.get_python_version()}"
    path = os.pathsep.join(entry for entry in sys.path if entry and Path(entry).is_dir() and Path(entry) != _HERE)
    command = [sys.executable, str(_HERE / "cgroup_driver.py"), "--imports"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    if listed.returncode:
        raise CannotBuild(f"cgroup_driver cannot be imported: {listed.stderr[-500:]}")
    library = Path(sysconfig.get_path("stdlib"))
    files = {python, *map(Path, listed.stdout.splitlines()), *(library / "encodings").glob("*.py"), *_packages()}
    files |= {stub for path in files if (stub := path.with_suffix(".pyi")).exists()}  # where the names of a package are listed
    for file in list(files):
        if file.suffix == ".so" or file == python:
            files |= set(libraries(file))
    for file in files:
        target = tree / str(file).lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, target)  # with its time, by which Python knows what was compiled from it
    for file in (_HERE / "cgroup_driver.py", _RULES):
        shutil.copy(file, tree / "bin")
    extra = tree / "extra"
    extra.write_text(_EXTRA.format(path=path, python=python))
    extra.chmod(extra.stat().st_mode | stat.S_IXUSR)
    initrd = work / "initrd"
    initrd.write_bytes(plain.initrd.read_bytes() + packed(tree))
    return GuestImage(plain.kernel, initrd)


def _packages() -> Iterator[Path]:
    """All of our own, as they import when they first need."""
    import mom_core
    import mom_plugins_cgroup

    for package in (mom_core, mom_plugins_cgroup):
        yield from Path(str(package.__file__)).parent.rglob("*.py")
