"""Free memory that CPUs keep for themselves: what /proc/zoneinfo says of it, and when it is asked for."""

import logging
from pathlib import Path

import pytest

from mom_core import PluginContext
from mom_devkit import host_of
from mom_plugins_host.host.cpu_lists import CpuLists
from mom_plugins_host.host.watch import HostSettings, HostWatch

ZONE = """Node 0, zone   Normal
  pages free     5012345
        boost    0
        min      12000
  per-node stats
      nr_inactive_anon 1000
  pagesets
    cpu: 0
              count:    {first}
              high:     48000
              batch:    63
              high_min: 1444
              high_max: 48307
  vm stats threshold: 24
    cpu: 1
              count:    {second}
              high:     1444
              batch:    63
              high_min: 1444
              high_max: 48307
  vm stats threshold: 24
  node_unreclaimable:  0
  start_pfn:           1048576
"""


def host(root: Path, available_kib: int, zoneinfo: str, *, isolated: str = "\n") -> Path:
    files = {
        "proc/meminfo": f"MemTotal: 16777216 kB\nMemFree: {available_kib} kB\nMemAvailable: {available_kib} kB\n",
        "proc/zoneinfo": zoneinfo,
        "proc/sys/vm/stat_refresh": "",
        "sys/devices/system/cpu/isolated": isolated,
        "sys/devices/system/cpu/nohz_full": "(null)\n",
    }
    return host_of(root, files)


def emptied(root: Path, caplog: pytest.LogCaptureFixture, *, saw: tuple[int, int] | None = None, mode: str = "enforce") -> bool:
    """Return True if one look of the watch empties the lists. `saw`: available and total memory (KiB) of a simulated host."""
    caplog.set_level(logging.DEBUG)
    settings = HostSettings.model_validate({"watch_available": "1GiB"})
    watch = HostWatch(settings, PluginContext(root=root, configuration=lambda: {"mode": mode}), lambda: 100.0)
    if saw is not None:
        watch.update(*saw)
    watch.look()
    watch.lists.wait(60)
    return any("per-CPU lists held" in line for line in caplog.messages)


MANY = ZONE.format(first=40000, second=1000)


@pytest.mark.parametrize(
    ("available_kib", "zoneinfo", "asks"),
    [
        (1 << 20, MANY, True),
        (3 << 20, MANY, False),  # there is plenty
        (1 << 20, ZONE.format(first=9000, second=9000), False),  # less than 64 MiB
        (3 << 19, ZONE.format(first=10000, second=10000), False),  # less than 5 % of 1.5 GiB
    ],
)
def test_a_host_that_is_short_asks_for_much(tmp_path, caplog, available_kib, zoneinfo, asks):
    assert emptied(host(tmp_path, available_kib, zoneinfo), caplog) is asks


def test_mom_need_not_be_root_for_that(mom_open_folder, mom_power, caplog):
    root = host(mom_open_folder, 1 << 20, MANY)
    with mom_power(f"[knob {root}/proc/sys/vm/stat_refresh]\nvalues = 1\n"):
        assert CpuLists(root, logging.getLogger()).why_not() == ""
        assert emptied(root, caplog)
    assert (root / "proc/sys/vm/stat_refresh").read_text() == "1"


@pytest.mark.parametrize("why", ["mom must not disturb CPUs 2-5 (isolated)", "sys/vm/stat_refresh"])
def test_cpus_that_are_to_be_left_alone_and_a_kernel_that_cannot_be_asked_are(tmp_path, caplog, why):
    root = host(tmp_path, 1 << 20, MANY, isolated="2-5\n" if "isolated" in why else "\n")
    if "isolated" not in why:
        (root / "proc/sys/vm/stat_refresh").unlink()
    assert why in CpuLists(root, logging.getLogger()).why_not()
    assert not emptied(root, caplog)


@pytest.mark.parametrize("name", ["isolated", "nohz_full"])
def test_no_cpu_is_asked_while_it_cannot_be_read_which_are_to_be_left_alone(tmp_path, caplog, name):
    root = host(tmp_path, 1 << 20, MANY)
    (root / "sys/devices/system/cpu" / name).unlink()
    assert emptied(root, caplog), "a kernel that cannot leave CPUs alone has no such file"
    caplog.clear()
    (root / "sys/devices/system/cpu" / name).mkdir()
    assert f"cannot read the list of {name} CPUs" in CpuLists(root, logging.getLogger()).why_not()
    assert not emptied(root, caplog)


def test_a_mom_that_only_observes_asks_nobody(tmp_path, caplog):
    assert not emptied(host(tmp_path, 1 << 20, MANY), caplog, mode="observe")


def test_a_simulated_host_is_not_this_one(tmp_path, caplog):
    assert not emptied(host(tmp_path, 1 << 20, MANY), caplog, saw=(1 << 20, 1 << 30))
