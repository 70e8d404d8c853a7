"""Probes of a node's pod read mom's status, also after the clock was set."""

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

MOM_NODE = Path(__file__).parents[2] / "packaging/oci/mom-node"

HOUR = 3600.0


@pytest.mark.processes
@pytest.mark.parametrize(
    ("completed", "changed", "code"),
    [
        pytest.param(0.0, 0.0, 0, id="mom works"),
        pytest.param(HOUR, HOUR, 1, id="mom hangs"),
        pytest.param(HOUR, -HOUR, 1, id="mom hangs, and the clock was set back"),
        pytest.param(0.0, HOUR, 0, id="mom works, and the clock was set forward"),
        pytest.param(HOUR, 0.0, 0, id="mom works, and cannot write its status"),
    ],
)
def test_a_probe_goes_by_the_cycles_of_mom_and_not_by_the_clock(tmp_path: Path, completed: float, changed: float, code: int) -> None:
    """:param completed: seconds since the last cycle by the monotonic clock
    :param changed: seconds since then by the file's time
    """
    status = tmp_path / "status.json"
    status.write_text(json.dumps({"interval_seconds": 5.0, "monotonic_seconds": time.clock_gettime(time.CLOCK_BOOTTIME) - completed}))
    os.utime(status, (time.time() - changed,) * 2)
    (tmp_path / "state").write_text("running\n")
    environment = {**os.environ, "MOM_RUN": str(tmp_path), "MOM_OWN": str(tmp_path)}
    assert subprocess.run(["sh", str(MOM_NODE), "check"], env=environment, timeout=20, check=False).returncode == code
