"""The plugin against the conformance kit."""

from mom_devkit import ConformanceTests
from mom_plugins_ksm import KsmPlugin

KSM = {
    "run": 0,
    "pages_to_scan": 100,
    "sleep_millisecs": 20,
    "merge_across_nodes": 1,
    "pages_shared": 0,
    "pages_sharing": 0,
    "full_scans": 0,
}


class TestConformance(ConformanceTests):
    plugin = KsmPlugin
    host = {f"sys/kernel/mm/ksm/{name}": f"{value}\n" for name, value in KSM.items()}
