"""Decisions on disks and interfaces, completed and checked."""

import re
from typing import Any

import pytest

from mom_core import DiskTune, NetTune, Refused
from mom_plugins_host.qos.control import completed_disks, completed_interfaces, present_disks, present_interfaces

NONE = dict.fromkeys(DiskTune.LIMITS, 0)
DISKS = present_disks([DiskTune("vda", "/a", NONE), DiskTune("vdb", "/b", {**NONE, "read_bytes_sec": 7})])
NETS = present_interfaces([NetTune("vnet0", {"average": 5, "floor": 1}, {})])


def test_what_is_not_mentioned_or_nil_stays() -> None:
    wanted = completed_disks([{"path": "/b", "write_bytes_sec": 9.8, "read_bytes_sec": None}], DISKS)
    assert wanted == [{**DISKS[1], "write_bytes_sec": 9}]
    assert DISKS[1]["write_bytes_sec"] == 0, "what is shown is not changed"
    assert completed_disks([], DISKS) == []


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ({"name": "vdz", "total_bytes_sec": 1}, "there is no disk vdz; the guest has vda, vdb"),
        ({"total_bytes_sec": 1}, "there is no disk without a name"),
        ({"name": "vda", "speed": 1}, "speed is not a limit of a disk"),
        ({"name": "vda", "total_bytes_sec": "fast"}, "'fast' is not a number"),
        ({"name": "vda", "total_bytes_sec": True}, "True is not a number"),
        ({"name": "vda", "total_bytes_sec": -1}, "cannot be -1: the allowed range is 0 to 1000000000000000, 0 for no limit"),
        ({"name": "vda", "total_iops_sec": 10**15 + 1}, "range is 0 to 1000000000000000"),
        ({"name": "vda", "total_iops_sec": float("inf")}, "inf is not a number"),
        ({"name": "vdb", "total_bytes_sec": 1}, "total_bytes_sec cannot be limited together with read_bytes_sec"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(item: dict[str, Any], reason: str) -> None:
    with pytest.raises(Refused, match=re.escape(reason)):
        completed_disks([item], DISKS)


def test_directions_are_replaced_as_a_whole() -> None:
    assert completed_interfaces([{"name": "vnet0", "outbound": {"average": 3}}], NETS) == [
        {"name": "vnet0", "inbound": {"average": 5, "floor": 1}, "outbound": {"average": 3}}
    ]
    assert completed_interfaces([{"name": "vnet0", "inbound": {}}], NETS)[0]["inbound"] == {}


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ({"name": "vnet9"}, "no network interface vnet9; the guest has vnet0"),
        ({"name": "vnet0", "sideways": {}}, "sideways is not a direction"),
        ({"name": "vnet0", "inbound": 5}, "inbound is not a direction (inbound, outbound) with limits"),
        ({"name": "vnet0", "inbound": {"speed": 5}}, "speed is not an inbound limit"),
        ({"name": "vnet0", "outbound": {"floor": 5}}, "floor is not an outbound limit"),
        ({"name": "vnet0", "inbound": {"average": 0}}, "cannot be 0: the allowed range is 1 to 4294967295 KiB/s"),
        ({"name": "vnet0", "inbound": {"peak": 5}}, "need an average"),
    ],
)
def test_impossible_bandwidths_are_refused(item: dict[str, Any], reason: str) -> None:
    with pytest.raises(Refused, match=re.escape(reason)):
        completed_interfaces([item], NETS)
