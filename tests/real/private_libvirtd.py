"""A libvirtd of the tests' own: own configuration, sockets, state and logs, so that the guests of whoever runs the tests are never touched.

As root it runs in mount and network namespaces of its own, in which /run, /etc/libvirt and /var/*/libvirt are folders of the test; the
guests are ordinary processes of this host. As another user it is a session libvirtd with XDG folders of its own.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from relay import Relay  # the folder of a test is on the path

from mom_kvm import Destination

PREFIX = "momtest-"
"""Every guest of the tests is named so."""

_LIBVIRTD_CONF = """auth_unix_ro = "none"
auth_unix_rw = "none"
"""

_QEMU_CONF = """user = "root"
group = "root"
security_driver = "none"
dynamic_ownership = 0
remember_owner = 0
stdio_handler = "file"
cgroup_controllers = [{controllers}]
namespaces = []
clear_emulator_capabilities = 0
"""

_ENTER = """set -e
# What is mounted here stays here. Where / is no mount (a plain chroot), that cannot be said for all of it: see _unmount_what_got_out.
private=; mount --make-rprivate / 2>&- && private=1 || ! grep -q '^[0-9]* [0-9]* [^ ]* [^ ]* / ' /proc/self/mountinfo
mount --bind "$1/run" /run
[ -z "$private" ] || { mkdir -p /run/hugepages && mount -t hugetlbfs hugetlbfs /run/hugepages; } || echo "no huge pages for guests"
for pair in etc:/etc/libvirt lib:/var/lib/libvirt log:/var/log/libvirt cache:/var/cache/libvirt; do
    mount --bind "$1/${pair%%:*}" "${pair#*:}"
done
# Where cgroups v1 are in use, libvirt takes the empty hierarchy of v2 for the one that is meant, wherever it is mounted too.
[ -z "$2" ] || ! mountpoint -q /sys/fs/cgroup/unified || while read -r _ path type _; do
    [ "$type" != cgroup2 ] || umount "$path"
done < /proc/mounts
busybox ip link set lo up || echo "no loopback: guests cannot be moved"
[ -z "$3" ] || . "$3"
exec libvirtd -f /etc/libvirt/libvirtd.conf --pid-file /run/libvirtd.pid
"""
_SYSTEM_FOLDERS = ("/etc/libvirt", "/var/lib/libvirt", "/var/log/libvirt", "/var/cache/libvirt")

_REAPER = Path(__file__).resolve().with_name("reaper.py")

_END_SECONDS = 10.0
"""For libvirtd after SIGTERM, and for what it has left."""

_KILLED_SECONDS = 60.0
"""For libvirtd after SIGKILL: one that waits for a disk ends when that answers."""

_START_SECONDS = 180.0
"""The first start asks QEMU for everything that it can do, which takes ten seconds; later ones find that in the cache."""


class CannotStart(Exception):
    """What is missing on this machine for a libvirtd of the tests' own."""


