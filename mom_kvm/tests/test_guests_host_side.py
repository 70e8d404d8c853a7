"""The host's figures of its guests, from folders like /proc and /sys/fs/cgroup."""

import mmap
from dataclasses import dataclass
from pathlib import Path

import pytest
from smaps_texts import mapping, ram

from mom_core import Value
from mom_kvm import HostSide
from mom_kvm.host_side import MappedMemory

SCOPE = "/machine.slice/machine-qemu\\x2d1\\x2dweb.scope"
PRESSURE = "some avg10=12.34 avg60=1.00 avg300=0.00 total=99\nfull avg10=5.00 avg60=0.00 avg300=0.00 total=9\n"


@dataclass
class HostFiles:
    """Files of a host, and the plugin's fields from them."""

    root: Path
    now: float = 100.0

    def __post_init__(self) -> None:
        (self.root / "pids").mkdir()
        (self.root / "sys/fs/cgroup").mkdir(parents=True)
        v1 = (f"32 24 0:29 / /sys/fs/cgroup/{name} rw - cgroup cgroup rw,{name}" for name in ("memory", "cpu,cpuacct"))
        self.mount("31 24 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw", *v1)
        self.side = HostSide(self.found, self.root, lambda: self.now)

    def mount(self, *lines: str) -> None:
        (self.root / "proc/self").mkdir(parents=True, exist_ok=True)
        (self.root / "proc/self/mountinfo").write_text("\n".join(lines) + "\n")

    def found(self, name: str, uuid: str) -> int | None:
        """Return the pid of a guest like a hypervisor: only a process with this guest counts."""
        file = self.root / "pids" / f"{name}.pid"
        pid = int(file.read_text()) if file.exists() else 0
        command = self.root / "proc" / str(pid) / "cmdline"
        return pid if command.exists() and uuid.encode() in command.read_bytes() else None

    def process(
        self, pid: int, name: str = "web", *, started: int = 99, group: str = f"0::{SCOPE}/libvirt/emulator", huge: int | None = None
    ) -> Path:
        folder = self.root / "proc" / str(pid)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cmdline").write_bytes(b"\0".join([b"qemu", b"-uuid", f"uuid-of-{name}".encode(), b""]))
        (folder / "status").write_text("Name:\tqemu\nVmSwap:\t     2048 kB\n")
        (folder / "ksm_stat").write_text("ksm_merging_pages 256\nksm_process_profit 1048576\n")
        (folder / "cgroup").write_text(f"{group}\n")
        if huge is not None:
            (folder / "smaps").write_text(mapping(9, 9, huge=huge))
        (self.root / "pids" / f"{name}.pid").write_text(str(pid))
        self.count(pid, started=started)
        return folder

    def count(self, pid: int, *, minor: int = 0, major: int = 0, ticks: int = 0, started: int = 99, pages: int = 2) -> None:
        text = f"{pid} (qemu) S 1 7 7 0 -1 4194560 {minor} 0 {major} 0 {ticks} 0 0 0 20 0 5 0 {started} 1 {pages}\n"
        (self.root / "proc" / str(pid) / "stat").write_text(text)

    def group(self, path: str = SCOPE, *, used_us: int = 0, throttled_us: int | None = None, procs: str = "") -> None:
        folder = self.root / "sys/fs/cgroup" / path.lstrip("/")
        folder.mkdir(parents=True, exist_ok=True)
        for resource in ("memory", "cpu", "io"):
            (folder / f"{resource}.pressure").write_text(PRESSURE)
        throttled = "" if throttled_us is None else f"nr_throttled 3\nthrottled_usec {throttled_us}\n"
        (folder / "cpu.stat").write_text(f"usage_usec {used_us}\nuser_usec 1\n{throttled}")
        (folder / "cgroup.procs").write_text(procs)

    def huge_pages(self, mode: str = "always [madvise] never") -> None:
        folder = self.root / "sys/kernel/mm/transparent_hugepage"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "enabled").write_text(f"{mode}\n")

    def follow(self, *names: str, number: int = 1) -> None:
        self.side.follow((f"uuid-of-{name}", name, number) for name in names)

    @property
    def properties(self) -> dict[str, Value]:
        return self.side.properties("uuid-of-web")

    def in_huge_pages(self, *names: str) -> list[Value]:
        found = self.side.fields(dict.fromkeys(f"uuid-of-{name}" for name in names))
        return [found[f"uuid-of-{name}"].get("host_huge_pages") for name in names]

    def fields(self, name: str = "web", maximum: int | None = None) -> dict[str, object]:
        return dict(self.side.fields({f"uuid-of-{name}": maximum}).get(f"uuid-of-{name}", {}))


