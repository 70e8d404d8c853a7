"""Plugin `offload`: moves guests' cold memory to compressed swap, so slowly that guests do not notice."""

from mom_plugins_host.offload.plugin import OffloadPlugin as OffloadPlugin