class PrivateLibvirtd:
    """Started by `start`; `stop` ends it and everything that it runs.

    :param controllers: the cgroup controllers that it uses for its guests: none, as a rule
    :param programs: a folder whose programs it finds before others of their names
    :param beside: another one, which runs; both are in one network, so that guests can be moved between them
    :param settings: what its libvirtd.conf says
    :param beforehand: a file of shell that runs, as root, in its namespaces before it starts
    """

    def __init__(
        self,
        cache: Path,
        host_uuid: str = "",
        controllers: Sequence[str] = (),
        programs: Path | None = None,
        beside: PrivateLibvirtd | None = None,
        settings: str = _LIBVIRTD_CONF,
        beforehand: Path | None = None,
    ) -> None:
        if shutil.which("libvirtd") is None or shutil.which("qemu-system-x86_64") is None:
            raise CannotStart("libvirtd or qemu-system-x86_64 is missing: apt-get install libvirt-daemon-system qemu-system-x86")
        _clear_up_after_others()
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir="/tmp"))  # a short path: sockets live below it
        self.folder.chmod(0o755)
        (self.folder / "owner").write_text(str(os.getpid()))
        self._system = os.geteuid() == 0
        self._reapers: list[subprocess.Popen[bytes]] = []
        self._log: IO[bytes] = (self.folder / "libvirtd.log").open("ab")
        for name in ("run/libvirt", "etc/qemu", "lib", "log", "config/libvirt"):
            (self.folder / name).mkdir(parents=True)
        kept = cache / "libvirt"
        kept.mkdir(parents=True, exist_ok=True)
        (self.folder / "cache").symlink_to(kept)
        host = f'host_uuid = "{host_uuid}"\n' if host_uuid else ""  # libvirt migrates to another host only
        (self.folder / "etc" / "libvirtd.conf").write_text(settings + host)
        (self.folder / "etc" / "qemu.conf").write_text(_QEMU_CONF.format(controllers=", ".join(f'"{name}"' for name in controllers)))
        self._controllers = controllers
        self._programs = programs
        self._beside = beside
        self._beforehand = beforehand
        self._relay: Relay | None = None

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self.folder / "run" / "libvirt" / "libvirt-sock"

    @property
    def uri(self) -> str:
        """How to reach it."""
        return f"qemu+unix:///{'system' if self._system else 'session'}?socket={self.socket}"

    def settings(self, **more: object) -> dict[str, object]:
        """Those of the plugin libvirt."""
        return {"uri": self.uri, "pid_directory": str(self.pid_folder), **more}

    @property
    def destination(self) -> Destination:
        """Where mom moves guests to, for those of the one that this is beside: by TCP, as sockets are none for mom."""
        self._relay = self._relay or Relay(self.socket)
        path = "/system" if self._system else "/session"
        return Destination.parse(f"qemu+tcp://127.0.0.1:{self._relay.port}{path} tcp://127.0.0.1")

    @property
    def pid_folder(self) -> Path:
        """Where it keeps its guests' process ids."""
        return self.folder / "run" / "libvirt" / "qemu" / ("" if self._system else "run")

    @property
    def pid(self) -> int:
        """Its process id."""
        return int(self._pid_file.read_text())

    @property
    def _pid_file(self) -> Path:
        return self.folder / "libvirtd.pid"

    @property
    def _runs(self) -> bool:
        """Whether it is there; what ended is reaped at once."""
        return self._pid_file.exists() and Path(f"/proc/{self.pid}").exists()

    def start(self) -> None:
        """Start it, or start it again; returns when it answers. Raises `CannotStart` with what its log says."""
        if self._system:
            for folder in _SYSTEM_FOLDERS:
                Path(folder).mkdir(parents=True, exist_ok=True)
            network = ["unshare", "--net"] if self._beside is None else ["nsenter", f"--net=/proc/{self._beside.pid}/ns/net"]
            command = [*network, "unshare", "--mount", "--propagation", "unchanged", "sh", "-c", _ENTER, "sh", str(self.folder)]
            command += ["cgroups" if self._controllers else "", str(self._beforehand or "")]
            environment = dict(os.environ)
        else:
            command = ["libvirtd", "-f", str(self.folder / "etc" / "libvirtd.conf")]
            folders = {"RUNTIME_DIR": "run", "CONFIG_HOME": "config", "CACHE_HOME": "cache", "DATA_HOME": "lib"}
            environment = {**os.environ, **{f"XDG_{name}": str(self.folder / folder) for name, folder in folders.items()}}
        if self._programs is not None:
            environment["PATH"] = f"{self._programs}:{environment['PATH']}"
        self._pid_file.unlink(missing_ok=True)
        command = [sys.executable, str(_REAPER), str(self._pid_file), *command]
        self._reapers.append(subprocess.Popen(command, env=environment, stdout=self._log, stderr=self._log, start_new_session=True))
        end = time.monotonic() + _START_SECONDS
        while not self._answers():
            ended = self._reapers[-1].poll() is not None or (self._pid_file.exists() and not self._runs)
            if ended or time.monotonic() > end:
                raise CannotStart(f"libvirtd does not start: {(self.folder / 'libvirtd.log').read_text()[-2000:]}")
            time.sleep(0.1)

    def kill(self) -> None:
        """End it without warning; its guests go on. Fails if it outlives that: whoever goes on would meet it somewhere else."""
        pid = self.pid
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        if not self._wait_for_its_end(_KILLED_SECONDS):
            raise AssertionError(f"libvirtd (process {pid}) still runs {_KILLED_SECONDS:g} s after SIGKILL; its threads: {_threads(pid)}")

    def _wait_for_its_end(self, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while self._runs and time.monotonic() < end:
            time.sleep(0.02)
        return not self._runs

    def stop(self) -> None:
        """End the guests, then libvirtd, and remove its folder; fails, after all that, if libvirtd cannot be ended."""
        with suppress(Exception):  # whatever state a test left it in
            self._destroy_guests()
        try:
            if self._runs:
                with suppress(ProcessLookupError):
                    os.kill(self.pid, signal.SIGTERM)
                if not self._wait_for_its_end(_END_SECONDS):
                    self.kill()
        finally:
            self._clean_up()

    def _clean_up(self) -> None:
        if self._relay is not None:
            self._relay.close()
        self._log.close()
        self._unmount_what_got_out()
        _remove(self.folder)
        for reaper in self._reapers:
            try:
                reaper.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:  # something is left below it that does not end
                reaper.kill()
                reaper.wait()

    def _unmount_what_got_out(self) -> None:
        """Folders that were mounted in the namespace of libvirtd are mounted outside of it too where that could not be prevented."""
        for mount in Path("/proc/self/mountinfo").read_text().splitlines():
            source, target = mount.split()[3:5]
            if f"{self.folder}/" in source:
                subprocess.run(["umount", "--lazy", target], check=False)

    def _answers(self) -> bool:
        libvirt = _binding()
        if not self.socket.exists():
            return False
        try:
            connection = libvirt.open(self.uri)
            connection.getCapabilities()  # asks QEMU now, rather than in the first call of a test
            connection.close()
        except libvirt.libvirtError:
            return False
        return True

    def _destroy_guests(self) -> None:
        connection = _binding().open(self.uri)
        for domain in connection.listAllDomains():
            with suppress(Exception):  # it may have ended by itself
                domain.destroy()
        connection.close()


def _binding() -> Any:
    import libvirt  # type: ignore[import-untyped]  # it has no types

    libvirt.registerErrorHandler(lambda *arguments: None, None)
    return libvirt


def _threads(pid: int) -> str:
    """What the threads of a process are doing: their states, and where in the kernel they wait."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            state = (task / "stat").read_text().rpartition(")")[2].split()[0]
            found.append(f"{state} {(task / 'wchan').read_text()}")
    return ", ".join(found)


def _clear_up_after_others() -> None:
    """End what test runs have left that were killed."""
    for owner in Path("/tmp").glob(f"{PREFIX}*/owner"):
        with suppress(OSError, ValueError):
            if not Path(f"/proc/{int(owner.read_text())}").exists():
                _remove(owner.parent)


def _remove(folder: Path) -> None:
    """Remove a private libvirtd's folder, and kill its processes first, should there be any."""
    for file in [*folder.glob("run/libvirt/qemu/**/*.pid"), *folder.glob("run/**/libvirtd.pid")]:
        with suppress(OSError, ValueError):
            pid = int(file.read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            if PREFIX.encode() in command or command.startswith(b"libvirtd\0"):
                os.kill(pid, signal.SIGCONT)
                os.kill(pid, signal.SIGKILL)
    (folder / "cache").unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
