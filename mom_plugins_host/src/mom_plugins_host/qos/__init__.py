"""Plugin `qos`."""

from mom_plugins_host.qos.plugin import QosPlugin as QosPlugin
