"""What `mom advise` found, for OpenStack's placement: printed or written, never run."""

import os
import subprocess
from pathlib import Path

import pytest

from mom_plugins_record.advise.sold import PlacementAdvice, script


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
