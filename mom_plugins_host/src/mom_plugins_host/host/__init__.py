"""Plugin `host`: memory, swap, huge pages, CPU, load, pressure and time from /proc and /sys."""

from mom_plugins_host.host.plugin import HostPlugin as HostPlugin
