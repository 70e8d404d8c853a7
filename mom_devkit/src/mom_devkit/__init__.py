"""For authors of plugins: hosts of files, a hypervisor of memory, engines for tests, the conformance kit, and two verbs.

Names are imported when they are first used: pytest loads this package wherever it is installed, and must not pay for it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_WHERE = {
    "engines": ("config_of",),
    "hosts": ("host_of", "mirror_host"),
    "hypervisors": ("FakeGuest", "FakeHypervisor"),
    "promises": ("FakePromises",),
    "runs": ("GuestRun", "Run", "run_plugins"),
    "conformance": ("check_plugin",),
    "controls": ("apply_decisions", "put_back"),
    "conformance.suite": ("ConformanceTests",),
}
_MODULE_OF = {name: module for module, names in _WHERE.items() for name in names}

__all__ = [
    "ConformanceTests",
    "FakeGuest",
    "FakeHypervisor",
    "FakePromises",
    "GuestRun",
    "Run",
    "__version__",
    "apply_decisions",
    "check_plugin",
    "config_of",
    "host_of",
    "mirror_host",
    "put_back",
    "run_plugins",
]

if TYPE_CHECKING:
    from mom_devkit.conformance import check_plugin as check_plugin
    from mom_devkit.conformance.suite import ConformanceTests as ConformanceTests
    from mom_devkit.controls import apply_decisions as apply_decisions
    from mom_devkit.controls import put_back as put_back
    from mom_devkit.engines import config_of as config_of
    from mom_devkit.hosts import host_of as host_of
    from mom_devkit.hosts import mirror_host as mirror_host
    from mom_devkit.hypervisors import FakeGuest as FakeGuest
    from mom_devkit.hypervisors import FakeHypervisor as FakeHypervisor
    from mom_devkit.promises import FakePromises as FakePromises
    from mom_devkit.runs import GuestRun as GuestRun
    from mom_devkit.runs import Run as Run
    from mom_devkit.runs import run_plugins as run_plugins


def __getattr__(name: str) -> object:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'mom_devkit' has no attribute {name!r}")
    value: object = getattr(import_module(f"mom_devkit.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_MODULE_OF))
