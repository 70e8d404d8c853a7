"""What `mom status` says of the host's memory."""

from __future__ import annotations

from mom_core import Report
from mom_core.testing import snapshot
from mom_plugins_host.overview import host_parts


def test_what_is_known_of_memory_swap_and_pressure_is_said_and_nothing_else() -> None:
    taken = snapshot(host={"mem_available": 8 << 20, "mem_really_available": 4 << 20, "swap_usage": None, "psi_memory_some_avg10": 0.25})
    parts = host_parts(Report(1, taken.time, "enforce", taken, (), (), (), (), (), 0.01))
    assert [part.text for part in parts] == ["memory 8.00 GiB", "available 4.00 GiB", "memory pressure 0.2 %"]
