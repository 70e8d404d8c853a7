"""Conditions of a host whose processes wait for memory."""

import pytest

from mom_core import Severity, Value
from mom_plugins_host.host.plugin import conditions

GIB = 1 << 20


def fields(stalled: Value, available: Value) -> dict[str, Value]:
    return {"psi_memory_some_avg60": stalled, "mem_available": 62 * GIB, "mem_really_available": available}


@pytest.mark.parametrize("available", [0, None], ids=["full", "unknown"])
def test_waiting_on_a_full_host_is_an_error_and_so_it_is_where_what_is_available_is_unknown(available: Value) -> None:
    (condition,) = conditions(fields(99.6, available))
    assert (condition.name, condition.severity) == ("memory", Severity.ERROR)
    assert condition.message == "processes wait for memory 100 % of the time"


def test_waiting_on_a_host_with_plenty_is_a_control_group_at_its_limit() -> None:
    (condition,) = conditions(fields(80.0, 30 * GIB))
    assert (condition.name, condition.severity) == ("pressure", Severity.WARNING)
    assert "memory.max" in condition.why
    assert "30.00 GiB" in condition.why
