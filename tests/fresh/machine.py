"""Fresh Debian with systemd as process 1, in its own namespaces, with the host's kernel and network.

In tests of the package, mom changes plain files (KSM_FILES) instead of the host's kernel.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

PACKAGES: Final = ("systemd", "systemd-sysv", "dbus", "python3", "ca-certificates", "git", "sudo")
"""Packages in addition to a minimal Debian: those of any installation, and those for a clone."""
KSM_FILES: Final = {
    "run": 0, "pages_to_scan": 100, "sleep_millisecs": 20, "merge_across_nodes": 1, "pages_shared": 0, "pages_sharing": 0, "full_scans": 0,
}  # fmt: skip
CGROUPS: Final = Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup")
"""Possible paths of the host's control groups (version 2): beside those of version 1, or alone."""

# Control groups are mounted again in their namespace, so that this systemd sees its own as the root. The host's /sys is readable.
_BOOT: Final = """
set -e
mount --bind "$1" "$1"
cd "$1"
mount -t proc proc proc
mount --rbind /sys sys
umount -R sys/fs/cgroup
mount -t cgroup2 cgroup2 sys/fs/cgroup
[ "$2" = kernel ] || mount --bind srv/ksm sys/kernel/mm/ksm
mount -t tmpfs -o mode=755 tmpfs dev
for name in null zero full random urandom tty; do cp -a /dev/$name dev/; done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs -o mode=1777 tmpfs dev/shm
mount -t tmpfs -o mode=755 tmpfs run
mkdir run/host
pivot_root . run/host
umount -l /run/host
rmdir /run/host
export container=fresh
exec /lib/systemd/systemd --system --log-target=console --show-status=no --unit=multi-user.target
"""


class Machine:
    """Machine made of a release's packages in a folder."""

    def __init__(self, release: str, cache: Path) -> None:
        self.release = release
        self.folder = cache / release
        self.packed = cache / f"{release}.tar"
        self.log = cache / f"{release}.log"
        self._pid = 0

    def make(self) -> None:
        """Install Debian. The archive remains for the next time."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        if not self.packed.exists():
            say(f"debootstrap {self.release}")
            command = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", self.release, str(self.folder)]
            with self.log.open("w") as log:
                subprocess.run(command, stdout=log, stderr=log, check=True, timeout=1800)
            packing = self.packed.with_suffix(".part")
            subprocess.run(["tar", "--numeric-owner", "-C", self.folder, "-cf", packing, "."], check=True, timeout=600)
            packing.rename(self.packed)
        else:
            subprocess.run(["tar", "--numeric-owner", "-C", self.folder, "-xpf", self.packed], check=True, timeout=600)
        self._reach_what_the_host_reaches()
        knobs = self.folder / "srv/ksm"
        knobs.mkdir()
        for name, value in KSM_FILES.items():
            (knobs / name).write_text(f"{value}\n")

    def _reach_what_the_host_reaches(self) -> None:
        """Copy the host's settings for names, certificates and package sources."""
        for name in ("resolv.conf", "hosts", "pip.conf"):
            if Path("/etc", name).exists():
                shutil.copy(Path("/etc", name), self.folder / "etc" / name)
        shutil.rmtree(self.folder / "etc/ssl/certs")
        shutil.copytree("/etc/ssl/certs", self.folder / "etc/ssl/certs")
        for path in Path("/etc/apt/apt.conf.d").iterdir():
            # A file of a package would block installing that package.
            if subprocess.run(["dpkg-query", "--search", path], capture_output=True, check=False, timeout=60).returncode:
                shutil.copy(path, self.folder / "etc/apt/apt.conf.d" / path.name)

    @contextmanager
    def boot(self, ksm: Literal["files", "kernel"]) -> Iterator[None]:
        """Run the machine until the end of the block. Then kill it."""
        cgroups = next(path for path in CGROUPS if (path / "cgroup.controllers").exists())
        group = cgroups / f"momfresh-{os.getpid()}-{time.monotonic_ns()}"
        group.mkdir()
        join = f"echo $$ > {group}/cgroup.procs && exec "
        unshare = f"unshare -m -p -f -C -u -i --kill-child --propagation private sh -c '{_BOOT}' sh {self.folder} {ksm}"
        with self.log.open("a") as log:
            process = subprocess.Popen(
                ["sh", "-c", join + unshare], stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        try:
            self._wait_until_it_runs(process)
            yield
        finally:
            if self._pid:
                subprocess.run(["kill", "-9", str(self._pid)], check=False)  # ends all its processes
            process.kill()
            process.wait(60)
            self._pid = 0
            _remove(group)

    def _wait_until_it_runs(self, process: subprocess.Popen[bytes]) -> None:
        until = time.monotonic() + 120
        while time.monotonic() < until and process.poll() is None:
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            self._pid = int((children.read_text().split() or ["0"])[0])
            if self._pid and self.run("systemctl", "is-system-running", may_fail=True).strip() in {"running", "degraded"}:
                return
            time.sleep(0.2)
        raise SystemExit(f"{self.release} does not boot: see {self.log}")

    def run(self, *words: str, may_fail: bool = False, seconds: float = 900) -> str:
        """Return a command's output and standard error. If the command fails, end the session, unless `may_fail`."""
        done = self.start(*words, seconds=seconds)
        if done.returncode and not may_fail:
            raise SystemExit(f"{self.release}: {' '.join(words)} ended with {done.returncode}:\n{done.stdout[-4000:]}")
        return done.stdout

    def start(self, *words: str, seconds: float = 900) -> subprocess.CompletedProcess[str]:
        """Run a command as root in the machine, with a login's environment. Of the host's, only paths of certificates are set."""
        environment = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
            "LANG": "C.UTF-8",
            "TERM": "dumb",
            "DEBIAN_FRONTEND": "noninteractive",
            **{name: value for name, value in os.environ.items() if name in {"PIP_CERT", "SSL_CERT_FILE", "PIP_DEFAULT_TIMEOUT"}},
        }
        enter = ["nsenter", "-t", str(self._pid), "-m", "-p", "-C", "-u", "-i", "-r", "-w", "--"]
        return subprocess.run(
            [*enter, *words],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )

    def knob(self, name: str = "run") -> int:
        """Return the value of a KSM file."""
        while not (text := (self.folder / "srv/ksm" / name).read_text()):
            time.sleep(0.001)  # another process is writing it
        return int(text)


def say(text: str) -> None:
    """Print the next step."""
    print(f"fresh: {text}", flush=True)


def _remove(group: Path) -> None:
    for folder in sorted([*group.rglob("*"), group], key=lambda path: len(path.parts), reverse=True):
        for _ in range(50):
            try:
                if folder.is_dir():
                    folder.rmdir()
                break
            except OSError:
                time.sleep(0.1)
