"""systemd for tests: process 1 of its own namespaces, with only the given units."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import pytest

import mom_helper

SYSTEMD = Path("/lib/systemd/systemd")

_SHIPPED = Path(__file__).parents[2] / "packaging"

_TARGETS = ("default", "basic", "sysinit", "shutdown", "multi-user", "sockets")

_CGROUPS = Path("/sys/fs/cgroup")
_HIERARCHIES = ("systemd", "unified", "memory", "pids")

MOM = 5
"""ID of user and group `mom` in these namespaces. It is that of Debian's `games`, because a libvirtd outside must know it."""

_ELSEWHERE = """[Service]
PrivateTmp=no
ProtectHome=no
StandardOutput=append:{folder}/log
StandardError=append:{folder}/log"""

# Control groups are mounted again in their namespace, so that this systemd sees only its own, as the root.
_BOOT = """
set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system /run/lock
mount -t tmpfs tmpfs /sys/fs/cgroup
mkdir /sys/fs/cgroup/systemd /sys/fs/cgroup/unified
mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd
mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified
. "$2"
export container=test SYSTEMD_UNIT_PATH="$1"
exec /lib/systemd/systemd --system --log-target=console --show-status=no
"""


class CannotStart(Exception):
    """This host cannot run a second systemd."""


