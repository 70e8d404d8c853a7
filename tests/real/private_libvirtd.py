"""Private libvirtd with its own configuration, sockets, state and logs. Tests never touch other guests of this machine.

As root, it runs in its own mount and network namespaces, with test folders as /run, /etc/libvirt and /var/*/libvirt. Guests are ordinary
processes of this host. As another user, it is a session libvirtd with its own XDG folders.
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

from relay import Relay  # pytest adds this folder to the path

from mom_kvm import Destination

PREFIX = "momtest-"
"""Prefix of all guests' names."""

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
"""Time limit for libvirtd after SIGTERM, and for its remaining processes."""

_KILLED_SECONDS = 60.0
"""Time limit for libvirtd after SIGKILL. A process that waits for a disk ends when the disk answers."""

_START_SECONDS = 180.0
"""Time limit for a start. The first start probes QEMU for ten seconds; later ones use the cache."""


class CannotStart(Exception):
    """This machine cannot run a private libvirtd."""


class PrivateLibvirtd:
    """Private libvirtd. `start` starts it; `stop` ends it and all its processes.

    :param controllers: cgroup controllers for its guests, usually none
    :param programs: folder that comes first in its PATH
    :param beside: another running libvirtd in the same network, so that guests can be moved between them
    :param settings: lines of libvirtd.conf
    :param beforehand: shell script that runs in its namespaces as root before the start
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
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir="/tmp"))  # a short path, because paths of sockets are limited
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
        host = f'host_uuid = "{host_uuid}"\n' if host_uuid else ""  # libvirt migrates only to another host
        (self.folder / "etc" / "libvirtd.conf").write_text(settings + host)
        (self.folder / "etc" / "qemu.conf").write_text(_QEMU_CONF.format(controllers=", ".join(f'"{name}"' for name in controllers)))
        self._controllers = controllers
        self._programs = programs
        self._beside = beside
        self._beforehand = beforehand
        self._relay: Relay | None = None

    @property
    def socket(self) -> Path:
        """Path of its socket."""
        return self.folder / "run" / "libvirt" / "libvirt-sock"

    @property
    def uri(self) -> str:
        """URI of its socket."""
        return f"qemu+unix:///{'system' if self._system else 'session'}?socket={self.socket}"

    def settings(self, **more: object) -> dict[str, object]:
        """Return settings of the plugin libvirt."""
        return {"uri": self.uri, "pid_directory": str(self.pid_folder), **more}

    @property
    def destination(self) -> Destination:
        """Destination of migrations to this libvirtd. It uses TCP, because mom does not migrate through sockets."""
        self._relay = self._relay or Relay(self.socket)
        path = "/system" if self._system else "/session"
        return Destination.parse(f"qemu+tcp://127.0.0.1:{self._relay.port}{path} tcp://127.0.0.1")

    @property
    def pid_folder(self) -> Path:
        """Folder of guests' pid files."""
        return self.folder / "run" / "libvirt" / "qemu" / ("" if self._system else "run")

    @property
    def pid(self) -> int:
        """Pid of libvirtd."""
        return int(self._pid_file.read_text())

    @property
    def _pid_file(self) -> Path:
        return self.folder / "libvirtd.pid"

    @property
    def _runs(self) -> bool:
        """Return whether libvirtd runs. Ended processes are reaped at once."""
        return self._pid_file.exists() and Path(f"/proc/{self.pid}").exists()

    def start(self) -> None:
        """Start or restart libvirtd, and wait until it answers. Raise `CannotStart` with its log."""
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
        """Kill libvirtd. Guests continue. Fail if it does not end, because later tests would find it."""
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
        """End guests and libvirtd, and remove the folder. Then fail if libvirtd has not ended."""
        with suppress(Exception):  # in any state
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
            except subprocess.TimeoutExpired:  # a process below it does not end
                reaper.kill()
                reaper.wait()

    def _unmount_what_got_out(self) -> None:
        """Unmount folders that a mount in libvirtd's namespace has also mounted outside."""
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
            connection.getCapabilities()  # probe QEMU now, not in the first call of a test
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
    """Return states of a process's threads, and where in the kernel they wait."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            state = (task / "stat").read_text().rpartition(")")[2].split()[0]
            found.append(f"{state} {(task / 'wchan').read_text()}")
    return ", ".join(found)


def _clear_up_after_others() -> None:
    """End processes of earlier, killed test runs."""
    for owner in Path("/tmp").glob(f"{PREFIX}*/owner"):
        with suppress(OSError, ValueError):
            if not Path(f"/proc/{int(owner.read_text())}").exists():
                _remove(owner.parent)


def _remove(folder: Path) -> None:
    """Kill the processes of a private libvirtd, and remove its folder."""
    for file in [*folder.glob("run/libvirt/qemu/**/*.pid"), *folder.glob("run/**/libvirtd.pid")]:
        with suppress(OSError, ValueError):
            pid = int(file.read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            if PREFIX.encode() in command or command.startswith(b"libvirtd\0"):
                os.kill(pid, signal.SIGCONT)
                os.kill(pid, signal.SIGKILL)
    (folder / "cache").unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
