"""Fixture of the reference's section 1, and the form of values in its tables."""

from collections.abc import Sequence
from typing import Any

from mom_core import Guest, Host, Snapshot
from mom_core.testing import snapshot

LATE = "late"  # declared, but in no sample: here as nil in the older sample, which reads the same


def fixture() -> Snapshot:
    """Return a host with two samples, vm1 with two, vm2 with one."""
    disk = {"maximum": {"total_bytes_sec": 500, "read_bytes_sec": None}}
    return snapshot(
        host={"mem_free": 300, "mem_available": 1000, "cpu_count": 4, "swap_total": None},
        guests={
            "vm1": {"balloon_cur": 100, "balloon_max": 200, "os": "linux", "io_tune": [disk]},
            "vm2": {"balloon_cur": None, "balloon_max": 400, "os": "", "io_tune": None},
        },
        properties={"host": {"name": "h1", "interval": 5}, "vm1": {"uuid": "u1"}, "vm2": {"uuid": "u2"}},
        history=[
            {
                "host": {"mem_free": 100, "mem_available": 1000, "cpu_count": 4, "swap_total": 7, LATE: None},
                "guests": {"vm1": {"balloon_cur": 90, "balloon_max": 200, "os": "x", "io_tune": None}},
            }
        ],
    )


def shown(value: Any) -> str:
    """Return a value in the reference's form."""
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, list):
        return f"[{', '.join(map(shown, value))}]"
    if isinstance(value, Host):
        return "<Host>"
    if isinstance(value, Guest):
        return f"<{value.name}>"
    return "<function>" if callable(value) else repr(value)


def all_shown(values: Sequence[Any]) -> str:
    """Return the values of several forms in the reference's form."""
    return " ; ".join(map(shown, values))