class OwnSystemd:
    """systemd with a folder of units."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.units = folder / "units"
        self._process: subprocess.Popen[bytes] | None = None
        self._pid = 0
        self._groups: list[Path] = []

    def start(self) -> None:
        if os.geteuid() != 0 or not SYSTEMD.exists() or shutil.which("unshare") is None:
            raise CannotStart("it needs root, systemd and unshare")
        if Path("/proc/1/comm").read_text().strip() == "systemd":
            raise CannotStart("this host has a systemd, which is not to be disturbed")
        if not (_CGROUPS / "systemd").is_dir():
            raise CannotStart("control groups are not those that this is written for")
        self.units.mkdir(exist_ok=True)
        for target in _TARGETS:
            (self.units / f"{target}.target").write_text("[Unit]\nDescription=nothing\n")
        # A new name. Otherwise, a group that could not be removed would block this one.
        name = f"momtest-{os.getpid()}-{time.monotonic_ns()}"
        self._groups = [_CGROUPS / hierarchy / name for hierarchy in _HIERARCHIES if (_CGROUPS / hierarchy).is_dir()]
        script = self.folder / "boot.sh"
        join = "".join(f"mkdir {group} && echo $$ > {group}/cgroup.procs\n" for group in self._groups)
        script.write_text(
            f"{join}exec unshare -m -p -f -C -u -i --kill-child --mount-proc --propagation private"
            f" sh -c '{_BOOT}' sh {self.units} {self.folder}/seen.sh\n"
        )
        (self.folder / "seen.sh").write_text("\n".join(self._what_mom_sees()))
        with (self.folder / "systemd.log").open("wb") as log:
            self._process = subprocess.Popen(["sh", script], stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
        until = time.monotonic() + 60
        while time.monotonic() < until and self._process.poll() is None:
            self._pid = self._child()
            if self._pid and self.systemctl("is-system-running").stdout.strip() in {"running", "degraded"}:
                return
            time.sleep(0.1)
        log_text = (self.folder / "systemd.log").read_text(errors="replace")
        self.stop()
        raise CannotStart(f"systemd does not come up in namespaces of its own: {log_text[-500:]}")

    def _what_mom_sees(self) -> Iterator[str]:
        """Return shell lines that create user mom, and give it access to this checkout and its interpreter, also below a private folder
        such as /root.
        """
        for name, line in (("passwd", f"mom:x:{MOM}:{MOM}::/:/usr/sbin/nologin\n"), ("group", f"mom:x:{MOM}:\n")):
            others = [one for one in Path("/etc", name).read_text().splitlines(keepends=True) if one.split(":")[2] != str(MOM)]
            (self.folder / name).write_text("".join([*others, line]))
            (self.folder / name).chmod(0o644)
            yield f"mount --bind {self.folder / name} /etc/{name}"
        (self.folder / "lib").mkdir(exist_ok=True)
        yield f"mount --bind {self.folder}/lib /var/lib"
        needed = dict.fromkeys((_SHIPPED.parent, Path(sys.prefix), Path(sys.base_prefix)))
        closed = next((path for need in needed for path in reversed(need.parents) if not path.stat().st_mode & 0o001), None)
        if closed is not None:
            below = [path for path in needed if path.is_relative_to(closed)]
            yield from (f"mkdir -p /run/kept/{number} && mount --bind {path} /run/kept/{number}" for number, path in enumerate(below))
            yield f"mount -t tmpfs -o mode=755 tmpfs {closed}"
            yield from (f"mkdir -p {path} && mount --bind /run/kept/{number} {path}" for number, path in enumerate(below))

    def add_moms_units(self, config: Path, *more: str, libvirt_uri: str = "", spans: Mapping[str, str] = MappingProxyType({})) -> None:
        """Add the shipped units, with the tested programs and this configuration. A drop-in has other paths, and these lines.

        `helper.d` has the helper's declarations. Units see the folder `lib` as /var/lib.

        :param libvirt_uri: empty for no mom-libvirt-helper
        :param spans: shorter times that replace the shipped ones, such as `WatchdogSec=20s`
        """
        drop_in = "\n".join([_ELSEWHERE.format(folder=self.folder), *more, ""])
        helper = f"{sys.executable} -I -S {Path(mom_helper.__file__).parent}"
        libvirts = helper.replace(" -S", "")
        replaced = {
            "/opt/mom/bin/python3 -I -m mom_helper serve-libvirt": f"{libvirts} serve-libvirt --uri {libvirt_uri}",
            "/opt/mom/bin/python3 -I -m mom_helper serve": f"{helper} serve --declarations {self.folder}/helper.d",
            "/opt/mom/bin/python3 -I -m mom_helper": helper,
            "/opt/mom/bin/mom": str(Path(sys.executable).parent / "mom"),
            "/etc/mom/mom.yaml": str(config),
            **spans,
        }
        for folder in (self.units, self.folder / "helper.d"):
            folder.mkdir()
        helpers = ["mom-helper", *(["mom-libvirt-helper"] if libvirt_uri else [])]
        for name in helpers:
            shutil.copy(_SHIPPED / f"{name}.socket", self.units)
        for name in ("mom", "mom-restore", *helpers):
            text = (_SHIPPED / f"{name}.service").read_text()
            for shipped, tested in replaced.items():
                text = text.replace(shipped, tested)
            (self.units / f"{name}.service").write_text(text)
            (self.units / f"{name}.service.d").mkdir()
            (self.units / f"{name}.service.d/here.conf").write_text(drop_in)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run systemd until the end of the block. Skip the test if this host cannot."""
        try:
            self.start()
        except CannotStart as error:
            pytest.skip(str(error))
        try:
            yield
        finally:
            self.stop()

    def _child(self) -> int:
        assert self._process is not None
        path = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        try:
            return int((path.read_text().split() or ["0"])[0])
        except OSError:
            return 0

    def run(self, *words: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command in its namespaces."""
        command = ["nsenter", "-t", str(self._pid), "-m", "-p", "-C", "-u", "-i", "--", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)

    def systemctl(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.run("systemctl", "--no-pager", *words)

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        done = self.systemctl("show", unit, *(f"--property={name}" for name in properties))
        return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)

    def stop(self) -> None:
        """Kill systemd, and with it all its processes."""
        if self._process is not None:
            if self._pid:
                subprocess.run(["kill", "-9", str(self._pid)], check=False)
            self._process.kill()
            self._process.wait(60)
        time.sleep(0.2)
        for group in self._groups:
            for folder in sorted(group.rglob("*"), key=lambda path: len(path.parts), reverse=True):
                if folder.is_dir():
                    _remove(folder)
            _remove(group)


def _remove(folder: Path) -> None:
    for _ in range(20):
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.05)
        else:
            return
