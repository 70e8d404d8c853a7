"""The plugin on a folder like a host, with missing and broken files, and on the real host."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mom_core import PluginContext, Problem, Severity
from mom_core.testing import snapshot
from mom_devkit import FakeHypervisor, host_of
from mom_plugins_host.host import HostPlugin

MEMINFO = """\
MemTotal: 1000 kB
MemFree: 100 kB
MemAvailable: 300 kB
Buffers: 10 kB
Cached: 200 kB
SwapTotal: 50 kB
SwapFree: 40 kB
"""
PRESSURE = "some avg10=2.18 avg60=0.97 avg300=0.29 total=41\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    files = {
        "proc/meminfo": MEMINFO,
        "proc/vmstat": "pswpin 10\npswpout 20\n",
        "proc/loadavg": "0.50 1.04 12.00 1/91 7255\n",
        **{f"proc/pressure/{resource}": PRESSURE for resource in ("memory", "cpu", "io")},
        "sys/devices/system/cpu/online": "0-3\n",
    }
    return host_of(tmp_path, files)


def plugin(root: Path, clock: Callable[[], float] = time.monotonic) -> HostPlugin:
    return HostPlugin(HostPlugin.Settings(), PluginContext(root=root, monotonic=clock))


@pytest.mark.parametrize(
    ("file", "gone"),
    [
        ("proc/meminfo", "mem_available"),
        ("proc/vmstat", "swap_in"),
        ("proc/loadavg", "load_1"),
        ("proc/pressure/memory", "psi_memory_some_avg10"),
        ("sys/devices/system/cpu/online", "cpu_count"),
    ],
)
@pytest.mark.parametrize("how", ["missing", "binary"])
def test_a_file_that_cannot_be_used_costs_only_its_own_fields(root: Path, file: str, gone: str, how: str) -> None:
    host = plugin(root)
    host.mom_collect_host()
    path = root / file
    path.unlink()
    if how == "binary":
        path.write_bytes(bytes(range(256)) * 50)
    fields = host.mom_collect_host()
    assert fields.get(gone) is None
    assert fields["psi_cpu_some_avg10"] == 2.18
    assert "time_hour" in fields


@pytest.mark.parametrize(
    ("file", "old", "new", "severity", "says"),
    [
        ("pressure/memory", "", "", Severity.WARNING, "psi=1"),
        ("meminfo", "", "", Severity.ERROR, "/proc/meminfo is readable"),
        ("meminfo", "MemAvailable", "MemSomething", Severity.ERROR, "3.14"),
        ("meminfo", "SwapTotal: 50 kB\nSwapFree: 40", "SwapTotal: 0 kB\nSwapFree: 0", Severity.WARNING, "'zram-size = ram / 2'"),
    ],
)
def test_the_doctor_says_what_is_missing_with_the_cure(root: Path, file: str, old: str, new: str, severity: Severity, says: str) -> None:
    path = root / "proc" / file
    text = path.read_text()
    path.unlink()
    if old:
        path.write_text(text.replace(old, new))
    worst = [finding for finding in plugin(root).mom_doctor(None) if finding.severity is severity]
    assert says in worst[0].cure


def test_the_doctor_says_nothing_of_this_hosts_swap_where_the_hypervisor_has_its_own(root: Path) -> None:
    class WithSwap(FakeHypervisor):
        swap_stores = offload_memory = lambda *_: ()

    assert "host swap" in {finding.subject for finding in plugin(root).mom_doctor(FakeHypervisor([]))}
    assert "host swap" not in {finding.subject for finding in plugin(root).mom_doctor(WithSwap([]))}


def test_what_policies_have_to_do_without_is_stated_every_cycle(root: Path) -> None:
    for resource in ("memory", "cpu", "io"):
        (root / "proc/pressure" / resource).unlink()
    host = plugin(root)
    (problem,) = host.mom_problems(snapshot(host=host.mom_collect_host()))
    assert isinstance(problem, Problem)
    assert (problem.severity, "psi=1" in problem.hint) == (Severity.WARNING, True)
