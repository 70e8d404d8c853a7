"""Settings of limits."""

from typing import Any

import pytest
from pydantic import ValidationError

from mom_core import DiskTune
from mom_plugins_host.qos.settings import QosGuestSettings

MIB = 1 << 20


def test_limits_are_written_with_their_units() -> None:
    settings = QosGuestSettings.model_validate(
        {
            "cpu_limit": "12.5%",
            "cpu_shares": 512,
            "io_limit": {"total_bytes_sec": "50MiB", "read_iops_sec": 100},
            "disk_limits": {"vdb": {"read_bytes_sec": "1MiB"}},
            "net_limit": {"inbound": {"average": "10MiB", "peak": "20MiB", "burst": "512KiB"}},
        }
    )
    assert settings.cpu_limit == 12.5
    none = dict.fromkeys(DiskTune.LIMITS, 0)
    assert settings.disk("vda") == {**none, "total_bytes_sec": 50 * MIB, "read_iops_sec": 100}
    assert settings.disk("vdb") == {"total_bytes_sec": 0, "read_bytes_sec": MIB, "write_bytes_sec": 0}
    assert settings.net_limit is not None
    assert settings.net_limit.direction("inbound") == {"average": 10240, "peak": 20480, "burst": 512}
    assert settings.net_limit.direction("outbound") == {}
    assert QosGuestSettings().disk("vda") == {}
    shown = settings.model_dump(mode="json")
    assert shown["cpu_limit"] == "12.5%"
    assert QosGuestSettings.model_validate(shown) == settings


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"cpu_limit": 50}, "must be a percentage, such as 50%"),
        ({"cpu_limit": "half%"}, "is not a number with a unit"),
        ({"cpu_limit": "150%"}, "is more than 100%"),
        ({"cpu_limit": "nan%"}, "is not a number with a unit"),
        ({"cpu_shares": 0}, "greater than or equal to 1"),
        ({"io_limit": {"total_bytes_sec": "1MiB", "read_bytes_sec": "1MiB"}}, "cannot be limited together"),
        ({"io_limit": {"total_iops_sec": 10**15 + 1}}, "less than or equal to 1000000000000000"),
        ({"net_limit": {"inbound": {"peak": "1MiB"}}}, "average"),
    ],
)
def test_impossible_limits_are_errors_with_the_reason(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        QosGuestSettings.model_validate(settings)
