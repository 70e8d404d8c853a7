"""The test guest with its own cgroups v2: systemd with mom-helper's units, Python, plugins and drivers in a second initramfs."""

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from guest_image import CannotBuild, GuestImage, build, cache_folder, kernel_modules, libraries, packed
from real_guests import COMMAND_LINE

_HERE = Path(__file__).resolve().parent
_RULES = _HERE.parents[1] / "mom_plugins_host" / "tests" / "cgroup_rules.json"

_PACKAGING = _HERE.parents[1] / "packaging"

_SYSTEMD = Path("/lib/systemd/systemd")
_OF_SYSTEMD = (_SYSTEMD, Path("/lib/systemd/systemd-executor"), Path("/bin/systemctl"), *Path("/usr/lib").glob("*/libseccomp.so.2"))
"""Files of systemd. Newer versions have an additional program and load a library late."""

_FOLDERS = (
    "bin", "etc/mom/helper.d", "etc/systemd/system", "lib", "root", "run", "tmp", "usr/bin", "usr/lib/mom/helper.d", "var/lib", "var/tmp",
    "work",
)  # fmt: skip

_USERS = {"root": 0, "mom": 990, "libvirt-qemu": 64055}

_DRIVER = """[Service]
ExecStart=/bin/busybox sh /extra
"""

_EXTRA = """exec > /dev/console 2>&1
/bin/busybox --install -s /bin
insmod /lib/brd.ko rd_nr=2 rd_size=262144
export PYTHONPATH=/bin:{path}
{python} -S -c '{program}' ||
    {{ systemctl status mom-helper; cat /run/mom-helper.log; echo "FACT {{\\"failed\\": true}}"; }}
poweroff -f
"""

_DISTRIBUTION = """[mom.plugins]
decider = cgroup_driver:Decider
processes = grouped_processes:Processes
cgroup = mom_plugins_host.cgroup:CgroupPlugin
host = mom_plugins_host.host:HostPlugin
oom = mom_plugins_host.oom:OomPlugin
"""
"""Entry points of the distribution in the guest."""

_DRIVERS = ("cgroup_driver", "growth_driver", "grouped_processes")

_SLOW = """[Service]
StandardError=file:/run/mom-helper.log
TimeoutStopSec=10min
"""
"""Drop-in with longer times: restoring starts a Python, which takes longer than 15 s on an emulated CPU."""

_WEIGHT = "[group cpu.weight]\nleast = 1\nmost = 1000\n"

_SYSTEMDS_LINE = "psi=1 panic=-1 rdinit=/lib/systemd/systemd systemd.log_target=console systemd.show_status=0"
_SECONDS = 1800.0
"""Time limit in seconds. On the emulated CPU, imports take 15 s, and several times as long on a slow or busy host."""


def facts(work: Path, program: str, mib: int = 768, seconds: float = _SECONDS) -> Iterator[str]:
    """Boot the guest with this memory, run a Python program of the drivers, and yield its output lines.

    :raises CannotBuild: with the missing packages
    """
    image = _with_drivers(build(), work, program)
    command = [
        "qemu-system-x86_64",
        "-machine",
        "pc",
        "-accel",
        "tcg,thread=multi",
        "-smp",
        "2",
        "-m",
        str(mib),
        "-nographic",
        "-no-reboot",
    ]
    command += ["-kernel", str(image.kernel), "-initrd", str(image.initrd), "-append", COMMAND_LINE + _SYSTEMDS_LINE]
    command = ["timeout", str(seconds), *command]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        try:
            yield from (line.rstrip("\r\n") for line in process.stdout)
        finally:
            process.terminate()


