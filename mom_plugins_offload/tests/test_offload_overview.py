"""What `mom guests` shows of cold memory, and what `mom doctor` says of a hypervisor that has swap of its own."""

from __future__ import annotations

from pathlib import Path

from offload_hosts import MovingHypervisor

from mom_plugins_offload.findings import findings
from mom_plugins_offload.overview import COLUMNS
from mom_toolkit import Hierarchies, StoreKind, SwapStore


def test_cold_memory_stands_there_with_its_age_and_unknown_stays_unknown() -> None:
    (column,) = COLUMNS
    assert column.text({"cold": 512 << 10, "working_set_age": 30.0}) == "512 MiB, 30 s ago"
    assert column.text({"cold": 0, "working_set_age": 30.0}) == "0 KiB, 30 s ago"
    assert column.text({"cold": 512 << 10}) == "?"
    assert column.text({}) == "?"


def test_the_legend_does_not_repeat_its_heading() -> None:
    (column,) = COLUMNS
    assert not column.legend.startswith(column.heading)


def test_no_command_for_this_host_is_advised_where_the_hypervisor_has_swap_of_its_own(tmp_path: Path) -> None:
    disk = SwapStore("/dev/sim1", StoreKind.DISK, 8 << 20, 8 << 20)
    for stores in ([disk], []):
        (found,) = findings(tmp_path, Hierarchies(tmp_path), MovingHypervisor([], stores))
        assert found.cure == ""
