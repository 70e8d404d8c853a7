"""Other processes that hold the host's memory."""

import subprocess
import sys
from pathlib import Path

import pytest

from mom_core import Guest, Snapshot
from mom_core.testing import snapshot
from mom_devkit import host_of
from mom_plugins_host.host.readings import OtherProcesses, other_processes

GIB = 1 << 20
PAGES = GIB // 4


def proc_of(folder: Path, **processes: tuple[int, str]) -> Path:
    """Write processes `p1` and so on with these GiB of anonymous memory, and 1 GiB of mapped files each."""
    files = {}
    for pid, (gib, name) in processes.items():
        files[f"proc/{pid[1:]}/statm"] = f"9999999 {(gib + 1) * PAGES} {PAGES} 1 0 1 0\n"
        files[f"proc/{pid[1:]}/comm"] = f"{name}\n"
    return host_of(folder, files) / "proc"


def test_processes_of_one_name_count_together_and_guests_do_not(tmp_path: Path) -> None:
    proc = proc_of(tmp_path, p1=(0, "init"), p20=(3, "postgres"), p21=(2, "postgres"), p30=(4, "tar"), p40=(9, "qemu-kvm"))
    (proc / "50").mkdir()  # it has ended
    assert other_processes(proc, {40}) == {"mem_other_processes": 9 * GIB, "largest_processes": "postgres 5.00 GiB, tar 4.00 GiB"}


@pytest.mark.parametrize(("available", "hard", "short"), [(5, None, True), (15, None, False), (15, 10, True), (25, 10, False)])
def test_nobody_looks_while_the_host_has_enough(tmp_path: Path, available: int, hard: int | None, short: bool) -> None:
    seen = OtherProcesses()
    seen.update(of_host(available, hard), proc_of(tmp_path, p7=(1, "tar")))
    assert bool(seen.fields) is short


@pytest.mark.processes
def test_a_real_process_that_holds_memory_is_named_and_a_guest_is_not() -> None:
    held = "import sys; held = bytearray(b'x' * (150 << 20)); print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", held], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        everything, others = other_processes(Path("/proc"), ()), other_processes(Path("/proc"), {process.pid})
        process.communicate()
    assert int(str(everything["mem_other_processes"])) - int(str(others["mem_other_processes"])) > 100 << 10
    assert "python" in str(everything["largest_processes"])


def of_host(available: int, hard: int | None = None, monotonic: float = 0.0) -> Snapshot:
    figures = {"mem_available": 100, "mem_really_available": available, "mem_watermark_hard": hard}
    made = snapshot(host=figures)
    return Snapshot(made.host, {"g": Guest("g", "g", properties={"pid": 40})}, monotonic=monotonic)
