"""Fields, controls and a default policy for KSM, the merging of equal pages by the kernel."""

from mom_plugins_ksm.plugin import KsmPlugin as KsmPlugin
