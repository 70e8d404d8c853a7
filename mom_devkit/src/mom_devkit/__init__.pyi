from .conformance import check_plugin as check_plugin
from .conformance.suite import ConformanceTests as ConformanceTests
from .controls import apply_decisions as apply_decisions, declared as declared, put_back as put_back
from .hosts import host_of as host_of
from .hypervisors import FakeGuest as FakeGuest, FakeHypervisor as FakeHypervisor
from .runs import (
    HandClock as HandClock,
    PluginRun as PluginRun,
    config_of as config_of,
    run_plugins as run_plugins,
    wait_until as wait_until,
)
