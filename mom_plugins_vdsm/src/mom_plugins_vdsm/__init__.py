"""oVirt's vdsm as mom's hypervisor, the server that vdsm talks to, and the drop-in for the old daemon."""

from mom_plugins_vdsm.plugin import VdsmPlugin as VdsmPlugin
