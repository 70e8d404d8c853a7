"""Fields, controls and a default policy for KSM."""

from mom_plugins_ksm.plugin import KsmPlugin as KsmPlugin
