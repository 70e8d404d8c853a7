"""Plugin `qos`: CPU, disk and network limits of guests."""

from mom_plugins_host.qos.plugin import QosPlugin as QosPlugin
