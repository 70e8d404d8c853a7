"""What `mom advise` found, for OpenStack's placement: printed or written, never run."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from mom_plugins_record.advise.command import advise
from mom_plugins_record.advise.sold import PlacementAdvice, placement_of, script
from mom_plugins_sim.simulate.command import simulate

GIB = 1 << 20


@pytest.mark.parametrize(
    ("total", "promisable", "sold", "found"),
    [
        (64 * GIB, 60 * GIB, 90 * GIB, PlacementAdvice("kvm-07", 65_536, 4096, 92_160, 1.5)),
        (64 * GIB, 60.9995 * GIB, 90 * GIB, PlacementAdvice("kvm-07", 65_536, 3073, 92_160, 1.47)),
        (None, 60 * GIB, 90 * GIB, "no ratio for placement: the host's memory (host plugin) was not recorded"),
        (64 * GIB, None, 90 * GIB, "no ratio for placement: the memory that the host can promise (balloon plugin) was not recorded"),
        (64 * GIB, 0.0, 90 * GIB, "no ratio for placement: the host has no memory for guests"),
        (64 * GIB, 60 * GIB, 0.0, "no ratio for placement: there are no guests"),
    ],
)
def test_placement_ratio_excludes_the_hosts_reserve(
    total: float | None, promisable: float | None, sold: float, found: PlacementAdvice | str
) -> None:
    assert placement_of("kvm-07", total, promisable, sold) == found


@pytest.mark.processes
def test_script_calls_the_client_once_and_runs_no_injected_code(tmp_path: Path) -> None:
    client, asked = tmp_path / "openstack", tmp_path / "asked"
    client.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >> {asked}\n[ "$3" != list ] || echo 815a5634-86fb-4e1e-8824-8a631fee3e06\n')
    client.chmod(0o755)
    made = script(PlacementAdvice("kvm 07; rm -rf $HOME", 65_536, 4096, 92_160, 1.5), ["4 more fit\n$(touch oops)"])
    subprocess.run(
        ["/bin/sh"], input=made, text=True, env={"PATH": f"{tmp_path}:{os.environ['PATH']}"}, cwd=tmp_path, check=True, timeout=60
    )
    assert asked.read_text().splitlines() == [
        "resource provider list --name kvm 07; rm -rf $HOME -f value -c uuid",
        "resource provider inventory set --amend --resource MEMORY_MB:allocation_ratio=1.50 815a5634-86fb-4e1e-8824-8a631fee3e06",
    ]
    assert not (tmp_path / "oops").exists()
    assert "#   reserved_host_memory_mb = 4096" in made.splitlines()


DAY = """
title: A while
lasts: 10m
interval: 10s
host: {memory: 12GiB, swap: 1GiB}
guests:
  shop: {class: gold, count: 3, memory: 2GiB, workload: {constant: {use: 30%}}}
"""


@pytest.mark.long
def test_placement_is_written_to_a_file_or_as_json(tmp_path: Path) -> None:
    (tmp_path / "day.yaml").write_text(DAY)
    done = CliRunner().invoke(simulate, [str(tmp_path / "day.yaml"), "--record", str(tmp_path / "rec")])
    assert done.exit_code == 0, done.output
    arguments = [str(tmp_path / "rec"), "--class", "gold", "--memory", "2GiB", "--seeds", "1", "--most", "1"]

    def run(*more: str) -> str:
        done = CliRunner().invoke(advise, [*arguments, *more], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    # 12 GiB less 5 % are 11,673 MiB; three guests and one more are 8,192 MiB: what was tried is the least that fits.
    assert "MEMORY_MB:allocation_ratio=0.70" in run("--placement", "-")
    file = tmp_path / "placement.sh"
    assert str(file) in run("--placement", str(file))
    assert "MEMORY_MB:allocation_ratio=0.70" in file.read_text()
    assert "room for at least 1 more guest of class gold" in file.read_text()
    assert os.access(file, os.X_OK)
    placement = json.loads(run("--placement", "-", "--json"))["placement"]
    assert placement.pop("host")
    assert placement == {"total_mib": 12_288, "reserved_mib": 615, "sold_mib": 8192, "ratio": 0.7}
