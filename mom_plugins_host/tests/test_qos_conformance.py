"""The plugin against the conformance kit."""

from mom_devkit import ConformanceTests
from mom_plugins_host.qos import QosPlugin


class TestConformance(ConformanceTests):
    plugin = QosPlugin
    values = {
        "vcpu_quota": (50_000, 70_000),
        "vcpu_period": (50_000, 200_000),
        "cpu_shares": (512, 2048),
        "io_tune": ([{"name": "vda", "total_bytes_sec": 1 << 20}], [{"name": "vda", "total_bytes_sec": 2 << 20}]),
        "net_tune": ([{"name": "vnet0", "inbound": {"average": 100}}], [{"name": "vnet0", "inbound": {"average": 200}}]),
    }
