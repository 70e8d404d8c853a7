"""What `mom status` shows of what the host should have, and guests' figures of promises."""

import pytest

from mom_core import Report, Value
from mom_core.testing import snapshot
from mom_plugins_balloon.explanation import host_parts
from mom_plugins_balloon.fields import COLUMNS

GIB = 1 << 20


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ({}, []),
        ({"mem_watermark_high": 5 * GIB, "host_memory_state": "soft"}, ["wanted 5.00 GiB (short of memory: soft)"]),
        ({"mem_reserved": GIB}, ["reserved for launches 1.00 GiB"]),
    ],
)
def test_status_shows_watermark_and_state(known: dict[str, Value], said: list[str]) -> None:
    taken = snapshot(host=known)
    assert [part.text for part in host_parts(Report(1, taken.time, "enforce", taken, (), (), (), (), (), 0.01))] == said


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({}, [None, None, None]),
        ({"guest_guarantee": GIB, "mem_promised": 2 * GIB}, [GIB, 2 * GIB, None]),
        ({"balloon_obstacle": "it is set aside"}, [None, None, "it is set aside"]),
    ],
)
def test_columns_show_guarantee_promise_and_obstacle(fields: dict[str, Value], shown: list[Value]) -> None:
    assert [column.value(fields) for column in COLUMNS] == shown
