from .conformance import check_plugin as check_plugin
from .conformance.suite import ConformanceTests as ConformanceTests
from .controls import apply_decisions as apply_decisions, declared as declared, put_back as put_back
from .engines import config_of as config_of
from .hosts import host_of as host_of, mirror_host as mirror_host
from .hypervisors import FakeGuest as FakeGuest, FakeHypervisor as FakeHypervisor
from .patience import wait_until as wait_until
from .promises import FakePromises as FakePromises
from .runs import PluginRun as PluginRun, run_plugins as run_plugins

__version__: str
