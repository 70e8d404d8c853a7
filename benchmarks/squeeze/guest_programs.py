#!/usr/bin/python3
"""Run PostgreSQL, Redis or builds inside a Debian guest of the mix `programs`, at a fixed rate, and measure them.

The kernel's command line names the role, `momtest.role=database|cache|build`, and the load (see mixes.yaml),
`momtest.demand=BEGIN,BASE,BURST,PERIOD,DUTY,PHASE,…`. Each second, this program prints the line of tests/real/demand.c, and the
latencies measured since the last line, in ms.
"""

import os
import re
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

PGBENCH_RATE = 10
"""Transactions per second; with more, emulated CPUs have too little time to spare."""
STALL_MS = 1000.0
"""A second in which transactions took longer than this on average, or none ended, is lost work."""
PGBENCH = f"pgbench -n -M prepared -c 4 -R {PGBENCH_RATE} -T 100000 -P 1 -l -b select-only@4 -b simple-update@1 postgres"
SETTINGS = "listen_addresses = ''\nsynchronous_commit = off\nshared_buffers = "
"""Commits do not wait for the host's disk."""
WARM = "SELECT pg_prewarm(oid::regclass) FROM pg_class WHERE relname LIKE 'pgbench_accounts%'"
SORT = """SET work_mem = '1GB';
SELECT count(*) FROM (SELECT repeat(md5(i::text), 62) AS line FROM generate_series(1, :rows) AS i ORDER BY line OFFSET 1) AS sorted;
"""
"""Rows of 2 KiB: an emulated CPU takes too long to sort as much in narrow ones."""
ROWS_PER_MIB = 512

SLOT = 0.05
"""Seconds between two measured requests to Redis; a request that takes longer is lost work."""
VALUE = 8000
"""Bytes of a value; it takes 8 KiB in Redis."""
VALUES_PER_MIB = 128
"""So many are written at once; bursts grow by this much in each slot."""

XZ_MIB = 6
"""MiB that each build compresses."""

OFFSETS = {"database": 0, "cache": 13, "build": 26}
"""Seconds by which the bursts of each role come later."""


