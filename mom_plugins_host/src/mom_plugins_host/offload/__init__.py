"""Cold memory for mom: what guests hold and no longer touch goes to the host's compressed swap, at a pace that they do not feel."""

from mom_plugins_host.offload.plugin import OffloadPlugin as OffloadPlugin
