"""Plugins for the host's kernel: `host`, `cgroup`, `numa`, `qos`, `offload` and `oom`."""

from mom_plugins_host.capabilities import ColdMemoryControl as ColdMemoryControl
from mom_plugins_host.capabilities import CpuPinControl as CpuPinControl
from mom_plugins_host.capabilities import CpuTuneControl as CpuTuneControl
from mom_plugins_host.capabilities import GrowthControl as GrowthControl
from mom_plugins_host.capabilities import IoTuneControl as IoTuneControl
from mom_plugins_host.capabilities import NetTuneControl as NetTuneControl
from mom_plugins_host.capabilities import NodeTuneControl as NodeTuneControl
