"""What `mom guests` shows of cold memory."""

from __future__ import annotations

from mom_plugins_offload.overview import COLUMNS


def test_cold_memory_stands_there_with_its_age_and_unknown_stays_unknown() -> None:
    (column,) = COLUMNS
    assert column.text({"cold": 512 << 10, "working_set_age": 30.0}) == "512 MiB, 30 s ago"
    assert column.text({"cold": 0, "working_set_age": 30.0}) == "0 KiB, 30 s ago"
    assert column.text({"cold": 512 << 10}) == "?"
    assert column.text({}) == "?"