@pytest.fixture
def host(tmp_path: Path) -> HostFiles:
    return HostFiles(tmp_path)


def test_a_guests_process_and_group_are_read(host: HostFiles) -> None:
    host.process(4711)
    host.group(used_us=1_000_000, throttled_us=0)
    host.follow("web")
    assert host.properties == {"pid": 4711, "cgroups": {"": SCOPE}}
    first = host.fields()
    assert first == {
        "rss": 2 * mmap.PAGESIZE >> 10,
        "host_swap": 2048, "host_ksm_merged": 1024, "host_ksm_profit": 1024,
        "host_psi_memory_some_avg10": 12.34, "host_psi_memory_full_avg10": 5.0, "host_psi_cpu_some_avg10": 12.34,
        "host_psi_cpu_full_avg10": 5.0, "host_psi_io_some_avg10": 12.34, "host_psi_io_full_avg10": 5.0,
    }  # fmt: skip
    host.now += 5
    host.count(4711, minor=30, major=2, ticks=250)
    host.group(used_us=4_000_000, throttled_us=500_000)
    assert host.fields() == first | {
        "host_minor_faults": 30, "host_major_faults": 2, "host_cpu_usage": 50.0,
        "host_cgroup_cpu_usage": 60.0, "host_cgroup_throttled": 10.0,
    }  # fmt: skip


def test_a_number_that_another_process_has_now_is_not_the_guests(host: HostFiles) -> None:
    host.process(4711)
    host.follow("web")
    assert host.fields()
    host.now += 5
    host.count(4711, minor=999_999, started=100)
    assert host.fields() == {}
    (host.root / "proc/4711/cmdline").write_bytes(b"bash\0")
    host.follow("web")
    assert (host.fields(), host.properties) == ({}, {})


@pytest.mark.parametrize(
    ("group", "own"),
    [
        ("0::/machine/qemu-1-web.libvirt-qemu", {"": "/machine/qemu-1-web.libvirt-qemu"}),
        ("0::/machine/qemu-1-web.libvirt-qemu/libvirt/emulator", {"": "/machine/qemu-1-web.libvirt-qemu"}),
        ("4:cpu,cpuacct:/machine/qemu-1-web.libvirt-qemu/emulator\n1:name=systemd:/x\n0::/", {
            "cpu": "/machine/qemu-1-web.libvirt-qemu", "cpuacct": "/machine/qemu-1-web.libvirt-qemu",
        }),
        ("0::/system.slice/libvirtd.service", {}),
        ("0::/", {}),
        ("0::/../../machine/qemu-1-web.libvirt-qemu", {}),
        ("0::/alone", {"": "/alone"}),
        ("0::/crowd", {}),
        ("rubbish", {}),
    ],
)  # fmt: skip
def test_only_groups_that_are_the_guests_own_count(host: HostFiles, group: str, own: dict[str, str]) -> None:
    host.group("/alone", procs="4711\n")
    host.group("/crowd", procs="4711\n4712\n")
    host.process(4711, group=group)
    host.follow("web")
    assert host.properties == ({"pid": 4711, "cgroups": own} if own else {"pid": 4711})
    if not own:
        assert not any("psi" in name or "cgroup" in name for name in host.fields())


