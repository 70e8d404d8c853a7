"""CPU, disk and network limits of guests for mom."""

from mom_plugins_host.qos.plugin import QosPlugin as QosPlugin