def _with_drivers(plain: GuestImage, work: Path, program: str) -> GuestImage:
    if not _SYSTEMD.exists():
        raise CannotBuild("systemd is missing: apt-get install systemd")
    tree = work / "tree"
    for folder in _FOLDERS:
        (tree / folder).mkdir(parents=True, exist_ok=True)
    for module in kernel_modules(cache_folder(), work, ("brd",)):
        shutil.copy(module, tree / "lib")
    python = Path(sys.base_prefix) / "bin" / f"python{sysconfig.get_python_version()}"
    path = os.pathsep.join(entry for entry in sys.path if entry and Path(entry).is_dir() and Path(entry) != _HERE)
    command = [sys.executable, "-c", "import growth_driver, cgroup_driver; cgroup_driver.imports()"]
    listed = subprocess.run(command, cwd=_HERE, capture_output=True, text=True, check=False)
    if listed.returncode:
        raise CannotBuild(f"the drivers cannot be imported: {listed.stderr[-500:]}")
    compiler = ["gcc", "-O2", "-Wall", "-static", "-s", "-o", str(tree / "bin/grow"), str(_HERE / "grow.c")]
    if shutil.which("gcc") is None or subprocess.run(compiler, check=False).returncode:
        raise CannotBuild("grow.c cannot be compiled: apt-get install gcc libc6-dev")
    library = Path(sysconfig.get_path("stdlib"))
    files = {python, *map(Path, listed.stdout.splitlines()), *(library / "encodings").glob("*.py"), *_packages()}
    files |= {path for path in _OF_SYSTEMD if path.exists()}
    files |= {stub for path in files if (stub := path.with_suffix(".pyi")).exists()}  # lists of a package's names
    for file in list(files):
        if file.suffix == ".so" or file in {python, *_OF_SYSTEMD}:
            files |= set(libraries(file))
    for file in files:
        target = tree / str(file).lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, target)  # with its time, so that compiled bytecode is valid
    for file in (*(_HERE / f"{name}.py" for name in _DRIVERS), _RULES):
        shutil.copy(file, tree / "bin")
    (tree / "bin/cgroup_driver-0.dist-info").mkdir()
    (tree / "bin/cgroup_driver-0.dist-info/entry_points.txt").write_text(_DISTRIBUTION)
    (tree / "extra").write_text(_EXTRA.format(path=path, python=python, program=program))
    _add_units(tree, python)
    initrd = work / "initrd"
    initrd.write_bytes(plain.initrd.read_bytes() + packed(tree))
    return GuestImage(plain.kernel, initrd)


def _add_units(tree: Path, python: Path) -> None:
    """Add a systemd that starts only the driver, and mom-helper's units."""
    import mom_helper

    units = tree / "etc/systemd/system"
    for target in ("basic", "sysinit", "shutdown", "sockets"):
        (units / f"{target}.target").write_text("[Unit]\n")
    (units / "default.target").write_text("[Unit]\nWants=driver.service\n")
    (units / "driver.service").write_text(_DRIVER)
    shutil.copy(_PACKAGING / "mom-helper.socket", units)
    text = (_PACKAGING / "mom-helper.service").read_text()
    helper = f"{python} -I -S {Path(mom_helper.__file__).parent}"
    (units / "mom-helper.service").write_text(text.replace("/opt/mom/bin/python3 -I -m mom_helper", helper))
    (units / "mom-helper.service.d").mkdir()
    (units / "mom-helper.service.d/slow.conf").write_text(_SLOW)
    shutil.copy(_PACKAGING / "helper.d/mom.conf", tree / "usr/lib/mom/helper.d")
    (tree / "etc/mom/helper.d/weight.conf").write_text(_WEIGHT)
    (tree / "etc/passwd").write_text("".join(f"{name}:x:{number}:{number}::/:/bin/sh\n" for name, number in _USERS.items()))
    (tree / "etc/group").write_text("".join(f"{name}:x:{number}:\n" for name, number in _USERS.items()))
    (tree / "bin/sh").symlink_to("busybox")
    (tree / "usr/bin/systemctl").symlink_to("/bin/systemctl")


def _packages() -> Iterator[Path]:
    """Yield mom's packages, which import modules late."""
    import mom_core
    import mom_daemon
    import mom_helper
    import mom_kvm
    import mom_plugins_host

    for package in (mom_core, mom_daemon, mom_helper, mom_kvm, mom_plugins_host):
        yield from Path(str(package.__file__)).parent.rglob("*.py")