class Load:
    """What all roles have: latencies not printed yet, slots of 100 ms done in time, failed programs, and the running jobs of a burst."""

    def __init__(self) -> None:
        self.latencies: list[tuple[str, float]] = []
        self.met = 0
        self.failed: set[str] = set()
        self._jobs: list[tuple[str, str]] = []
        self._job: subprocess.Popen[bytes] | None = None
        self._since = 0.0

    def begin(self, *jobs: tuple[str, str]) -> None:
        """Run shell commands one after the other, and measure each; a name precedes each."""
        self._jobs += jobs

    @property
    def busy(self) -> bool:
        """Whether a job still runs or waits."""
        return bool(self._job or self._jobs)

    def follow(self, seconds: float = 1.0) -> None:
        """Wait; meanwhile start jobs, and record those that end."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if self._job is None and self._jobs:
                self._since = time.monotonic()
                self._job = subprocess.Popen(["/bin/sh", "-c", self._jobs[0][1]])
            if self._job is None:
                time.sleep(left)
                continue
            with suppress(subprocess.TimeoutExpired):
                code = self._job.wait(left)
                name, _ = self._jobs.pop(0)
                self.latencies.append((name, 1000 * (time.monotonic() - self._since)))
                self.failed |= {name} if code else set()
                self._job = None


class Database(Load):
    """pgbench at a fixed rate, and a large sort in each burst."""

    def __init__(self, base: int, burst: int) -> None:
        super().__init__()
        for folder in Path("/etc/postgresql").glob("*/main/conf.d"):
            (folder / "squeeze.conf").write_text(f"{SETTINGS}{base}MB\n")
        subprocess.run(["systemctl", "start", "postgresql"], check=True)
        subprocess.run(["psql", "-q", "postgres", "-c", WARM], check=True, user="postgres", stdout=subprocess.DEVNULL)
        Path("/tmp/sort.sql").write_text(SORT)
        self._sort = f"runuser -u postgres -- psql -q -v rows={burst * ROWS_PER_MIB} -f /tmp/sort.sql postgres > /dev/null"
        self._pgbench = subprocess.Popen(PGBENCH.split(), cwd="/tmp", user="postgres", group="postgres", stderr=subprocess.PIPE)
        assert self._pgbench.stderr is not None
        self._progress = self._pgbench.stderr
        os.set_blocking(self._progress.fileno(), False)
        self._log = 0
        self._rest = b""

    def step(self, bursts: bool, begins: bool) -> None:
        """Follow pgbench for a second."""
        if begins and not self.busy:
            self.begin(("sort", self._sort))
        self.follow()
        self.failed |= {"pgbench"} if self._pgbench.poll() is not None else set()
        for mean in re.findall(rb"lat ([\d.]+) ms", self._progress.read() or b""):
            self.met += 10 * (0 < float(mean) < STALL_MS)  # 0: none ended
        for path in Path("/tmp").glob("pgbench_log.*"):
            with path.open("rb") as file:
                file.seek(self._log)
                new = file.read()
            self._log += len(new)
            *lines, self._rest = (self._rest + new).split(b"\n")
            self.latencies += [("pgbench", int(line.split()[2]) / 1000) for line in lines]


class Cache(Load):
    """Redis with random values, requests at a fixed rate, and more values during bursts."""

    def __init__(self, base: int, burst: int) -> None:
        super().__init__()
        subprocess.run(["systemctl", "start", "redis-server"], check=True)
        self._redis, self._extra = (socket.create_connection(("127.0.0.1", 6379)) for _ in range(2))
        self._ask(self._extra, b"SELECT 1\r\n")
        self._values, self._most, self._grown = base * VALUES_PER_MIB, burst * VALUES_PER_MIB, 0
        for first in range(0, self._values, VALUES_PER_MIB):
            self._fill(self._redis, first)
        self._slot = time.monotonic()

    def step(self, bursts: bool, begins: bool) -> None:
        """Send the requests of a second."""
        for number in range(round(1 / SLOT)):
            self._slot += SLOT
            time.sleep(max(0.0, self._slot - time.monotonic()))
            key = b"key:%d" % (int.from_bytes(os.urandom(4), "little") % self._values)
            if number % 5:
                self._ask(self._redis, b"GET %s\r\n" % key)
            else:
                self._ask(self._redis, _set(key, os.urandom(VALUE)))
            took = time.monotonic() - self._slot
            self.latencies.append(("redis", 1000 * took))
            self.met += number % 2 and took < SLOT
            if bursts and self._grown < self._most:
                self._fill(self._extra, self._grown)
                self._grown += VALUES_PER_MIB
        if not bursts and self._grown:
            self._ask(self._extra, b"FLUSHDB ASYNC\r\n")
            self._grown = 0

    def _fill(self, redis: socket.socket, first: int) -> None:
        values = range(first, first + VALUES_PER_MIB)
        redis.sendall(b"".join(_set(b"key:%d" % value, os.urandom(VALUE)) for value in values))
        answers = b""
        while answers.count(b"\n") < len(values):
            answers += _received(redis)

    def _ask(self, redis: socket.socket, command: bytes) -> None:
        redis.sendall(command)
        answer = b""
        while not answer.endswith(b"\r\n") or (answer.startswith(b"$") and len(answer) < VALUE):
            answer += _received(redis)


def _received(redis: socket.socket) -> bytes:
    """Return what Redis answers. Raise `ConnectionError` if it has ended."""
    if not (answer := redis.recv(65536)):
        raise ConnectionError("Redis has ended")
    return answer


def _set(key: bytes, value: bytes) -> bytes:
    return b"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n" % (len(key), key, len(value), value)


class Build(Load):
    """In each burst, read files, pack some in memory, and compress a part of that. Work is lost while a build is overdue."""

    def __init__(self, base: int, burst: int) -> None:
        super().__init__()
        self._build = [
            ("walk", f"find /usr /var -xdev -type f -exec cat {{}} + 2> /dev/null | head -c {base}M > /dev/null"),
            ("pack", f"cd /usr && tar -c lib share bin | head -c {burst}M > /dev/shm/tree"),
            ("xz", f"tail -c {XZ_MIB}M /dev/shm/tree | xz -T1 > /dev/shm/tree.xz"),
            ("clean", "rm /dev/shm/tree*"),
        ]
        self._overdue = False

    def step(self, bursts: bool, begins: bool) -> None:
        """Follow the build for a second."""
        if begins:
            self._overdue = self.busy
            if not self._overdue:
                self.begin(*self._build)
        self.follow()
        self._overdue = self._overdue and self.busy
        self.met += 0 if self._overdue else 10


LOADS: dict[str, type[Database | Cache | Build]] = {"database": Database, "cache": Cache, "build": Build}


def fields(path: str) -> dict[str, int]:
    """Return the numbers in a file of /proc by their names."""
    return {name.rstrip(":"): int(value) for name, value, *_ in map(str.split, Path(path).read_text().splitlines())}


def main() -> None:
    """Run the load until the guest ends."""
    words = dict(word.partition("=")[::2] for word in Path("/proc/cmdline").read_text().split())
    role = words["momtest.role"]
    begin, base, burst, period, duty, phase = map(int, words["momtest.demand"].split(",")[:6])
    if mib := words.get("momtest.zram"):
        subprocess.run(["modprobe", "zram"], check=True)
        Path("/sys/block/zram0/disksize").write_text(f"{mib}M")
        subprocess.run(["mkswap", "-q", "/dev/zram0"], check=True)
        subprocess.run(["swapon", "/dev/zram0"], check=True)
    load = LOADS[role](base, burst)
    began = time.monotonic()
    bursts = False
    while True:
        since = time.time() - begin
        before, bursts = bursts, since >= 0 and (since + phase - OFFSETS[role]) % period < period * duty / 100
        try:
            load.step(bursts, bursts and not before)
        except OSError:  # the kernel has killed Redis
            load.failed.add("redis")
            time.sleep(1.0)
        memory = fields("/proc/meminfo")
        swap = memory["SwapTotal"] - memory["SwapFree"]
        held = (memory["AnonPages"] + memory["Shmem"] + swap) >> 10
        for program in {program for program, _ in load.latencies}:
            print("PROGRAM", program, ",".join(f"{ms:.1f}" for name, ms in load.latencies if name == program))
        load.latencies.clear()
        print(
            f"DEMAND {since:.1f} held={held} lost=0.0 filled=0.00 kills={len(load.failed)} ran={time.monotonic() - began:.1f}"
            f" met={load.met} bursts=0 swap={swap} oom={fields('/proc/vmstat')['oom_kill']} took=",
            flush=True,
        )


if __name__ == "__main__":
    main()
