"""For tests of plugins and policies: snapshots from plain values, hosts of files, a hypervisor of memory, and the conformance kit.

Names are imported when they are first used: pytest loads this package wherever mom is installed, and must not pay for it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

_WHERE = {
    "snapshots": ("snapshot",),
    "engines": ("config_of",),
    "hosts": ("host_of", "mirror_host"),
    "hypervisors": ("FakeGuest", "FakeHypervisor"),
    "runs": ("GuestRun", "Run", "run_plugins"),
    "conformance": ("check_plugin",),
    "conformance.suite": ("ConformanceTests",),
}
_MODULE_OF = {name: module for module, names in _WHERE.items() for name in names}

__all__ = [
    "ConformanceTests",
    "FakeGuest",
    "FakeHypervisor",
    "GuestRun",
    "Run",
    "check_plugin",
    "config_of",
    "host_of",
    "mirror_host",
    "run_plugins",
    "snapshot",
]

if TYPE_CHECKING:
    from mom_core.testing.conformance import check_plugin as check_plugin
    from mom_core.testing.conformance.suite import ConformanceTests as ConformanceTests
    from mom_core.testing.engines import config_of as config_of
    from mom_core.testing.hosts import host_of as host_of
    from mom_core.testing.hosts import mirror_host as mirror_host
    from mom_core.testing.hypervisors import FakeGuest as FakeGuest
    from mom_core.testing.hypervisors import FakeHypervisor as FakeHypervisor
    from mom_core.testing.runs import GuestRun as GuestRun
    from mom_core.testing.runs import Run as Run
    from mom_core.testing.runs import run_plugins as run_plugins
    from mom_core.testing.snapshots import snapshot as snapshot


def __getattr__(name: str) -> object:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'mom_core.testing' has no attribute {name!r}")
    value: object = getattr(import_module(f"mom_core.testing.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_MODULE_OF))