def test_of_many_guests_each_has_its_turn_and_faults_are_read_of_all(host: HostFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mom_kvm.host_side._IN_TURN", 3)
    names = [f"g{number}" for number in range(8)]
    for number, name in enumerate(names):
        host.process(1000 + number, name, group="0::/")
    host.follow(*names)
    uuids = dict.fromkeys(f"uuid-of-{name}" for name in names)
    assert all("host_swap" in fields for fields in host.side.fields(uuids).values()), "the first look is close for all"
    for number in range(8):
        (host.root / "proc" / str(1000 + number) / "status").write_text("Name:\tqemu\nVmSwap:\t     1 kB\n")
    seen = []
    for _ in range(3):
        host.now += 5
        fields = host.side.fields(uuids)
        assert all("host_minor_faults" in of_one for of_one in fields.values())
        seen.append(sum(of_one["host_swap"] == 1 for of_one in fields.values()))
    assert seen == [3, 6, 8]


@pytest.mark.parametrize(
    ("group", "folder", "stat", "kib"),
    [
        (f"0::{SCOPE}", SCOPE, "anon 8388608\nanon_thp 4194304\n", 4096),
        (f"0::{SCOPE}", SCOPE, "anon_thp 4194304\nfile_thp 9\nshmem_thp 2097152\n", 6144),
        (f"4:memory:{SCOPE}\n0::/", f"/memory{SCOPE}", "", 512),
        (f"0::{SCOPE}", SCOPE, "anon_thp many\n", 512),
        ("0::/", "/", "anon_thp 4194304\n", 512),
    ],
    ids=["unified", "shared memory", "not counted", "garbled", "not its own"],
)
def test_memory_in_huge_pages_is_counted_by_the_guests_group_or_in_the_tables_of_its_process(
    host: HostFiles, group: str, folder: str, stat: str, kib: int
) -> None:
    host.huge_pages()
    host.process(4711, group=group, huge=512)
    host.group(folder)
    (host.root / "sys/fs/cgroup" / folder.lstrip("/") / "memory.stat").write_text(stat)
    host.follow("web")
    assert host.fields()["host_huge_pages"] == kib


def test_walks_are_bounded_in_time_and_each_guest_has_its_turn(host: HostFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    host.huge_pages()
    names = [f"g{number}" for number in range(6)]
    for number, name in enumerate(names):
        host.process(1000 + number, name, group="0::/")
    clock = [0.0]

    def walk(folder: str) -> MappedMemory:
        clock[0] += 0.015
        return MappedMemory(512, 512, ())

    monkeypatch.setattr(MappedMemory, "of", walk)
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    host.follow(*names)
    known = []
    for seconds in (0, 5, 2, 7):
        host.now += seconds
        known.append(sum(kib is not None for kib in host.in_huge_pages(*names)))
    assert known == [2, 2, 4, 6], "two in a sample, and none for 6 s"


def test_memory_of_qemu_itself_is_measured_without_huge_pages_and_again_when_the_process_has_grown(host: HostFiles) -> None:
    folder = host.process(4711)
    (folder / "smaps").write_text(ram(1 << 20, 9000) + mapping(90_000, 30_000))
    host.follow("web")
    assert host.fields("web", 1 << 20)["host_qemu_overhead"] == 30_000
    (folder / "smaps").write_text(ram(1 << 20, 9000) + mapping(90_000, 90_000))
    host.count(4711, pages=10_000)
    host.now += 5
    assert host.fields("web", 1 << 20)["host_qemu_overhead"] == 90_000
    assert "host_qemu_overhead" not in host.fields("web", 2 << 20), "memory was plugged in since"


CONTAINER = (
    "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod17470c02_2435_410d_824b_5e7f833ec65a.slice/cri-containerd-c1.scope"
)
CGROUPFS = "/kubepods/burstable/pod17470c02-2435-410d-824b-5e7f833ec65a/0123456789abcdef"


@pytest.mark.parametrize("path", [CONTAINER, f"{CONTAINER}/container", CGROUPFS])
def test_a_container_of_a_pod_is_the_group_of_its_only_guest(host: HostFiles, path: str) -> None:
    host.process(4711, group=f"0::{path}")
    host.group(path, procs="1\n20\n4711\n4800\n")
    host.follow("web")
    assert host.properties["cgroups"] == {"": path}
    assert host.fields()["host_psi_memory_some_avg10"] == 12.34
    host.process(4800, "db", group=f"0::{path}")
    host.follow("web", "db")
    assert "host_psi_memory_some_avg10" not in host.fields(), "there are two guests in it"


def limited(host: HostFiles, path: str, most: str, used_mib: int, inactive_mib: int = 0) -> None:
    host.group(path, procs="4711\n")
    folder = host.root / "sys/fs/cgroup" / path.lstrip("/")
    (folder / "memory.max").write_text(f"{most}\n")
    (folder / "memory.current").write_text(f"{used_mib << 20}\n")
    (folder / "memory.stat").write_text(f"anon 1\ninactive_file {inactive_mib << 20}\nactive_file 77\n")


def test_what_the_tightest_of_its_groups_can_still_take_is_told(host: HostFiles) -> None:
    host.process(4711, group=f"0::{CONTAINER}")
    pod = CONTAINER.rpartition("/")[0]
    limited(host, CONTAINER, "max", 900)
    host.follow("web")
    assert "host_limit_room" not in host.fields(), "no group has a limit"
    limited(host, CONTAINER, str(2000 << 20), 900)
    limited(host, pod, str(1500 << 20), 1200, inactive_mib=100)
    limited(host, "/kubepods.slice", str(64 << 30), 1200)
    assert host.fields()["host_limit_room"] == 400 << 10
    limited(host, pod, str(1000 << 20), 1200)
    assert host.fields()["host_limit_room"] == 0


def test_room_that_a_guest_has_used_up_since_the_last_close_look_is_not_told(host: HostFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mom_kvm.host_side._IN_TURN", 4)
    names = [f"g{number}" for number in range(8)]
    for number, name in enumerate(names):
        host.process(1000 + number, name, group="0::/guests")
        host.count(1000 + number, pages=100 << 8)  # 4 KiB each
    limited(host, "/guests", str(1000 << 20), 400)
    host.follow(*names)
    uuids = dict.fromkeys(f"uuid-of-{name}" for name in names)
    assert host.side.fields(uuids)["uuid-of-g0"]["host_limit_room"] == 600 << 10
    host.count(1000, pages=350 << 8)
    host.count(1001, pages=900 << 8)
    host.count(1002, pages=60 << 8)
    found = host.side.fields(uuids)  # other guests' turn
    assert [found[f"uuid-of-g{number}"]["host_limit_room"] for number in range(4)] == [350 << 10, 0, 640 << 10, 600 << 10]


def test_from_within_a_container_groups_are_seen_where_the_hosts_are_mounted_into_it(host: HostFiles) -> None:
    inside = "31 24 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw"
    hosts = "40 24 0:28 /../.. /host/cgroup rw - cgroup2 cgroup2 rw"
    host.mount(inside)
    path = "/../.." + CGROUPFS
    host.process(4711, group=f"0::{path}")
    host.follow("web")
    assert host.properties == {"pid": 4711}, "its group is not seen from here"
    host.mount(inside, hosts)
    folder = host.root / "host/cgroup" / CGROUPFS.lstrip("/")
    folder.mkdir(parents=True)
    (folder / "cgroup.procs").write_text("20\n4711\n")
    (folder / "memory.pressure").write_text(PRESSURE)
    (folder / "memory.max").write_text(f"{1 << 30}\n")
    (folder / "memory.current").write_text(f"{1 << 29}\n")
    (folder.parent / "memory.max").write_text(f"{3 << 28}\n")
    (folder.parent / "memory.current").write_text(f"{1 << 29}\n")
    host.side = HostSide(host.found, host.root, lambda: host.now)
    host.follow("web")
    assert host.properties == {"pid": 4711, "cgroups": {"": path}}
    fields = host.fields()
    assert fields["host_psi_memory_some_avg10"] == 12.34
    assert fields["host_limit_room"] == 256 << 10
