"""The compressed swap that benchmarks and tests give the host for a while goes again, also when its process is killed."""

import os
import subprocess
import sys
from pathlib import Path

import host_swap
import pytest
from host_swap import CONTROL, compressed_swap, swaps
from real_guests import not_here

pytestmark = [pytest.mark.real, pytest.mark.alone]

KILLED = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(host_swap.__file__).parent)!r})
from host_swap import compressed_swap
with compressed_swap(16) as swap:
    print(swap.device, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_swap_that_a_killed_process_has_left_goes_when_the_next_is_made_and_that_of_a_living_one_stays() -> None:
    if os.geteuid() != 0 or not CONTROL.exists():
        not_here("root and a kernel with zram are needed")
    before = [*swaps()]
    with compressed_swap(16) as living:
        assert living is not None
        killed = subprocess.run([sys.executable, "-c", KILLED], check=False, capture_output=True, text=True, timeout=60).stdout.strip()
        assert killed in swaps(), "nobody has taken it away"
        with compressed_swap(16) as other:
            assert other is not None
            assert sorted(swaps()) == sorted([*before, living.device, other.device])
    assert [*swaps()] == before
