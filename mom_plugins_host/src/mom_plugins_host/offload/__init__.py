"""Plugin `offload`: moves cold memory of guests to compressed swap, at a pace that guests do not notice."""

from mom_plugins_host.offload.plugin import OffloadPlugin as OffloadPlugin
