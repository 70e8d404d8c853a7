"""CPU, disk and network limits of guests for mom."""

from mom_plugins_qos.plugin import QosPlugin

__all__ = ["QosPlugin"]
__version__ = "0.1.0"
