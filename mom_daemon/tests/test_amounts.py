"""Values of controls in words."""

import pytest

from mom_core import Value
from mom_daemon import amount


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (
            [{"name": "vda", "path": "/a", "total_bytes_sec": 5, "read_bytes_sec": 0, "total_iops_sec": 7}],
            "vda: total_bytes_sec 5, total_iops_sec 7",
        ),
        ([{"name": "vnet0", "inbound": {"average": 5}, "outbound": {}}, {"name": "vnet1"}], "vnet0: inbound average 5; vnet1: none"),
        ([], "nothing"),
        (None, "unknown"),
    ],
)
def test_lists_are_shown_as_people_would_say_them(value: Value, shown: str) -> None:
    assert amount(value, "list") == shown
